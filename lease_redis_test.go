package kv_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/lease"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// quick is a lease that tests can wait for.
const quick = 300 * time.Millisecond

// A leader that lost its lease does not overwrite a newer value, and returns
// that value, too. If there is none, its own is stored. The loss is counted.
func TestLeaseLost(t *testing.T) {
	server := redistest.Start(t)
	slow, fast := openRedisStore(t, redisCfg(server.URL()), "docs"), openRedisStore(t, redisCfg(server.URL()), "docs")
	for _, newer := range []string{"newer", ""} {
		var calls atomic.Int64
		began, release := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			v, err := kv.For[string](slow).Compute(t.Context(), "a", func(context.Context) (string, error) {
				close(began)
				<-release
				return "older", nil
			})
			assert.NoError(t, err)
			assert.Equal(t, cmp.Or(newer, "older"), v)
		})
		<-began
		n, err := server.Client().Del(t.Context(), "kv-lease:{nano_graphrag:docs:a}").Result()
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
		if newer != "" {
			v, err := kv.For[string](fast).Compute(t.Context(), "a", giving(&calls, newer, nil))
			require.NoError(t, err)
			require.Equal(t, newer, v)
		}
		close(release)
		wg.Wait()
		v, err := kv.For[string](fast).Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, cmp.Or(newer, "older"), v)
		_, err = fast.Delete(t.Context(), "a")
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, computeStats(t, slow).LeaseLosses)
	require.Zero(t, computeStats(t, fast).LeaseLosses)
	require.Empty(t, testkit.AllKeys(t, server.Client()), "no lease is left")
}

// A write that comes while fn runs stays, and is what Compute returns.
func TestComputeYieldsToWrites(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		s := open()
		v, err := kv.For[string](s).Compute(t.Context(), "a", func(ctx context.Context) (string, error) {
			return "older", kv.For[string](s).Upsert(ctx, map[string]string{"a": "newer"})
		})
		require.NoError(t, err)
		require.Equal(t, "newer", v)
		v, err = kv.For[string](s).Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, "newer", v)
	})
}

// A lease is renewed while fn runs, and not taken by others; a dead leader is
// replaced within the lease time.
func TestLeaseLife(t *testing.T) {
	server := redistest.Start(t)
	first, second := openRedisStore(t, redisCfg(server.URL()), "docs"), openRedisStore(t, redisCfg(server.URL()), "docs")
	o := kv.ComputeOptions[string]{Lease: quick}
	var calls atomic.Int64
	var wg sync.WaitGroup
	for _, s := range []builtin{first, second} {
		wg.Go(func() {
			v, err := kv.For[string](s).With(o).Compute(t.Context(), "a", func(context.Context) (string, error) {
				calls.Add(1)
				time.Sleep(3 * quick)
				return "v", nil
			})
			assert.NoError(t, err)
			assert.Equal(t, "v", v)
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, calls.Load())

	dead := server.Client().Set(t.Context(), "kv-lease:{nano_graphrag:docs:b}", "of the dead", quick) // Nobody renews it.
	require.NoError(t, dead.Err())
	began := time.Now()
	v, err := kv.For[string](second).With(o).Compute(t.Context(), "b", giving(&calls, "v", nil))
	require.NoError(t, err)
	require.Equal(t, "v", v)
	require.InDelta(t, quick, time.Since(began), float64(quick))
}

// trips counts round trips: commands and pipelines.
type trips struct{ n atomic.Int64 }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.count(cmd); return next(ctx, cmd) }
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.count(cmds[0]); return next(ctx, cmds) }
}

// count leaves out the greetings of a new connection.
func (c *trips) count(cmd redis.Cmder) {
	if cmd.Name() != "hello" && cmd.Name() != "client" {
		c.n.Add(1)
	}
}

// On a miss the leader makes three round trips, for one id as for many; a hit
// makes one.
func TestComputeRoundTrips(t *testing.T) {
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Network: "tcp", Addr: server.Addr, ContextTimeoutEnabled: true, MaxRetries: -1})
	defer client.Close()
	s := openRedisStore(t, kv.Config{Backend: "redis"}, "docs", kv.WithRedisClient(client))
	count := new(trips)
	client.AddHook(count)
	var calls atomic.Int64
	for _, want := range []int64{3, 1} {
		count.n.Store(0)
		_, err := kv.For[string](s).Compute(t.Context(), "a", giving(&calls, "v", nil))
		require.NoError(t, err)
		require.Equal(t, want, count.n.Load())
	}
	var ids []string
	for i := range 500 { // One pipeline's.
		ids = append(ids, fmt.Sprint(i))
	}
	_, err := s.GetMany(t.Context(), ids) // The first batch of a client has a part more: sizes are not known yet.
	require.NoError(t, err)
	count.n.Store(0)
	_, err = kv.For[string](s).ComputeMany(t.Context(), ids, upper(&calls, nil))
	require.NoError(t, err)
	require.LessOrEqual(t, count.n.Load(), int64(4)) // Of a GetMany some are two.
	require.NoError(t, client.ConfigResetStat(t.Context()).Err())
	_, err = kv.For[string](s).Compute(t.Context(), "b", giving(&calls, "v", nil))
	require.NoError(t, err)
	require.Equal(t, 2, testkit.ServerCalls(t, client, "evalsha"), "by the server's own count")
	require.Zero(t, testkit.ServerCalls(t, client, "eval"), "the texts of scripts are sent once")
	require.NoError(t, client.ScriptFlush(t.Context()).Err())
	_, err = kv.For[string](s).Compute(t.Context(), "c", giving(&calls, "v", nil))
	require.NoError(t, err)
	require.Equal(t, 2, testkit.ServerCalls(t, client, "eval"), "and again where they are unknown")
}

