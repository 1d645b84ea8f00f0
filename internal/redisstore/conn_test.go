package redisstore

import (
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// hangingUp closes some connections as soon as it has accepted them.
type hangingUp struct {
	net.Listener
	times atomic.Int64
}

func (l *hangingUp) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.times.Add(-1) < 0 {
			return conn, err
		}
		_ = conn.Close()
	}
}

// A connection that breaks before the server has said anything has carried no
// command of ours: every call may be repeated, and no outcome is unknown.
func TestRedisConnectionBreaksBeforeItIsReady(t *testing.T) {
	server, proxy := redistest.Start(t), testkit.StartProxy(t)
	door := &hangingUp{Listener: proxy.Listener}
	proxy.Listener = door
	proxy.Forward(server.Addr)
	cfg := settled("redis://" + proxy.Addr().String())
	cfg.HealthCheckInterval = 1 // Every call makes a connection.
	s := openEngine(t, cfg, "docs")

	door.times.Store(2)
	n, err := s.Insert(t.Context(), testkit.OneDoc)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.EqualValues(t, 2, figures(s).Retries)

	door.times.Store(100)
	for _, op := range []string{"insert", "delete"} {
		err = operations[op](t.Context(), s)
		require.ErrorIs(t, err, fault.ErrUnavailable, op)
		require.NotErrorIs(t, err, fault.ErrOutcomeUnknown, op)
		require.ErrorContains(t, err, "before it was ready", op)
	}
	require.Equal(t, []string{"nano_graphrag:docs:a"}, testkit.AllKeys(t, server.Client()))
	door.times.Store(0)
}
