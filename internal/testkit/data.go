package testkit

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Data returns a file of the data that Python wrote.
func Data(t *testing.T, elem ...string) []byte {
	t.Helper()
	dir := os.Getenv("KV_TEST_DATA")
	if dir == "" {
		t.Skip("KV_TEST_DATA does not name the directory with Python's files")
	}
	text, err := os.ReadFile(filepath.Join(append([]string{dir}, elem...)...))
	require.NoError(t, err)
	return text
}

// Members reads a document file with encoding/json, in its order.
func Members(t *testing.T, text []byte) (ids []string, values map[string]json.RawMessage) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	_, err := dec.Token()
	require.NoError(t, err)
	values = make(map[string]json.RawMessage)
	for dec.More() {
		name, err := dec.Token()
		require.NoError(t, err)
		var value json.RawMessage
		require.NoError(t, dec.Decode(&value))
		id, _ := name.(string)
		ids = append(ids, id)
		values[id] = value
	}
	_, err = dec.Token()
	require.NoError(t, err)
	_, err = dec.Token()
	require.ErrorIs(t, err, io.EOF)
	return ids, values
}

// Compact is a JSON text without its white space.
func Compact(t *testing.T, value []byte) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, json.Compact(&b, value))
	return b.String()
}

// NamesIn lists a directory.
func NamesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// Sample copies a document file that Python wrote to a directory of its own.
func Sample(t *testing.T, file string) (dir, namespace string, text []byte) {
	t.Helper()
	text = Data(t, strings.Split(file, "/")...)
	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600))
	return dir, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "kv_store_"), ".json"), text
}
