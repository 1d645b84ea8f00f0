package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/kvllm"
)

// askedStore has two answers of kvllm, one of them aged, one of Python, and a
// document that is none. It returns the ids of the two.
func askedStore(t *testing.T, s shell) (fresh, aged string) {
	cfg, err := kv.FromLookup(func(name string) (string, bool) {
		for _, v := range s.env {
			if text, ok := strings.CutPrefix(v, name+"="); ok {
				return text, true
			}
		}
		return "", false
	}, s.env)
	require.NoError(t, err)
	store, err := kv.Open(t.Context(), cfg, "llm_response_cache", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	p := llmtest.New(t)
	next := &http.Transport{}
	defer next.CloseIdleConnections()
	c := kvllm.Client(store, next)
	seen := make(map[string]bool)
	ask := func(body string) (id string) {
		resp, err := c.Post(p.URL+"/v1/chat/completions", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		for key, err := range store.Keys(t.Context()) {
			require.NoError(t, err)
			if !seen[key] {
				seen[key], id = true, key
			}
		}
		return id
	}
	fresh = ask(`{"model":"new","stream":true,"messages":[{"role":"user","content":"How does\u001b\nit begin?"}]}`)
	aged = ask(`{"model":"old","messages":[{"role":"user","content":"And then?"}]}`)
	doc, err := store.Get(t.Context(), aged)
	require.NoError(t, err)
	a, err := kvllm.ParseAnswer(doc)
	require.NoError(t, err)
	when, err := a.Time.MarshalText()
	require.NoError(t, err)
	before, err := time.Now().UTC().Add(-72 * time.Hour).Truncate(time.Second).MarshalText()
	require.NoError(t, err)
	text := strings.Replace(string(doc), string(when), string(before), 1)
	require.NotEqual(t, string(doc), text)
	require.NoError(t, store.Upsert(t.Context(), map[string]json.RawMessage{
		aged: json.RawMessage(text), "python": json.RawMessage(`{"return":"oui","model":"old"}`), "else": json.RawMessage(`7`),
	}))
	return fresh, aged
}

// kv llm lists, shows, counts and removes answers, by model and age.
func TestLLM(t *testing.T) {
	each(t, func(t *testing.T, s shell) {
		fresh, aged := askedStore(t, s)
		const note = "kv: note: 1 documents of llm_response_cache are no answers\n"
		r := s.run("llm", "ls")
		require.Equal(t, note, r.err)
		lines := strings.Split(strings.TrimRight(r.out, "\n"), "\n")
		require.Len(t, lines, 4)
		for i, want := range [][]string{
			{"ID", "MODEL", "AGE", "IN", "OUT", "QUESTION"},
			{fresh, "new", "0s", "12", "7", "How", "does"},
			{aged, "old", "3d", "12", "7", "And", "then?"},
			{"python", "old", "-", "0", "0"},
		} {
			got := strings.Fields(lines[i])
			if i == 1 {
				got[2] = "0s" // The machine may be slow.
			}
			require.Equal(t, want, got)
		}
		ids := func(args ...string) (list []string) {
			r := s.run(append([]string{"llm", "ls", "--json"}, args...)...)
			require.Zero(t, r.code)
			for line := range strings.Lines(r.out) {
				var l struct{ ID, Model string }
				require.NoError(t, json.Unmarshal([]byte(line), &l))
				list = append(list, l.ID)
			}
			return list
		}
		require.Equal(t, []string{fresh, aged, "python"}, ids())
		require.Equal(t, []string{aged, "python"}, ids("--model=old"))
		require.Equal(t, []string{aged}, ids("--older=48h"))
		require.Equal(t, []string{fresh}, ids("--newer=48h"))
		require.Empty(t, ids("--newer=48h", "--model=old"))

		require.Contains(t, s.ok("llm", "show", fresh), "So it goes")
		require.Equal(t, "oui\n", s.ok("llm", "show", "python"))
		require.True(t, strings.HasSuffix(s.ok("llm", "show", fresh, "--body"), "data: [DONE]\n\n"))
		s.fails(exitNothing, `has no document "nobody"`, "llm", "show", "nobody")
		s.fails(exitCorrupt, "no answer of a model", "llm", "show", "else")

		r = s.run("llm", "stats")
		require.Equal(t, note, r.err)
		require.Regexp(t, `(?s)^OPERATION .*\nchat +new +1 +.*B +12 +7 .*\nchat +old +2 +.*B +12 +7 +3d\n$`, r.out)

		s.fails(exitInvalid, "say which answers", "llm", "rm")
		s.fails(exitInvalid, "say which answers", "llm", "rm", "python", "--model=old")
		require.Equal(t, "1\n", s.ok("llm", "rm", "--older", "48h"))
		require.Equal(t, "1\n", s.ok("llm", "rm", "--model", "old"))
		require.Equal(t, "1\n", s.ok("llm", "rm", fresh))
		require.Equal(t, exitNothing, s.run("llm", "rm", "--model", "old").code)
		require.Equal(t, "7\n", s.ok("get", "llm_response_cache", "else"), "what is no answer stays")
	})
}

// Of nothing there is nothing to list.
func TestLLMOfNothing(t *testing.T) {
	s := jsonShell(t)
	s.write("kv_store_llm_response_cache.json", "{}")
	require.Empty(t, s.ok("llm", "ls"))
	require.Empty(t, s.ok("llm", "stats"))
}
