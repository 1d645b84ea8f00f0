package kv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// A replicated is a master with replicas that no Sentinel watches.
type replicated struct {
	master   *redistest.Server
	replicas []*redistest.Server
}

func startReplicated(t *testing.T, replicas int) replicated {
	t.Helper()
	r := replicated{master: redistest.Start(t, redistest.Arg("--repl-diskless-sync-delay", "0"))}
	for range replicas {
		s := redistest.Start(t)
		r.replicas = append(r.replicas, s)
		r.join(t, s)
	}
	return r
}

// join makes a server a replica of the master, and waits until it has what the
// master has. One that is in sync confirms nothing until its first sign of life.
func (r replicated) join(t *testing.T, s *redistest.Server) {
	t.Helper()
	host, port, err := net.SplitHostPort(r.master.Addr)
	require.NoError(t, err)
	before := r.online(t)
	require.NoError(t, s.Client().Do(t.Context(), "replicaof", host, port).Err())
	require.NoError(t, testkit.Await(func() bool { return r.online(t) > before }))
	pipe := r.master.Client().Pipeline()
	pipe.Set(t.Context(), "joined", s.Addr, 0)
	pipe.Del(t.Context(), "joined")
	have := pipe.Do(t.Context(), "wait", before+1, 10_000)
	_, err = pipe.Exec(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, before+1, have.Val())
}

// online counts replicas that are in sync, as ROLE does.
func (r replicated) online(t *testing.T) int {
	reply, err := r.master.Client().Do(t.Context(), "role").Slice()
	require.NoError(t, err)
	return len(reply[2].([]any))
}

// waitingCfg is a configuration whose writes give up on replicas after 2.4 s.
func waitingCfg(url string, want kv.Replicas) kv.Config {
	cfg := redisCfg(url)
	cfg.Redis.WaitReplicas, cfg.Redis.SocketTimeout = want, 3*time.Second
	return cfg
}

func openWaiting(t *testing.T, url string, want kv.Replicas, opts ...kv.Option) builtin {
	t.Helper()
	return openRedisStore(t, waitingCfg(url, want), "docs", append(opts, kv.WithLogger(slog.New(slog.DiscardHandler)))...)
}

// REDIS_WAIT_REPLICAS is all or a number, and is written as it is read.
func TestReplicasText(t *testing.T) {
	for text, want := range map[string]kv.Replicas{"0": 0, "2": 2, "all": kv.AllReplicas, "ALL": kv.AllReplicas, "1 # one": 1} {
		cfg, err := fromMap(map[string]string{"REDIS_WAIT_REPLICAS": text})
		require.NoError(t, err)
		require.Equal(t, want, cfg.Redis.WaitReplicas)
		again, err := want.MarshalText()
		require.NoError(t, err)
		var read kv.Replicas
		require.NoError(t, read.UnmarshalText(again))
		require.Equal(t, want, read)
	}
	for _, text := range []string{"-1", "many", "1.5", "65536"} {
		_, err := fromMap(map[string]string{"REDIS_WAIT_REPLICAS": text})
		require.ErrorIs(t, err, kv.ErrInvalid, text)
		require.ErrorContains(t, err, "REDIS_WAIT_REPLICAS")
	}
	require.ErrorIs(t, kv.Config{Redis: kv.RedisConfig{WaitReplicas: -2}}.Validate(), kv.ErrInvalid)
}

var twoDocs = map[string]json.RawMessage{"a": json.RawMessage(`1`), "b": json.RawMessage(`2`)}

