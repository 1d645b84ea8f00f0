package kv_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

const password = "GEHEIM"

// holders are all that a password may be printed in.
func holders() []any {
	s, u := kv.Secret(password), kv.RedisURL("redis://jo:"+password+"@h")
	type fields struct {
		S kv.Secret
		U kv.RedisURL
		P *kv.Secret
		A any
	}
	f := fields{s, u, &s, u}
	c := kv.RedisConfig{Password: s, URL: u}
	return []any{
		s, &s, u, &u, f, &f, c, &c, kv.Config{Redis: c},
		[]kv.Secret{s}, []kv.RedisURL{u}, []any{s, u}, [1]kv.Secret{s}, []fields{f},
		map[string]kv.Secret{"a": s}, map[kv.Secret]int{s: 1}, map[string]any{"a": f},
	}
}

// leaks returns the formats, of these verbs, that show the password.
func leaks(verbs string) (list []string) {
	shown := []string{password, fmt.Sprintf("%x", password), fmt.Sprintf("%X", password), fmt.Sprintf("% x", password)}
	for _, v := range holders() {
		for _, verb := range verbs {
			for _, flags := range []string{"", "+", "#", "-", "0", " ", "10", ".3", "5.1", "+#"} {
				text := fmt.Sprintf("%"+flags+string(verb), v)
				for _, part := range shown {
					if strings.Contains(text, part) {
						list = append(list, fmt.Sprintf("%T: %%%s%c", v, flags, verb))
					}
				}
			}
		}
	}
	return list
}

// A password is printed by no verb, in nothing that holds one, but for the two
// that fmt does not let a type see; the documentation says which.
func TestSecretsUnderEveryVerb(t *testing.T) {
	var all strings.Builder
	for verb := '!'; verb <= '~'; verb++ {
		if !strings.ContainsRune("%pw*[.0123456789+-#", verb) {
			all.WriteRune(verb)
		}
	}
	require.Empty(t, leaks(all.String()+"\u00e9"))
	require.NotEmpty(t, leaks("p"), "fmt asks now: say so in the documentation")
	require.NotEmpty(t, leaks("w"), "fmt asks now: say so in the documentation")
	for _, v := range holders() {
		require.NotContains(t, fmt.Sprint(v)+fmt.Sprintln(v)+slog.AnyValue(v).String(), password, "%T", v)
		require.NotContains(t, fmt.Errorf("%v", v).Error(), password) //nolint:err113 // What is tested.
		require.NotContains(t, fmt.Sprintf("%d", []any{v, v}), password)
		require.NotContains(t, fmt.Sprintf("%v", []any{"more", v}), password)
	}
}
