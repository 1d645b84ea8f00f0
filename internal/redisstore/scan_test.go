package redisstore

import (
	"context"
	"iter"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// naiveListing continues a cursor wherever the client is connected, and drops
// repeats: what a loop over SCAN does. On a ClusterClient it visits one node.
func naiveListing(clients ...redis.UniversalClient) testkit.Listing {
	const prefix = "nano_graphrag:docs:"
	return func(ctx context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			seen := make(map[string]bool)
			for _, client := range clients {
				for cursor := uint64(0); ; {
					cmd := client.Scan(ctx, cursor, prefix+"*", scanCount)
					if cmd.Err() != nil { // The connection broke; the next one will do.
						cmd = client.Scan(ctx, cursor, prefix+"*", scanCount)
					}
					keys, next, err := cmd.Result()
					if err != nil {
						yield("", err)
						return
					}
					for _, key := range keys {
						if id := key[len(prefix):]; !seen[id] {
							seen[id] = true
							if !yield(id, nil) {
								return
							}
						}
					}
					if cursor = next; cursor == 0 {
						break
					}
				}
			}
		}
	}
}

// A pair of servers have the same documents; the client dials one of them.
type pair struct {
	servers [2]*redistest.Server
	client  *redis.Client
	current atomic.Int32
}

func startPair(t *testing.T) *pair {
	p := &pair{servers: [2]*redistest.Server{redistest.Start(t), redistest.Start(t)}}
	p.client = redis.NewClient(&redis.Options{
		DisableIdentity: true,
		MaxRetries:      -1,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", p.servers[p.current.Load()].Addr)
		},
	})
	t.Cleanup(func() { _ = p.client.Close() })
	return p
}

// fill makes the documents on both.
func (p *pair) fill(t *testing.T, items map[string]bool) {
	for _, server := range p.servers {
		require.NoError(t, server.Client().FlushAll(t.Context()).Err())
		_, err := server.Client().Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
			for id := range items {
				pipe.Set(t.Context(), "nano_graphrag:docs:"+id, "1", 0)
			}
			return nil
		})
		require.NoError(t, err)
	}
}

// failover makes the other server the one that the client talks to.
func (p *pair) failover(ctx context.Context) error {
	old := p.servers[p.current.Load()]
	p.current.Store(1 - p.current.Load())
	return testkit.KillTCP(ctx, old)
}

// A SCAN cursor is pinned to one server: Keys is complete, and each id comes
// once, whenever another server takes over (reliability.md, 4). A cursor that
// is kept loses ids, and the check sees it.
func TestRedisKeysThroughAChangeOfServer(t *testing.T) {
	p, want := startPair(t), testkit.IDSet(testkit.Numbered(20_000))
	p.fill(t, want)
	s := openEngine(t, settled(""), "docs", given(p.client))
	for _, at := range []int{0, 5_000, 12_345, 19_999} {
		change := func(n int, _ string) {
			if n == at {
				require.NoError(t, p.failover(t.Context()))
			}
		}
		require.NoError(t, testkit.CheckListing(t.Context(), s.Keys, want, change), at)
		if at == 5_000 {
			require.ErrorIs(t, testkit.CheckListing(t.Context(), naiveListing(p.client), want, change), testkit.ErrListing)
		}
	}
}

// A server that changes for every page ends the listing with an error.
func TestRedisKeysGiveUp(t *testing.T) {
	p, want := startPair(t), testkit.IDSet(testkit.Numbered(5_000))
	p.fill(t, want)
	s := openEngine(t, settled(""), "docs", given(p.client))
	changing := true
	p.client.AddHook(testkit.Hook(func(cmd redis.Cmder) {
		if _, ok := bare(cmd).(*redis.ScanCmd); ok && changing {
			require.NoError(t, p.failover(t.Context()))
		}
	}))
	ignore := func(int, string) {}
	require.ErrorIs(t, testkit.CheckListing(t.Context(), s.Keys, want, ignore), fault.ErrUnavailable)
	require.ErrorIs(t, s.Drop(t.Context()), fault.ErrUnavailable)
	changing = false
	p.fill(t, want)
	require.NoError(t, testkit.CheckListing(t.Context(), s.Keys, want, ignore))
}