// writes are all that changes documents, by every command that does it, with
// the document the others change put there first.
var writes = map[string]func(ctx context.Context, s builtin) error{
	"set":  func(ctx context.Context, s builtin) error { return s.Upsert(ctx, testkit.OneDoc) },
	"mset": func(ctx context.Context, s builtin) error { return s.Upsert(ctx, twoDocs) },
	"px":   func(ctx context.Context, s builtin) error { return s.UpsertTTL(ctx, testkit.OneDoc, time.Hour) },
	"pxs":  func(ctx context.Context, s builtin) error { return s.UpsertTTL(ctx, twoDocs, time.Hour) },
	"large": func(ctx context.Context, s builtin) error {
		return s.Upsert(ctx, map[string]json.RawMessage{"a": large})
	},
	"nx": func(ctx context.Context, s builtin) error {
		_, err := s.Insert(ctx, map[string]json.RawMessage{"new": json.RawMessage(`1`)})
		return err
	},
	"nxs": func(ctx context.Context, s builtin) error {
		_, err := s.Insert(ctx, map[string]json.RawMessage{"c": json.RawMessage(`1`), "d": json.RawMessage(`1`)})
		return err
	},
	"unlink":  func(ctx context.Context, s builtin) error { _, err := s.Delete(ctx, "a"); return err },
	"unlinks": func(ctx context.Context, s builtin) error { _, err := s.Delete(ctx, "a", "b"); return err },
	"drop":    func(ctx context.Context, s builtin) error { return s.Drop(ctx) },
	"compute": func(ctx context.Context, s builtin) error {
		_, err := kv.For[string](s).Compute(ctx, "computed", func(context.Context) (string, error) { return "v", nil })
		return err
	},
	"computes": func(ctx context.Context, s builtin) error {
		_, err := kv.For[string](s).ComputeMany(ctx, []string{"e", "f"}, func(_ context.Context, ids []string) (map[string]string, error) {
			return map[string]string{"e": "1", "f": "2"}, nil
		})
		return err
	},
}

// large is a document that shares no round trip.
var large = json.RawMessage(`"` + strings.Repeat("x", 64<<10) + `"`)

// Every write is acknowledged when so many replicas have it, and with fewer it
// is on the master only and an error says so; reads do not wait.
func TestWaitEveryWrite(t *testing.T) {
	t.Parallel()
	group := startReplicated(t, 2)
	given := redis.NewClient(&redis.Options{Addr: group.master.Addr, ContextTimeoutEnabled: true, MaxRetries: -1, ReadTimeout: 5 * time.Second})
	defer given.Close()
	cfg, quiet := redisCfg(group.master.URL()), kv.WithLogger(slog.New(slog.DiscardHandler))
	factory := func(want kv.Replicas, opts ...kv.Option) *kv.Factory {
		cfg.Redis.WaitReplicas = want
		f, err := kv.NewFactory(cfg, append(opts, quiet)...)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, f.Close()) })
		return f
	}
	one := factory(1)
	strict := map[string]*kv.Factory{"two": factory(2, kv.WithoutAutoPipelining()), "all": factory(kv.AllReplicas)}
	cfg.Redis.URL = "redis://localhost:1"
	strict["given"] = factory(kv.AllReplicas, kv.WithRedisClient(given))

	type attempt struct {
		name      string
		write     func(context.Context, builtin) error
		lax, hard builtin
		err       error
	}
	var attempts []*attempt
	for name, write := range writes {
		for kind, f := range strict {
			lax, err := one.Open(t.Context(), name+kind)
			require.NoError(t, err)
			hard, err := f.Open(t.Context(), name+kind)
			require.NoError(t, err)
			a := &attempt{name: name, write: write, lax: lax.(builtin), hard: hard.(builtin)}
			attempts = append(attempts, a)
			require.NoError(t, hard.Upsert(t.Context(), twoDocs))
			require.NoError(t, write(t.Context(), a.hard), name)
			require.NoError(t, lax.Drop(t.Context()))
			require.NoError(t, lax.Upsert(t.Context(), twoDocs))
		}
	}
	group.replicas[0].Pause()
	defer group.replicas[0].Resume()
	var running sync.WaitGroup
	for _, a := range attempts {
		running.Go(func() { a.err = a.write(t.Context(), a.hard) })
	}
	running.Wait()
	for _, a := range attempts {
		require.ErrorContains(t, a.err, "stored on the master, but only 1 of 2 replicas have confirmed within 4s", a.name)
		computed, counted := strings.HasPrefix(a.name, "compute"), strings.HasPrefix(a.name, "nx") || strings.HasPrefix(a.name, "unlink")
		require.Equal(t, computed || counted, errors.Is(a.err, kv.ErrOutcomeUnknown), a.name)
		require.Equal(t, !computed, errors.Is(a.err, kv.ErrUnavailable), a.name)
		if batch := (*kv.BatchError)(nil); errors.As(a.err, &batch) {
			require.Len(t, batch.Unknown, 2)
		}
		_, err := a.hard.GetMany(t.Context(), []string{"a", "b"})
		require.NoError(t, err)
		require.NoError(t, a.lax.Drop(t.Context()))
		require.NoError(t, a.write(t.Context(), a.lax), "one of two has it")
	}
}

