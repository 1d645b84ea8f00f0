package kv_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/testkit"
)

// What the tests of kvmove need, too.
var (
	testData = testkit.Data
	members  = testkit.Members
	compact  = testkit.Compact
	namesIn  = testkit.NamesIn
	sample   = testkit.Sample
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

// closeable opens a namespace that the test closes itself.
func closeable(t *testing.T, cfg kv.Config, namespace string) kv.Store {
	t.Helper()
	s, err := kv.Open(t.Context(), cfg, namespace, kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return s
}

func fileOf(t *testing.T, dir, namespace string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "kv_store_"+namespace+".json"))
	require.NoError(t, err)
	return text
}
