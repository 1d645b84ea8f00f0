//go:build unix

package kv

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/testkit"
)

// A fullDisk has no room.
type fullDisk struct{ fsys.FS }

func (fullDisk) Free() (int64, error) { return 0, nil }

// A jsonPatient is a namespace of files that something is done to.
type jsonPatient struct {
	t     *testing.T
	dir   string
	store *store
}

func newJSONPatient(t *testing.T, cfg Config) *jsonPatient {
	t.Helper()
	cfg.WorkingDir = filepath.Join(t.TempDir(), "private")
	require.NoError(t, os.Mkdir(cfg.WorkingDir, 0o700))
	p := &jsonPatient{t: t, dir: cfg.WorkingDir}
	p.write("kv_store_t.json", `{"`+planted+`": "`+planted+`"}`, 0o600)
	p.open(cfg)
	return p
}

func (p *jsonPatient) open(cfg Config, opts ...Option) {
	p.t.Helper()
	cfg.WorkingDir = p.dir
	s, err := Open(p.t.Context(), cfg, "t", append(opts, quietly())...)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = s.Close() })
	p.store = s.(*store)
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
		cfg  Config
		harm func(p *jsonPatient)
		want []string
	}{
		"good": {Config{}, func(p *jsonPatient) {}, nil},
		"no fsync": {Config{JSON: JSONConfig{Fsync: FsyncNo}}, func(*jsonPatient) {},
			[]string{"json-no-fsync"}},
		"no fsync, expiring": {Config{JSON: JSONConfig{Fsync: FsyncNo}, TTL: map[string]time.Duration{"t": time.Hour}}, func(*jsonPatient) {}, nil},
		"open directory": {Config{}, func(p *jsonPatient) { require.NoError(p.t, os.Chmod(p.dir, 0o755)) },
			[]string{"json-open-directory"}},
		"open file": {Config{}, func(p *jsonPatient) { require.NoError(p.t, os.Chmod(filepath.Join(p.dir, "kv_store_t.json"), 0o644)) },
			[]string{"json-open-files"}},
		"another's open file": {Config{}, func(p *jsonPatient) { p.write("kv_store_t2.json", "{}", 0o644) }, nil},
		"leftovers": {Config{}, func(p *jsonPatient) {
			p.write("kv_store_t.journal.7.torn", planted, 0o600)
			p.write("kv_store_t.json.damaged-20260101T000000.000", planted, 0o600)
		}, []string{"json-leftovers"}},
		"another's leftovers": {Config{}, func(p *jsonPatient) {
			p.write("kv_store_t.x.journal.7.torn", planted, 0o600)
			p.write("kv_store_t2.json.damaged-20260101T000000.000", planted, 0o600)
		}, nil},
		"changed": {Config{}, func(p *jsonPatient) { p.write("kv_store_t.json", `{}`, 0o600) }, []string{"json-changed"}},
		"removed": {Config{}, func(p *jsonPatient) { require.NoError(p.t, os.Remove(filepath.Join(p.dir, "kv_store_t.json"))) }, []string{"json-changed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newJSONPatient(t, tt.cfg)
			require.Empty(t, sound(t, leftOut(Check(t.Context(), p.store), "json-no-fsync")), "before")
			tt.harm(p)
			require.Equal(t, tt.want, orNil(found(t, wrappedStore{p.store})))
		})
	}
}

func leftOut(list []Finding, code string) (rest []Finding) {
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
	p := newJSONPatient(t, Config{})
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
	for _, opts := range [][]Option{{WithReadOnly()}, nil} {
		p.open(Config{}, opts...)
		list := Check(t.Context(), p.store)
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
	p := newJSONPatient(t, Config{})
	require.NoError(t, p.store.Close())
	p.open(Config{}, WithReadOnly())
	require.Empty(t, found(t, p.store))
	kill, pid := holder(t, p.dir)
	before := namesIn(t, p.dir)
	list := Check(t.Context(), p.store)
	require.Equal(t, []string{"json-in-use"}, sound(t, list))
	require.Contains(t, list[0].Text, fmt.Sprintf("pid %d ", pid))
	require.Equal(t, before, namesIn(t, p.dir))
	kill()
	require.Empty(t, found(t, p.store))
}

// A full disk is said when the namespace is opened.
func TestJSONOpenSaysFullDisk(t *testing.T) {
	dir, err := fsys.Open(t.TempDir(), false)
	require.NoError(t, err)
	e, err := jsonstore.Open(t.Context(), jsonstore.Options{Namespace: "t", Files: fullDisk{dir}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	book := new(testkit.LogBook)
	f, err := NewFactory(Config{}, WithLogger(book.Logger()))
	require.NoError(t, err)
	for range 2 {
		f.sayFindings(t.Context(), e, "t")
	}
	require.Equal(t, 1, strings.Count(book.Text(), "level=ERROR"))
	require.Contains(t, book.Text(), "code=json-disk-full")
	free, err := dir.Free()
	if runtime.GOOS == "linux" {
		require.NoError(t, err)
		require.Positive(t, free)
	}
	require.NoError(t, e.Close())
}
