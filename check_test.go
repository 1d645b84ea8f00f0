package kv_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

// All n_ files of nst/JSONTestSuite are refused, all y_ files are accepted and
// returned equal. KV_TEST_JSON_SUITE names its directory test_parsing.
func TestJSONTestSuite(t *testing.T) {
	dir := os.Getenv("KV_TEST_JSON_SUITE")
	if dir == "" {
		t.Skip("KV_TEST_JSON_SUITE does not name the directory test_parsing of nst/JSONTestSuite")
	}
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	defer s.Close()
	names, err := filepath.Glob(filepath.Join(dir, "[ny]_*.json"))
	require.NoError(t, err)
	require.Greater(t, len(names), 200)
	for _, name := range names {
		value, err := os.ReadFile(name)
		require.NoError(t, err)
		id := filepath.Base(name)
		err = s.Upsert(t.Context(), map[string]json.RawMessage{id: value})
		if id[0] == 'n' {
			require.ErrorIs(t, err, kv.ErrInvalid, id)
			continue
		}
		require.NoError(t, err, id)
	}
	require.NoError(t, s.Flush(t.Context()))
	for _, name := range names {
		id := filepath.Base(name)
		got, err := s.Get(t.Context(), id)
		if id[0] == 'n' {
			require.ErrorIs(t, err, kv.ErrNotFound, id)
			continue
		}
		require.NoError(t, err, id)
		value, err := os.ReadFile(name)
		require.NoError(t, err)
		var want, have bytes.Buffer
		require.NoError(t, json.Compact(&want, value))
		require.NoError(t, json.Compact(&have, got))
		require.Equal(t, want.String(), have.String(), id)
	}
}