// All is what the master was ever seen to have: a replica that has left is
// waited for, one that joins counts from then on, and none is an error.
func TestWaitAll(t *testing.T) {
	t.Parallel()
	group := startReplicated(t, 0)
	f, err := kv.NewFactory(waitingCfg(group.master.URL(), kv.AllReplicas), kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer f.Close()
	s, err := f.Open(t.Context(), "docs")
	require.NoError(t, err)
	require.ErrorContains(t, s.Upsert(t.Context(), testkit.OneDoc), "only 0 of 1 replicas")
	first, second := redistest.Start(t), redistest.Start(t)
	group.join(t, first)
	require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
	group.join(t, second)
	require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
	require.NoError(t, second.Client().Do(t.Context(), "replicaof", "no", "one").Err())
	require.NoError(t, testkit.Await(func() bool { return group.online(t) == 1 }))
	_, err = f.Open(t.Context(), "other") // Looks at the replicas again.
	require.NoError(t, err)
	require.ErrorContains(t, s.Upsert(t.Context(), testkit.OneDoc), "only 1 of 2 replicas")
	group.join(t, second)
	require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
}

// A user without the permission is told so by Open.
func TestWaitNeedsPermission(t *testing.T) {
	t.Parallel()
	group := startReplicated(t, 1)
	least := strings.Fields("~nano_graphrag:* +get +mget +set +mset +unlink +exists +scan +ping +hello +auth +select +client|tracking +pttl")
	for _, step := range []struct {
		want kv.Replicas
		rule string
		err  string
	}{{1, "", "REDIS_WAIT_REPLICAS needs WAIT"}, {1, "+wait", ""}, {kv.AllReplicas, "", "REDIS_WAIT_REPLICAS=all needs ROLE"}, {kv.AllReplicas, "+role", ""}} {
		if step.rule != "" {
			least = append(least, step.rule)
		}
		group.master.ACL("least", "pw", least...)
		cfg := waitingCfg(strings.Replace(group.master.URL(), "redis://", "redis://least:pw@", 1), step.want)
		s, err := kv.Open(t.Context(), cfg, "docs")
		if step.err != "" {
			require.ErrorContains(t, err, step.err)
			require.NotErrorIs(t, err, kv.ErrUnavailable)
			continue
		}
		require.NoError(t, err)
		require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
		require.NoError(t, s.Close())
		if step.want == 1 {
			continue
		}
		s = openRedisStore(t, cfg, "docs") // The permission is taken away later.
		group.master.ACL("least", "pw", append(least, "-wait")...)
		err = s.Upsert(t.Context(), testkit.OneDoc)
		require.ErrorContains(t, err, "stored on the master, but REDIS_WAIT_REPLICAS needs the permission +wait")
	}
	ring := redis.NewRing(&redis.RingOptions{})
	defer ring.Close()
	_, err := kv.Open(t.Context(), waitingCfg(group.master.URL(), 1), "docs", kv.WithRedisClient(ring))
	require.ErrorIs(t, err, kv.ErrInvalid)
}

// A master that is demoted while replicas are waited for has not kept the
// write: an Upsert is repeated, and fails on what is a replica now; the
// outcome of an Insert is unknown.
func TestWaitOnDemotedMaster(t *testing.T) {
	t.Parallel()
	group := startReplicated(t, 1)
	cfg := waitingCfg(group.master.URL(), 1)
	cfg.Redis.SocketTimeout = time.Minute
	s := openRedisStore(t, cfg, "docs")
	group.replicas[0].Pause()
	defer group.replicas[0].Resume()
	blocked := func() bool {
		info, err := group.master.Client().Info(t.Context(), "clients").Result()
		return err == nil && strings.Contains(info, "blocked_clients:2\r\n")
	}
	var inserted, upserted error
	var wg sync.WaitGroup
	wg.Go(func() { upserted = s.Upsert(t.Context(), twoDocs) })
	wg.Go(func() { _, inserted = s.Insert(t.Context(), map[string]json.RawMessage{"new": json.RawMessage(`1`)}) })
	require.NoError(t, testkit.Await(blocked))
	require.NoError(t, group.master.Client().Do(t.Context(), "replicaof", "127.0.0.1", "1").Err())
	wg.Wait()
	require.ErrorContains(t, upserted, "READONLY")
	require.ErrorIs(t, upserted, kv.ErrUnavailable)
	require.ErrorContains(t, inserted, "no longer the master")
	require.ErrorIs(t, inserted, kv.ErrOutcomeUnknown)
}

// A context that is done ends the wait at once, and Close does not wait for
// what replicas will never have.
func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	group := startReplicated(t, 0)
	cfg := waitingCfg(group.master.URL(), 1)
	cfg.Redis.SocketTimeout = 20 * time.Second
	s, err := kv.Open(t.Context(), cfg, "docs")
	require.NoError(t, err)
	require.NoError(t, group.master.Client().MSet(t.Context(), "nano_graphrag:docs:a", "1", "nano_graphrag:docs:for Drop alone", "1").Err())
	var wg sync.WaitGroup
	for name, write := range writes {
		if strings.HasPrefix(name, "compute") {
			continue // Its answer has been paid for, and lasts for a lease.
		}
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			began := time.Now()
			assert.ErrorIs(t, write(ctx, s.(builtin)), context.Canceled, name)
			assert.Less(t, time.Since(began), 10*time.Second, name) // And not four fifths of the 20 s.
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	require.ErrorContains(t, s.Upsert(ctx, twoDocs), "only 0 of 1 replicas have confirmed within 1", "four fifths of the deadline")
	began := time.Now()
	require.NoError(t, s.Close())
	require.Less(t, time.Since(began), 25*time.Second) // What was left behind ends with its socket's timeout.
}

// While a slot moves, writes with WAIT follow it, and the replicas of the
// server that executed them count.
func TestWaitDuringReshard(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2, 1)
	s := openWaiting(t, cluster.URL(), kv.AllReplicas)
	from, to := cluster.Nodes[0], cluster.Nodes[1]
	key := "nano_graphrag:docs:a"
	asked, err := cluster.Nodes[0].Client().ClusterKeySlot(t.Context(), key).Result()
	require.NoError(t, err)
	slot := int(asked)
	if cluster.MasterOf(slot) == to {
		from, to = to, from
	}
	finish := cluster.BeginMove(from, to, []int{slot})
	for name, write := range writes {
		require.NoError(t, write(t.Context(), s), name)
	}
	require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
	require.EqualValues(t, 1, to.Client().Do(t.Context(), "cluster", "countkeysinslot", slot).Val(), "ASK was not followed")
	require.EqualValues(t, 1, cluster.ReplicasOf(to)[0].Client().Do(t.Context(), "cluster", "countkeysinslot", slot).Val())
	for _, want := range []kv.Replicas{0, kv.AllReplicas} { // Its key is on a server that does not own the slot yet.
		s := openWaiting(t, cluster.URL(), want)
		require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
		require.NoError(t, s.Drop(t.Context()))
		require.Empty(t, listed(t, s))
	}
	finish()
	for name, write := range writes {
		require.NoError(t, write(t.Context(), s), name)
	}
	replica := cluster.ReplicasOf(to)[0]
	replica.Pause()
	defer replica.Resume()
	err = s.Upsert(t.Context(), numberedWith("a", 100))
	require.ErrorIs(t, err, kv.ErrUnavailable)
	var batch *kv.BatchError
	require.ErrorAs(t, err, &batch)
	require.Contains(t, batch.Unknown, "a")
	require.NotEmpty(t, batch.Applied, "the other master's replica is there")
}

