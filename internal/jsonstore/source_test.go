package jsonstore

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/engine"
)

// Both ways of reading files agree about all that is in them; an id that comes
// twice is announced, and has its last value, as in Python.
func TestSources(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	read := func(text string, indexed bool) []engine.Stored {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "kv_store_docs.json"), []byte(text), 0o600))
		src, err := OpenSource(t.Context(), dir, "docs", indexed, false)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, src.Close()) })
		require.Equal(t, !indexed, src.Repeats())
		var docs []engine.Stored
		for part, err := range src.Documents(t.Context()) {
			require.NoError(t, err)
			for _, d := range part {
				d.Value = slices.Clone(d.Value)
				docs = append(docs, d)
			}
		}
		return docs
	}
	text := `{"c": 3, "a": {"x" :1}, "b é": [NaN]}`
	streamed := read(text, false)
	require.Equal(t, read(text, true), streamed)
	require.Len(t, streamed, 3)
	require.True(t, streamed[2].Foreign)
	require.JSONEq(t, `{"x":1}`, string(streamed[1].Value))
	repeated := read(`{"a": 1, "b": 2, "a": 3}`, true)
	require.Len(t, repeated, 2)
	require.Equal(t, "3", string(repeated[0].Value))
}