// Waiters wake by notification, and by polling where there is none.
func TestComputeWaiters(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.ACL("quiet", "pw", "~*", "resetchannels", "+@all", "-subscribe")
	quiet := strings.Replace(server.URL(), "redis://", "redis://quiet:pw@", 1)
	for name, url := range map[string]string{"notified": server.URL(), "polling": quiet} {
		t.Run(name, func(t *testing.T) {
			var stores []builtin
			for range 2 {
				stores = append(stores, openRedisStore(t, redisCfg(url), "docs"))
			}
			began, release := make(chan struct{}), make(chan time.Time, 1)
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := kv.For[string](stores[0]).Compute(t.Context(), name, func(context.Context) (string, error) {
					close(began)
					time.Sleep(600 * time.Millisecond) // The polls have become rare.
					release <- time.Now()
					return "v", nil
				})
				assert.NoError(t, err)
			})
			<-began
			v, err := kv.For[string](stores[1]).Compute(t.Context(), name, func(context.Context) (string, error) { return "", errors.New("called twice") })
			late := time.Since(<-release)
			require.NoError(t, err)
			require.Equal(t, "v", v)
			require.Less(t, late, lease.PollMost+testkit.Slack)
			t.Logf("%s: woken after %v", name, late)
			wg.Wait()
			require.EqualValues(t, 1, computeStats(t, stores[1]).Waits)
		})
	}
}

// When Redis is away a miss fails with ErrUnavailable, or is computed without
// sharing if the caller chose that; nothing is stored then.
func TestComputeAway(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openRedisStore(t, redisCfg(server.URL()), "docs")
	server.Kill()
	var calls atomic.Int64
	_, err := kv.For[string](s).Compute(t.Context(), "a", giving(&calls, "v", nil))
	require.ErrorIs(t, err, kv.ErrUnavailable)
	require.Zero(t, calls.Load())
	_, err = kv.For[string](s).ComputeMany(t.Context(), []string{"a", "b"}, upper(&calls, nil))
	require.ErrorIs(t, err, kv.ErrUnavailable)
	require.Zero(t, calls.Load())
	alone := kv.For[string](s).With(kv.ComputeOptions[string]{Unshared: true})
	v, err := alone.Compute(t.Context(), "a", giving(&calls, "v", nil))
	require.NoError(t, err)
	require.Equal(t, "v", v)
	many, err := alone.ComputeMany(t.Context(), []string{"a", "b"}, upper(&calls, nil))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "A", "b": "B"}, many)
	require.EqualValues(t, 2, calls.Load())
	server.Restart()
	require.NoError(t, testkit.Await(func() bool { return s.Ping(t.Context()) == nil }))
	require.Empty(t, listed(t, s))

	// It goes away, and comes back, while fn runs: the answer is not lost.
	v, err = kv.For[string](s).Compute(t.Context(), "c", func(context.Context) (string, error) {
		server.Pause()
		time.AfterFunc(500*time.Millisecond, server.Resume)
		return "v", nil
	})
	require.NoError(t, err)
	require.Equal(t, "v", v)
	require.Equal(t, []string{"c"}, listed(t, s))
	v, err = kv.For[string](s).With(kv.ComputeOptions[string]{Lease: quick}).Compute(t.Context(), "d", func(context.Context) (string, error) {
		server.Kill()
		return "v", nil
	})
	require.ErrorIs(t, err, kv.ErrUnavailable)
	require.Equal(t, "v", v, "it has been paid for")
}

// A reply that is lost changes nothing: the scripts may run twice.
func TestComputeLostReply(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := testkit.StartProxy(t)
	proxy.Forward(server.Addr)
	s := openRedisStore(t, redisCfg("redis://"+proxy.Addr().String()), "docs")
	drop := func() { text := "kv-lease:"; proxy.Drop.Store(&text) } // In the keys of every script.
	for i, stage := range []string{"none", "claim", "renew", "settle"} {
		for round := range 5 {
			id, want := fmt.Sprint(i, round), fmt.Sprint("v", i, round)
			var calls atomic.Int64
			if stage == "claim" {
				drop()
			}
			v, err := kv.For[string](s).With(kv.ComputeOptions[string]{Lease: quick}).Compute(t.Context(), id, func(context.Context) (string, error) {
				calls.Add(1)
				if stage == "renew" {
					drop()
					time.Sleep(quick)
				}
				if stage == "settle" {
					drop()
				}
				return want, nil
			})
			require.NoError(t, err)
			require.Equal(t, want, v)
			require.EqualValues(t, 1, calls.Load())
			require.Nil(t, proxy.Drop.Load(), stage)
		}
	}
	require.Zero(t, computeStats(t, s).LeaseLosses)
	require.Len(t, listed(t, s), 20)
	require.Len(t, testkit.AllKeys(t, server.Client()), 20)
}