// numberedWith are n documents and one more.
func numberedWith(id string, n int) map[string]json.RawMessage {
	items := testkit.Numbered(n)
	items[id] = json.RawMessage(`1`)
	return items
}

// BenchmarkWait has 64 goroutines write single documents that a replica must
// confirm.
func BenchmarkWait(b *testing.B) {
	master, replica := redistest.Start(b), redistest.Start(b)
	host, port, err := net.SplitHostPort(master.Addr)
	require.NoError(b, err)
	require.NoError(b, replica.Client().Do(b.Context(), "replicaof", host, port).Err())
	require.NoError(b, testkit.Await(func() bool { return master.Client().Do(b.Context(), "wait", 1, 10000).Val() == int64(1) }))
	u := url.URL{Scheme: "redis", Host: master.Addr}
	for _, want := range []kv.Replicas{0, 1, kv.AllReplicas} {
		for name, opts := range map[string][]kv.Option{"shared": nil, "alone": {kv.WithoutAutoPipelining()}} {
			b.Run(fmt.Sprintf("%v/%s", want, name), func(b *testing.B) {
				cfg := redisCfg(u.String())
				cfg.Redis.WaitReplicas = want
				s, err := kv.Open(b.Context(), cfg, "docs", opts...)
				require.NoError(b, err)
				defer s.Close()
				value := json.RawMessage(`{"content":"` + strings.Repeat("x", 1000) + `"}`)
				b.SetParallelism(32) // On two cores.
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := s.Upsert(context.Background(), map[string]json.RawMessage{"a": value}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
