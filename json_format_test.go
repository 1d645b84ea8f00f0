package kv_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

// A directory written by Go and one written by Python are equal byte for byte
// for the same documents.
func TestJSONFileIsPythons(t *testing.T) {
	python := testData(t, "golden", "kv_store_golden.json")
	ids, values := members(t, python)
	require.Len(t, ids, 200)
	dir := t.TempDir()
	s := openDir(t, dir, "golden")
	for _, id := range ids { // One by one, since a batch is sorted.
		value := json.RawMessage(compact(t, values[id]))
		require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{id: value}))
	}
	require.NoError(t, s.Close())
	ours, err := os.ReadFile(filepath.Join(dir, "kv_store_golden.json"))
	require.NoError(t, err)
	require.Equal(t, string(python), string(ours))
}

// Every real file: opened, one value changed, closed. Only that value differs.
func TestJSONRealFiles(t *testing.T) {
	for _, namespace := range []string{"full_docs", "text_chunks", "community_reports", "llm_response_cache"} {
		t.Run(namespace, func(t *testing.T) {
			name := "kv_store_" + namespace + ".json"
			before := testData(t, "dickens", name)
			dir := t.TempDir()
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, before, 0o600))

			ids, values := members(t, before)
			s := openDir(t, dir, namespace)
			all, err := s.GetMany(t.Context(), ids)
			require.NoError(t, err)
			for i, id := range ids {
				require.Equal(t, compact(t, values[id]), compact(t, all[i]))
			}
			changed := ids[len(ids)/2]
			require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{changed: json.RawMessage(`{"changed":true}`)}))
			expires, err := s.TTL(t.Context(), changed)
			require.NoError(t, err)
			require.NoError(t, s.Close())

			after, err := os.ReadFile(path)
			require.NoError(t, err)
			old := string(values[changed])
			require.Equal(t, 1, strings.Count(string(before), old))
			require.Equal(t, strings.Replace(string(before), old, "{\n    \"changed\": true\n  }", 1), string(after))
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			files := 2 // The document file and the lock.
			if expires > 0 {
				files++
			}
			require.Len(t, entries, files)
		})
	}
}

// kv.go: white space does not count towards the limit of a value. A document
// file is laid out, and what was read from it can be written again.
func TestJSONWritesWhatItRead(t *testing.T) {
	const limit = 10_000
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir(), MaxValueBytes: limit}, "docs")
	require.NoError(t, err)
	value := json.RawMessage("[" + strings.Repeat("[1],", limit/4-1) + "[]]")
	require.Len(t, value, limit)
	for range 3 {
		require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{"a": value}))
		require.NoError(t, s.Flush(t.Context()))
		value, err = s.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Greater(t, len(value), limit)
	}
	over := append(bytes.Clone(value[:len(value)-1]), ", 1]"...)
	require.ErrorIs(t, s.Upsert(t.Context(), map[string]json.RawMessage{"a": over}), kv.ErrInvalid)
	require.NoError(t, s.Close())
}

// An id that Python wrote and that is longer than ours may be is listed, and
// so it can be read and removed.
func TestJSONLongIDsOfOthers(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	long := strings.Repeat("i", 64<<10+1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kv_store_docs.json"), []byte(`{"`+long+`": 1, "a": 2}`), 0o600))
	s := openDir(t, dir, "docs")
	for id, err := range s.Keys(ctx) {
		require.NoError(t, err)
		_, err = s.Get(ctx, id)
		require.NoError(t, err)
	}
	values, err := s.GetMany(ctx, []string{"a", long})
	require.NoError(t, err)
	require.Equal(t, []json.RawMessage{json.RawMessage("2"), json.RawMessage("1")}, values)
	missing, err := s.Missing(ctx, []string{long})
	require.NoError(t, err)
	require.Empty(t, missing)
	_, err = s.TTL(ctx, long)
	require.NoError(t, err)
	require.ErrorIs(t, s.Upsert(ctx, map[string]json.RawMessage{long: json.RawMessage("1")}), kv.ErrInvalid)
	_, err = s.Delete(ctx, "a", long, long+"i")
	require.ErrorIs(t, err, kv.ErrInvalid, "this one is not there")
	n, err := s.Delete(ctx, "a", long)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	_, err = s.Get(ctx, long)
	require.ErrorIs(t, err, kv.ErrInvalid)
	require.NoError(t, s.Close())
}

// Values that are not JSON keep their bytes and do not take the rest down.
func TestJSONForeignValues(t *testing.T) {
	odd := testData(t, "golden", "kv_store_odd.json")
	dir := t.TempDir()
	path := filepath.Join(dir, "kv_store_odd.json")
	require.NoError(t, os.WriteFile(path, odd, 0o600))
	s := openDir(t, dir, "odd")
	ctx := context.Background()
	for _, id := range []string{"nan", "inf"} {
		_, err := s.Get(ctx, id)
		require.ErrorIs(t, err, kv.ErrCorrupt)
	}
	value, err := s.Get(ctx, "after")
	require.NoError(t, err)
	require.Equal(t, `"still readable"`, string(value))
	require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"new": json.RawMessage(`1`)}))
	require.NoError(t, s.Close())
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.TrimSuffix(string(odd), "\n}")+",\n  \"new\": 1\n}", string(after))
}
