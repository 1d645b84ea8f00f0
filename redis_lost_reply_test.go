package kv_test

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// Timeout or EOF after the write: what is idempotent is repeated, for the rest
// the outcome is unknown and nothing is repeated (reliability.md, 1).
func TestRedisLostReply(t *testing.T) {
	t.Parallel()
	proxy := testkit.StartProxy(t)
	server := redistest.Start(t)
	proxy.Forward(server.Addr)
	testLostReply(t, proxy, server, "redis://"+proxy.Addr().String())
	// Neither does a given client with go-redis's defaults repeat anything.
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr().String()})
	defer client.Close()
	testLostReply(t, proxy, server, "", kv.WithRedisClient(client))
}

// The same in a Cluster, whose one node says that it is the proxy.
func TestRedisLostReplyInCluster(t *testing.T) {
	t.Parallel()
	proxy := testkit.StartProxy(t)
	_, port, err := net.SplitHostPort(proxy.Addr().String())
	require.NoError(t, err)
	server := redistest.StartCluster(t, 1, 0, redistest.Arg("--cluster-announce-port", port)).Nodes[0]
	proxy.Forward(server.Addr)
	testLostReply(t, proxy, server, "redis://"+proxy.Addr().String()+"?cluster=true")
}

func testLostReply(t *testing.T, proxy *testkit.DroppingProxy, server *redistest.Server, url string, opts ...kv.Option) {
	c, ctx := server.Client(), t.Context()
	s := openRedisStore(t, redisCfg(url), "docs", opts...)
	var deleted, inserted int
	many, manyCalls := "mget", 3 // What was lost is asked for again in two halves.
	if strings.Contains(url, "cluster=true") {
		many, manyCalls = "get", 4
	}
	for _, tt := range []struct {
		command string
		calls   int // that the server sees
		op      func() error
		unknown bool
	}{
		{"set", 2, func() error { return s.Upsert(ctx, testkit.OneDoc) }, false},
		{"get", 2, func() error { _, err := s.Get(ctx, "a"); return err }, false},
		{many, manyCalls, func() error { _, err := s.GetMany(ctx, []string{"a", "b"}); return err }, false},
		{"exists", 2, func() error { _, err := s.Missing(ctx, []string{"a"}); return err }, false},
		{"scan", 2, func() error { return operations["keys"](ctx, s) }, false},
		{"unlink", 1, func() (err error) { deleted, err = s.Delete(ctx, "a"); return err }, true},
		{"set", 1, func() (err error) { inserted, err = s.Insert(ctx, testkit.OneDoc); return err }, true},
		{"set", 2, func() (err error) {
			inserted, err = s.Insert(ctx, map[string]json.RawMessage{"c": testkit.OneDoc["a"], "d": testkit.OneDoc["a"]})
			return err
		}, true},
		{"unlink", 6, func() error { return s.Drop(ctx) }, false},
	} {
		require.NoError(t, c.ConfigResetStat(ctx).Err())
		before := figures(t, s)
		text := "\r\n" + tt.command + "\r\n"
		proxy.Drop.Store(&text)
		err := tt.op()
		require.Nil(t, proxy.Drop.Load(), "the reply was dropped: %s", tt.command)
		assert.Equal(t, tt.calls, testkit.ServerCalls(t, c, tt.command), tt.command)
		after := figures(t, s)
		retries, unknown := after.Redis.Retries-before.Redis.Retries, unknownOutcomes(after)-unknownOutcomes(before)
		if !tt.unknown {
			require.Equal(t, [2]int64{1, 0}, [2]int64{retries, unknown}, tt.command)
			require.NoError(t, err, tt.command)
			continue
		}
		require.Equal(t, [2]int64{0, 1}, [2]int64{retries, unknown}, tt.command)
		require.ErrorIs(t, err, kv.ErrOutcomeUnknown, tt.command)
		require.ErrorIs(t, err, kv.ErrUnavailable)
		require.Zero(t, deleted+inserted)
	}
	require.Zero(t, c.DBSize(ctx).Val(), "Delete and Drop did their work")
}
