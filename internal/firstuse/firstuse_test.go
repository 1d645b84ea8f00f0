package firstuse

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv/internal/jsonstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A file that says more than a time.Duration can hold gives the longest time
// to live.
func TestLongestLifeOfFiles(t *testing.T) {
	now := time.Now().UnixMilli()
	r := &importRun{importer: &importer{Options: Options{MaxValue: 10}}}
	for _, expires := range []int64{now + math.MaxInt64/int64(time.Millisecond) + 1000, math.MaxInt64} {
		items := r.take([]jsonstore.SourceDoc{{ID: "a", Value: json.RawMessage("1"), Expires: expires}}, now, new(imported))
		require.Len(t, items, 1)
		require.Greater(t, items[0].TTL, 290*365*24*time.Hour)
	}
}

// A token says which process has the lease.
func TestHolder(t *testing.T) {
	pid, host := readHolder(newImporter(Options{}).token)
	require.Equal(t, fmt.Sprint(os.Getpid()), pid)
	require.NotEmpty(t, host)
}

// A record remembers the newest states of files, and forgets what was under
// way when it is complete.
func TestRecordRemembers(t *testing.T) {
	r := importRecord{Version: importVersion, Partial: &imported{State: "0"}}
	for i := range importStates + 4 {
		r = r.add(imported{State: fmt.Sprint(i)})
	}
	require.Nil(t, r.Partial)
	require.Len(t, r.Imports, importStates)
	require.False(t, r.knows("3"))
	require.True(t, r.knows("4"))
	require.True(t, r.knows(fmt.Sprint(importStates+3)))
}

// A resumed import begins anew if what was imported is not what the files
// begin with. Both ways of reading the files agree about that, and about all
// that is in them.
func TestSources(t *testing.T) {
	dir := t.TempDir()
	read := func(namespace, text string, done int) (jsonstore.Source, []jsonstore.SourceDoc) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "kv_store_"+namespace+".json"), []byte(text), 0o600))
		src, err := jsonstore.OpenSource(t.Context(), dir, namespace, done)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, src.Close()) })
		var docs []jsonstore.SourceDoc
		for part, err := range src.Parts(t.Context(), done) {
			require.NoError(t, err)
			docs = append(docs, part...)
		}
		return src, docs
	}
	text := `{"c": 3, "a": {"x" :1}, "b é": [NaN]}`
	for done := range 4 {
		stream, streamed := read("streamed", text, done)
		require.IsType(t, &jsonstore.StreamSource{}, stream)
		index, indexed := read("indexed", `{"c": 3,`+text[1:], done)
		require.IsType(t, jsonstore.IndexSource{}, index)
		require.Equal(t, indexed, streamed)
		require.Len(t, streamed, 3-done)
		require.Equal(t, 3, stream.Places())
		partial := imported{Position: done, Check: index.Check(done)}
		require.Equal(t, partial, resume(partial, stream))
		partial.Check++
		require.Zero(t, resume(partial, stream).Position)
		partial.Position = 4
		require.Zero(t, resume(partial, stream).Position)
	}
	repeated, docs := read("streamed", `{"a": 1, "b": 2, "a": 3}`, 0)
	require.IsType(t, jsonstore.IndexSource{}, repeated)
	require.Equal(t, "3", string(docs[0].Value), "the last of each id counts, as in Python")
	require.Len(t, docs, 2)
}
