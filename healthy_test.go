package kv_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// A silentStore is a store that is no Pinger, and that has an answer for Missing.
type silentStore struct {
	kv.Store
	err error
}

func (s silentStore) Missing(context.Context, []string) ([]string, error) { return nil, s.err }

// Healthy says what Ping says, through wrappers, too, and asks a store that
// has none for an id.
func TestHealthy(t *testing.T) {
	ctx := t.Context()
	s, err := kv.Open(ctx, kv.Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	require.NoError(t, kv.Healthy(ctx, wrappedStore{s}))
	over, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, kv.Healthy(over, s), context.Canceled)
	require.NoError(t, s.Close())
	require.ErrorIs(t, kv.Healthy(ctx, s), kv.ErrClosed)

	require.NoError(t, kv.Healthy(ctx, silentStore{}))
	require.ErrorIs(t, kv.Healthy(ctx, silentStore{err: kv.ErrUnavailable}), kv.ErrUnavailable)
	require.ErrorIs(t, kv.Healthy(ctx, pingedStore{silentStore{}, kv.ErrUnavailable}), kv.ErrUnavailable)
}

// A replica answers, and is no place for writes; for a store that is read-only
// it does. A server that is away or hangs is said to be, in time.
func TestHealthyRedis(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	master := redistest.Start(t)
	host, port, err := net.SplitHostPort(master.Addr)
	require.NoError(t, err)
	replica := redistest.Start(t, redistest.Arg("--replicaof", host, port))
	m := openRedisStore(t, redisCfg(master.URL()), "docs", quietly())
	r := openRedisStore(t, redisCfg(replica.URL()), "docs", quietly(), kv.WithReadOnly())
	w := openRedisStore(t, kv.Config{Backend: "redis", NoMigrate: true, Redis: redisCfg(replica.URL()).Redis}, "docs", quietly())
	require.NoError(t, kv.Healthy(ctx, m))
	require.NoError(t, kv.Healthy(ctx, r))
	err = kv.Healthy(ctx, w)
	require.ErrorIs(t, err, kv.ErrUnavailable)
	require.ErrorContains(t, err, "replica")

	master.ACL("narrow", "pass", "+@all", "-info", "~*", "&*")
	cfg := redisCfg(master.URL())
	cfg.Redis.Username, cfg.Redis.Password = "narrow", "pass"
	require.NoError(t, kv.Healthy(ctx, openRedisStore(t, cfg, "docs", quietly())), "a server that does not tell what it is")

	require.NoError(t, master.Client().Do(ctx, "client", "pause", "5000").Err())
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.ErrorIs(t, kv.Healthy(short, m), context.DeadlineExceeded)
	require.Less(t, time.Since(began), 50*time.Millisecond+testkit.Slack)
	master.Kill()
	require.ErrorIs(t, kv.Healthy(ctx, m), kv.ErrUnavailable)
}
