package kv_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/testkit"
)

// A builtin has all that the stores of the built-in backends have.
type builtin interface {
	kv.Store
	kv.Pinger
	kv.Inserter
	kv.Expirer
	kv.Statser
	kv.Checker
}

// redisCfg has a working directory without files that would be imported.
func redisCfg(url string) kv.Config {
	return kv.Config{Backend: "redis", WorkingDir: filepath.Join("testdata", "none"), Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}
}

// openRedisStore opens a namespace that is closed with the test.
func openRedisStore(t *testing.T, cfg kv.Config, namespace string, opts ...kv.Option) builtin {
	t.Helper()
	s, err := kv.Open(t.Context(), cfg, namespace, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.(builtin)
}

// openDir opens a namespace of files.
func openDir(t *testing.T, dir, namespace string) builtin {
	t.Helper()
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: dir}, namespace)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s.(builtin)
}

// quietly keeps what is logged out of the output.
func quietly() kv.Option { return kv.WithLogger(new(testkit.LogBook).Logger()) }

// fromMap is FromLookup of an environment that is a map.
func fromMap(vars map[string]string) (kv.Config, error) {
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	var environ []string
	for name, value := range vars {
		environ = append(environ, name+"="+value)
	}
	return kv.FromLookup(lookup, environ)
}

// listed returns the ids that Keys yields, sorted and with their repeats.
func listed(t *testing.T, s kv.Store) []string {
	t.Helper()
	var ids []string
	for id, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func figures(t *testing.T, s kv.Statser) kv.Stats {
	t.Helper()
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	return stats
}

// testData returns a file of the data that Python wrote.
func testData(t *testing.T, elem ...string) []byte {
	t.Helper()
	dir := os.Getenv("KV_TEST_DATA")
	if dir == "" {
		t.Skip("KV_TEST_DATA does not name the directory with Python's files")
	}
	text, err := os.ReadFile(filepath.Join(append([]string{dir}, elem...)...))
	require.NoError(t, err)
	return text
}

// members reads a document file with encoding/json, in its order.
func members(t *testing.T, text []byte) (ids []string, values map[string]json.RawMessage) {
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

func compact(t *testing.T, value []byte) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, json.Compact(&b, value))
	return b.String()
}

// namesIn lists a directory.
func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
