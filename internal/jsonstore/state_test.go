package jsonstore

import (
	"encoding/json"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
)

// A look covers the document file, the times to live and every journal: their
// state the names, sizes and times, their digest the contents, and that of
// older records the names, sizes, times and ends.
func TestLook(t *testing.T) {
	dir, at := t.TempDir(), time.Now()
	names := fileNames("docs")
	write := func(name, text string) func() {
		return func() {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			require.NoError(t, os.Chtimes(path, at, at))
		}
	}
	middle := strings.Repeat("-", 1<<20)
	steps := map[string]func(){
		"0 nothing":        func() {},
		"1 another's":      write("kv_store_docs.more.json", "{}"),
		"2 document":       write(names.document(), "{a"+middle+"}"),
		"3 head":           write(names.document(), "{b"+middle+"}"),
		"4 tail":           write(names.document(), "{b"+middle+"]"),
		"5 size":           write(names.document(), "{b-"+middle+"]"),
		"6 time":           func() { at = at.Add(time.Second); write(names.document(), "{b-"+middle+"]")() },
		"7 journal":        write(names.journal(7), "x"),
		"8 second journal": write(names.journal(8), "x"),
		"9 its content":    write(names.journal(8), "y"),
		"A ttl":            write(names.ttl(), "x"),
		"B journals only":  func() { require.NoError(t, os.Remove(filepath.Join(dir, names.document()))) },
	}
	states, olds, digests := make(map[uint64]string), make(map[string]string), make(map[uint64]string)
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		steps[name]()
		l, err := LookAt(dir, "docs")
		require.NoError(t, err)
		require.Equal(t, name >= "2", l.There, name)
		if !l.There {
			continue
		}
		old, err := l.OldState()
		require.NoError(t, err)
		digest, err := l.Digest(t.Context())
		require.NoError(t, err)
		require.WithinDuration(t, at, l.Newest, time.Millisecond)
		require.False(t, l.Settled())
		require.Empty(t, olds[old], name)
		if name[0] != '6' {
			require.Empty(t, digests[digest], name)
		} else {
			require.Equal(t, "5 size", digests[digest], "a time is no content")
		}
		if !strings.Contains("3489", name[:1]) { // One time and one size: see Settled.
			require.Empty(t, states[l.State], name)
		}
		olds[old], digests[digest], states[l.State] = name, name, name
	}
	at = at.Add(-time.Hour)
	for _, name := range []string{names.journal(7), names.journal(8), names.ttl()} {
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), at, at))
	}
	l, err := LookAt(dir, "docs")
	require.NoError(t, err)
	require.True(t, l.Settled())
}

// A copy of the files is in another place and another state, and has the same
// content, which is how it is known.
func TestLookAtACopy(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kv_store_docs.json"), []byte(`{"a": 1}`), 0o600))
	l, err := LookAt(dir, "docs")
	require.NoError(t, err)
	require.NoError(t, os.CopyFS(elsewhere, os.DirFS(dir)))
	copied, err := LookAt(elsewhere, "docs")
	require.NoError(t, err)
	require.NotEqual(t, l.Place, copied.Place)
	require.NotEqual(t, l.State, copied.State)
	digest, err := l.Digest(t.Context())
	require.NoError(t, err)
	same, err := copied.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, digest, same, "a copy is known by its content")
}

// The longest time to live is the longest also when the clock goes back.
func TestLongestLifeAndAClockThatGoesBack(t *testing.T) {
	now := time.Now()
	ctx := WithClock(t.Context(), func() time.Time { return now })
	e, err := Open(ctx, Options{Dir: t.TempDir(), Namespace: "docs", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	s := enginetest.Wrap(e)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.UpsertTTL(t.Context(), map[string]json.RawMessage{"a": json.RawMessage("1")}, math.MaxInt64))
	now = now.Add(-time.Hour)
	ttl, err := s.TTL(t.Context(), "a")
	require.NoError(t, err)
	require.EqualValues(t, int64(math.MaxInt64), ttl)
}
