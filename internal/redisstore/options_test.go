package redisstore

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
)

// undialled makes the client of a factory, but connects to nothing.
func undialled(t *testing.T, o Options) redis.UniversalClient {
	t.Helper()
	c, err := Connect(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c.client
}

// What go-redis is always told, whatever the settings (reliability.md, 1 and
// 2; lessons.md, Connections).
func requireFixedOptions(t *testing.T, o *redis.Options) {
	t.Helper()
	require.Zero(t, o.MaxRetries, "go-redis's own retries are off") // -1 becomes 0.
	require.Equal(t, 1, o.DialerRetries)
	require.True(t, o.ContextTimeoutEnabled)
	require.True(t, o.DisableIdentity)
	require.EqualValues(t, "disabled", o.MaintNotificationsConfig.Mode)
	require.NotNil(t, o.Dialer)
}

// Every option reaches the client or the engine.
func TestOptionsReachTheClient(t *testing.T) {
	certs := redistest.Start(t, redistest.TLS("yes")).TLS
	given := settled("rediss://jo:p%20%23%2Fw@127.0.0.1:7777")
	given.DB, given.ClientName, given.Protocol, given.MaxConnections = 7, "me", 2, 17
	given.ConnectionTimeout, given.SocketTimeout, given.HealthCheckInterval = 1500*time.Millisecond, 2500*time.Millisecond, 11*time.Second
	given.CAFile, given.CertFile, given.KeyFile, given.ServerName = certs.CAFile, certs.CertFile, certs.KeyFile, "redis.internal"
	given.KeyPrefix, given.SaveOnFlush = "pre", true
	o := undialled(t, given).(*redis.Client).Options()
	requireFixedOptions(t, o)
	require.Equal(t, "127.0.0.1:7777", o.Addr)
	require.Equal(t, 7, o.DB)
	require.Equal(t, []any{"jo", "p #/w", "me", 2}, []any{o.Username, o.Password, o.ClientName, o.Protocol})
	require.Equal(t, 17-1, o.PoolSize) // One is the lane's.
	require.Equal(t, 17-1, o.MaxActiveConns)
	require.Equal(t, 1500*time.Millisecond, o.DialTimeout)
	require.Equal(t, 2500*time.Millisecond, o.ReadTimeout)
	require.Equal(t, 2500*time.Millisecond, o.WriteTimeout)
	require.Equal(t, 11*time.Second, o.ConnMaxIdleTime)
	require.Equal(t, "redis.internal", o.TLSConfig.ServerName)
	require.False(t, o.TLSConfig.InsecureSkipVerify)
	require.GreaterOrEqual(t, int(o.TLSConfig.MinVersion), 0x0303)
	require.Len(t, o.TLSConfig.Certificates, 1)
	require.True(t, certs.Config(false).RootCAs.Equal(o.TLSConfig.RootCAs))
	e := New(&Client{}, given, "docs", nil)
	require.Equal(t, "pre:docs:", e.prefix)
	require.True(t, e.save)
}

// What is not asked for is off.
func TestOptionsLeftOut(t *testing.T) {
	given := settled("redis://localhost:6379")
	given.HealthCheckInterval = -1
	o := undialled(t, given).(*redis.Client).Options()
	requireFixedOptions(t, o)
	require.Equal(t, []any{"localhost:6379", 0, "", "", 50 - 1}, []any{o.Addr, o.DB, o.Username, o.Password, o.PoolSize})
	require.LessOrEqual(t, o.ConnMaxIdleTime, time.Duration(0), "for ever")
	require.Nil(t, o.TLSConfig)
	e := New(&Client{}, given, "docs", nil)
	require.Equal(t, "nano_graphrag:docs:", e.prefix)
	require.False(t, e.save)
}

// A Cluster and Sentinels get the same options as one server.
func TestOptionsReachEveryKind(t *testing.T) {
	given := settled("redis://a:1?cluster=true&addr=b:2")
	given.Password, given.MaxConnections, given.SocketTimeout, given.ConnectionTimeout = "pw", 3, 2*time.Second, 4*time.Second
	c := undialled(t, given).(*redis.ClusterClient).Options()
	require.Equal(t, []string{"a:1", "b:2"}, c.Addrs)
	require.LessOrEqual(t, c.MaxRetries, 0)
	require.True(t, c.ContextTimeoutEnabled && c.DisableIdentity)
	require.EqualValues(t, "disabled", c.MaintNotificationsConfig.Mode)
	require.Equal(t, []any{"pw", 3, 3, 2 * time.Second, 4 * time.Second}, []any{c.Password, c.PoolSize, c.MaxActiveConns, c.ReadTimeout, c.DialTimeout})

	given.Cluster, given.MasterName, given.SentinelUser, given.SentinelPass, given.DB = false, "mymaster", "su", "sp", 5
	o := undialled(t, given).(*redis.Client).Options()
	requireFixedOptions(t, o)
	require.Equal(t, []any{"FailoverClient", 5, "pw", 3, 2 * time.Second}, []any{o.Addr, o.DB, o.Password, o.PoolSize, o.ReadTimeout})
	u, err := given.universal()
	require.NoError(t, err)
	require.Equal(t, []any{"mymaster", "su", "sp"}, []any{u.MasterName, u.SentinelUsername, u.SentinelPassword})
	require.Equal(t, []string{"a:1", "b:2"}, u.Addrs)
}