// Drop leaves nothing behind, also if what the old server acknowledged never
// reached the new one, whenever that takes over.
func TestRedisDropThroughAChangeOfServer(t *testing.T) {
	p, items := startPair(t), testkit.IDSet(testkit.Numbered(5_000))
	s := openEngine(t, settled(""), "docs", given(p.client))
	unlinked, at := 0, -1
	p.client.AddHook(testkit.Hook(func(cmd redis.Cmder) {
		if cmd.Name() != "unlink" {
			return
		}
		if unlinked++; unlinked == at {
			require.NoError(t, p.failover(t.Context()))
		}
	}))
	for _, at = range []int{1, 2_000, len(items)} {
		unlinked = 0
		p.fill(t, items)
		require.NoError(t, s.Drop(t.Context()))
		require.Zero(t, p.client.DBSize(t.Context()).Val(), at)
		require.GreaterOrEqual(t, unlinked, at)
	}
}

// Where INFO is not allowed, the cursor is pinned to a connection instead.
func TestRedisScanWithoutInfo(t *testing.T) {
	p, items := startPair(t), testkit.IDSet(testkit.Numbered(5_000))
	p.fill(t, items)
	for _, server := range p.servers {
		server.ACL("default", "", "~*", "&*", "+@all", "-info")
	}
	s := openEngine(t, settled(""), "docs", given(p.client))
	scans := 0
	p.client.AddHook(testkit.Hook(func(cmd redis.Cmder) {
		if cmd.Name() != "scan" {
			return
		}
		if scans++; scans == 4 { // The first was refused, so this is the third page.
			require.NoError(t, p.failover(t.Context()))
		}
	}))
	require.NoError(t, testkit.CheckListing(t.Context(), s.Keys, items, func(int, string) {}))
	require.Greater(t, scans, 9)
	require.NoError(t, s.Drop(t.Context()))
	require.Empty(t, listed(t, s))
}

// Keys and Drop through a failover by Sentinel: complete, each id once, and
// nothing left (reliability.md, 4).
func TestRedisScanThroughSentinelFailover(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t, 1, 1)
	ctx, s := t.Context(), openEngine(t, settled(sentinel.URL()), "docs")
	items := testkit.Numbered(20_000)
	require.NoError(t, s.Upsert(ctx, items))
	require.Eventually(t, func() bool { // What has not reached the replica is lost.
		return sentinel.Nodes[1].Client().DBSize(ctx).Val() == int64(len(items))
	}, testkit.Slack*5, testkit.Slack/1000)
	require.NoError(t, testkit.CheckListing(ctx, s.Keys, testkit.IDSet(items), func(n int, _ string) {
		if n == 7_000 {
			sentinel.Failover()
		}
	}))

	unlinked, reached, goOn := 0, make(chan struct{}), make(chan struct{})
	engineOf(s).way.client.AddHook(testkit.Hook(func(cmd redis.Cmder) {
		if cmd.Name() != "unlink" {
			return
		}
		if unlinked++; unlinked == 7_000 {
			close(reached)
			<-goOn
		}
	}))
	dropped := make(chan error)
	go func() { dropped <- s.Drop(ctx) }()
	<-reached
	sentinel.Failover()
	close(goOn)
	require.NoError(t, <-dropped)
	require.Zero(t, sentinel.Master().Client().DBSize(ctx).Val())
}

// Whatever SCAN is answered with, repeats and strangers are dropped.
func TestRedisScanRepeatsAreSuppressed(t *testing.T) {
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket, DisableIdentity: true, MaxRetries: -1})
	defer client.Close()
	scans := 0
	client.AddHook(testkit.Hook(func(cmd redis.Cmder) {
		if scan, ok := bare(cmd).(*redis.ScanCmd); ok {
			scans++
			keys, cursor := scan.Val()
			scan.SetVal(append(slices.Concat(keys, keys), "nano_graphrag:docsx:1", "stranger"), cursor)
		}
	}))
	require.NoError(t, server.Client().Set(t.Context(), "stranger", "1", 0).Err())
	s := openEngine(t, settled(""), "docs", given(client))
	require.NoError(t, s.Upsert(t.Context(), testkit.Numbered(3)))
	require.Equal(t, []string{"id-0", "id-1", "id-2"}, listed(t, s))
	require.NoError(t, s.Drop(t.Context()))
	require.Equal(t, []string{"stranger"}, testkit.AllKeys(t, server.Client()))
	require.Equal(t, 2, scans)
}
