package kv

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv/internal/testkit"
)

// No goroutine is left when all tests are done. A server of redistest holds
// one until the end of its test, so nothing has to be ignored.
// A pool of go-redis that could not dial tries again in a goroutine, which ends
// up to a second after the pool was closed.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// fromMap is FromLookup of an environment that is a map.
func fromMap(vars map[string]string) (Config, error) {
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	var environ []string
	for name, value := range vars {
		environ = append(environ, name+"="+value)
	}
	return FromLookup(lookup, environ)
}

// redisCfg has a working directory without files that would be imported.
func redisCfg(url string) Config {
	return Config{Backend: "redis", WorkingDir: filepath.Join("testdata", "none"), Redis: RedisConfig{URL: RedisURL(url)}}
}

// openRedisStore opens a namespace that is closed with the test.
func openRedisStore(t *testing.T, cfg Config, namespace string, opts ...Option) *store {
	t.Helper()
	s, err := Open(t.Context(), cfg, namespace, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.(*store)
}

// listed returns the ids that Keys yields, sorted and with their repeats.
func listed(t *testing.T, s Store) []string {
	t.Helper()
	var ids []string
	for id, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func figures(t *testing.T, s *store) Stats {
	t.Helper()
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	return stats
}

// unknownOutcomes is how many calls ended so.
func unknownOutcomes(s Stats) (n int64) {
	for _, c := range s.Calls {
		n += c.Results["unknown_outcome"]
	}
	return n
}

// operations are all methods that talk to the server.
var operations = map[string]func(ctx context.Context, s *store) error{
	"get":     func(ctx context.Context, s *store) error { _, err := s.Get(ctx, "a"); return err },
	"getmany": func(ctx context.Context, s *store) error { _, err := s.GetMany(ctx, []string{"a", "b"}); return err },
	"missing": func(ctx context.Context, s *store) error { _, err := s.Missing(ctx, []string{"a", "b"}); return err },
	"keys": func(ctx context.Context, s *store) (err error) {
		for _, err = range s.Keys(ctx) {
		}
		return err
	},
	"upsert":    func(ctx context.Context, s *store) error { return s.Upsert(ctx, testkit.OneDoc) },
	"upsertttl": func(ctx context.Context, s *store) error { return s.UpsertTTL(ctx, testkit.OneDoc, time.Hour) },
	"insert":    func(ctx context.Context, s *store) error { _, err := s.Insert(ctx, testkit.OneDoc); return err },
	"delete":    func(ctx context.Context, s *store) error { _, err := s.Delete(ctx, "a"); return err },
	"drop":      func(ctx context.Context, s *store) error { return s.Drop(ctx) },
	"flush":     func(ctx context.Context, s *store) error { return s.Flush(ctx) },
	"ping":      func(ctx context.Context, s *store) error { return s.Ping(ctx) },
	"ttl":       func(ctx context.Context, s *store) error { _, err := s.TTL(ctx, "a"); return err },
}
