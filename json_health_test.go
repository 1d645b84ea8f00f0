//go:build unix

package kv_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

// A jsonPatient is a namespace of files that something is done to.
type jsonPatient struct {
	t     *testing.T
	dir   string
	store builtin
}

func newJSONPatient(t *testing.T, cfg kv.Config) *jsonPatient {
	t.Helper()
	cfg.WorkingDir = filepath.Join(t.TempDir(), "private")
	require.NoError(t, os.Mkdir(cfg.WorkingDir, 0o700))
	p := &jsonPatient{t: t, dir: cfg.WorkingDir}
	p.write("kv_store_t.json", `{"`+planted+`": "`+planted+`"}`, 0o600)
	p.open(cfg)
	return p
}

func (p *jsonPatient) open(cfg kv.Config, opts ...kv.Option) {
	p.t.Helper()
	cfg.WorkingDir = p.dir
	s, err := kv.Open(p.t.Context(), cfg, "t", append(opts, quietly())...)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = s.Close() })
	p.store = s.(builtin)
}

func (p *jsonPatient) write(name, text string, mode os.FileMode) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	require.NoError(p.t, os.WriteFile(path, []byte(text), mode))
	require.NoError(p.t, os.Chmod(path, mode))
}

// What is done to files, and what Check says of it.
func TestJSONCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  kv.Config
		harm func(p *jsonPatient)
		want []string
	}{
		"good": {kv.Config{}, func(p *jsonPatient) {}, nil},
		"no fsync": {kv.Config{JSON: kv.JSONConfig{Fsync: kv.FsyncNo}}, func(*jsonPatient) {},
			[]string{"json-no-fsync"}},
		"no fsync, expiring": {kv.Config{JSON: kv.JSONConfig{Fsync: kv.FsyncNo}, TTL: map[string]time.Duration{"t": time.Hour}}, func(*jsonPatient) {}, nil},
		"open directory": {kv.Config{}, func(p *jsonPatient) { require.NoError(p.t, os.Chmod(p.dir, 0o755)) },
			[]string{"json-open-directory"}},
		"open file": {kv.Config{}, func(p *jsonPatient) { require.NoError(p.t, os.Chmod(filepath.Join(p.dir, "kv_store_t.json"), 0o644)) },
			[]string{"json-open-files"}},
		"another's open file": {kv.Config{}, func(p *jsonPatient) { p.write("kv_store_t2.json", "{}", 0o644) }, nil},
		"leftovers": {kv.Config{}, func(p *jsonPatient) {
			p.write("kv_store_t.journal.7.torn", planted, 0o600)
			p.write("kv_store_t.json.damaged-20260101T000000.000", planted, 0o600)
		}, []string{"json-leftovers"}},
		"another's leftovers": {kv.Config{}, func(p *jsonPatient) {
			p.write("kv_store_t.x.journal.7.torn", planted, 0o600)
			p.write("kv_store_t2.json.damaged-20260101T000000.000", planted, 0o600)
		}, nil},
		"changed": {kv.Config{}, func(p *jsonPatient) { p.write("kv_store_t.json", `{}`, 0o600) }, []string{"json-changed"}},
		"removed": {kv.Config{}, func(p *jsonPatient) { require.NoError(p.t, os.Remove(filepath.Join(p.dir, "kv_store_t.json"))) }, []string{"json-changed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newJSONPatient(t, tt.cfg)
			require.Empty(t, sound(t, leftOut(kv.Check(t.Context(), p.store), "json-no-fsync")), "before")
			tt.harm(p)
			require.Equal(t, tt.want, orNil(found(t, wrappedStore{p.store})))
		})
	}
}

func leftOut(list []kv.Finding, code string) (rest []kv.Finding) {
	for _, f := range list {
		if f.Code != code {
			rest = append(rest, f)
		}
	}
	return rest
}

// Values that are not JSON are counted, in a document file of many, by one
// who reads while nobody has the lock.
func TestJSONCheckForeignValues(t *testing.T) {
	t.Parallel()
	p := newJSONPatient(t, kv.Config{})
	require.NoError(t, p.store.Close())
	var text strings.Builder
	for i := range 3 * 1024 {
		value := "1"
		if i%1000 == 999 {
			value = "NaN"
		}
		fmt.Fprintf(&text, `,"%s%d": %s`, planted, i, value)
	}
	p.write("kv_store_t.json", "{"+text.String()[1:]+"}", 0o600)
	for _, opts := range [][]kv.Option{{kv.WithReadOnly()}, nil} {
		p.open(kv.Config{}, opts...)
		list := kv.Check(t.Context(), p.store)
		require.Equal(t, []string{"json-foreign-values"}, sound(t, list))
		require.Contains(t, list[0].Text, ": 3 of them")
		require.Equal(t, p.dir, list[0].Where)
	}
}

// One who only reads is told who has the namespace, and takes nothing from
// him: the lock stays the holder's, and nobody who starts is in the way.
func TestJSONCheckInUse(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can say who has a lock without taking it")
	}
	p := newJSONPatient(t, kv.Config{})
	require.NoError(t, p.store.Close())
	p.open(kv.Config{}, kv.WithReadOnly())
	require.Empty(t, found(t, p.store))
	kill, pid := holder(t, p.dir)
	before := namesIn(t, p.dir)
	list := kv.Check(t.Context(), p.store)
	require.Equal(t, []string{"json-in-use"}, sound(t, list))
	require.Contains(t, list[0].Text, fmt.Sprintf("pid %d ", pid))
	require.Equal(t, before, namesIn(t, p.dir))
	kill()
	require.Empty(t, found(t, p.store))
}
