package kv

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// A silentStore is a store that is no Pinger, and that has an answer for Missing.
type silentStore struct {
	Store
	err error
}

func (s silentStore) Missing(context.Context, []string) ([]string, error) { return nil, s.err }

// Healthy says what Ping says, through wrappers, too, and asks a store that
// has none for an id.
func TestHealthy(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	require.NoError(t, Healthy(ctx, wrappedStore{s}))
	over, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, Healthy(over, s), context.Canceled)
	require.NoError(t, s.Close())
	require.ErrorIs(t, Healthy(ctx, s), ErrClosed)

	require.NoError(t, Healthy(ctx, silentStore{}))
	require.ErrorIs(t, Healthy(ctx, silentStore{err: ErrUnavailable}), ErrUnavailable)
	require.ErrorIs(t, Healthy(ctx, pingedStore{silentStore{}, ErrUnavailable}), ErrUnavailable)
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
	r := openRedisStore(t, redisCfg(replica.URL()), "docs", quietly(), WithReadOnly())
	w := openRedisStore(t, Config{Backend: "redis", NoMigrate: true, Redis: redisCfg(replica.URL()).Redis}, "docs", quietly())
	require.NoError(t, Healthy(ctx, m))
	require.NoError(t, Healthy(ctx, r))
	err = Healthy(ctx, w)
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, "replica")

	master.ACL("narrow", "pass", "+@all", "-info", "~*", "&*")
	cfg := redisCfg(master.URL())
	cfg.Redis.Username, cfg.Redis.Password = "narrow", "pass"
	require.NoError(t, Healthy(ctx, openRedisStore(t, cfg, "docs", quietly())), "a server that does not tell what it is")

	require.NoError(t, master.Client().Do(ctx, "client", "pause", "5000").Err())
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.ErrorIs(t, Healthy(short, m), context.DeadlineExceeded)
	require.Less(t, time.Since(began), 50*time.Millisecond+testkit.Slack)
	master.Kill()
	require.ErrorIs(t, Healthy(ctx, m), ErrUnavailable)
}
