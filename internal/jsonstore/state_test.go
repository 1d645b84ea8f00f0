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

// A state covers the document file, the times to live and every journal:
// their names, sizes, times and ends.
func TestStateOf(t *testing.T) {
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
	seen := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		steps[name]()
		state, err := StateOf(dir, "docs")
		require.NoError(t, err)
		if name < "2" {
			require.Empty(t, state, name)
			continue
		}
		require.NotEmpty(t, state, name)
		require.Empty(t, seen[state], name)
		seen[state] = name
	}
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
