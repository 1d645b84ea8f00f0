package kv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// Dial refused, and a server that does not answer: ErrUnavailable naming host
// and port, within the connection timeout.
func TestRedisOpenIsBounded(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	server := redistest.Start(t)
	server.Pause()
	defer server.Resume()
	for _, addr := range []string{closed.Addr().String(), server.Addr} {
		cfg := redisCfg("redis://:GEHEIM@" + addr)
		cfg.Redis.ConnectionTimeout, cfg.Redis.SocketTimeout = 300*time.Millisecond, time.Minute
		began := time.Now()
		_, err := kv.Open(t.Context(), cfg, "docs")
		require.Less(t, time.Since(began), 300*time.Millisecond+testkit.Slack)
		require.ErrorIs(t, err, kv.ErrUnavailable)
		require.ErrorContains(t, err, addr)
		require.NotContains(t, err.Error(), "GEHEIM")

		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		cfg.Redis.ConnectionTimeout = time.Minute
		began = time.Now()
		_, err = kv.Open(ctx, cfg, "docs")
		cancel()
		require.Less(t, time.Since(began), testkit.Slack)
		require.Error(t, err)
	}
}

// A context that is done ends the call at once, the error matches ctx.Err()
// and not ErrUnavailable; a call without one is bounded by the socket timeout.
func TestRedisContextEndsACall(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := redisCfg(server.URL())
	cfg.Redis.SaveOnFlush, cfg.Redis.SocketTimeout = true, 20*time.Second
	patient := openRedisStore(t, cfg, "docs", kv.WithLogger(slog.New(slog.DiscardHandler)))
	cfg.Redis.SocketTimeout = 50 * time.Millisecond
	hasty := openRedisStore(t, cfg, "docs", kv.WithLogger(slog.New(slog.DiscardHandler)))
	server.Pause()
	var wg sync.WaitGroup
	for name, op := range operations {
		for end, want := range map[string]error{"deadline": context.DeadlineExceeded, "cancel": context.Canceled} {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				if end == "deadline" {
					ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
				} else {
					time.AfterFunc(100*time.Millisecond, cancel)
				}
				defer cancel()
				began := time.Now()
				err := op(ctx, patient)
				if took := time.Since(began); took > 100*time.Millisecond+testkit.Slack {
					t.Errorf("%s, %s: took %v", name, end, took)
				}
				if !errors.Is(err, want) || errors.Is(err, kv.ErrUnavailable) {
					t.Errorf("%s, %s: %v", name, end, err)
				}
				if counts := name == "insert" || name == "delete"; counts != errors.Is(err, kv.ErrOutcomeUnknown) {
					t.Errorf("%s, %s: unknown outcome: %v", name, end, err)
				}
			})
		}
		wg.Go(func() {
			if err := op(context.Background(), hasty); name != "flush" && !errors.Is(err, kv.ErrUnavailable) {
				t.Errorf("%s without an end: %v", name, err)
			}
		})
	}
	wg.Wait()
	server.Resume()
	for name, op := range operations {
		require.Eventually(t, func() bool { err := op(t.Context(), patient); return err == nil || errors.Is(err, kv.ErrNotFound) }, testkit.Slack, time.Millisecond, name)
	}
}

// A connection is never handed to anybody with a reply pending: 20,000 reads
// while the server stalls and callers give up, and each value names its id.
func TestRedisNoStrangersReply(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := redisCfg(server.URL())
	cfg.Redis.MaxConnections = 6
	s := openRedisStore(t, cfg, "docs")
	require.NoError(t, s.Upsert(t.Context(), testkit.Numbered(100)))
	var wg sync.WaitGroup
	var read, gaveUp atomic.Int64
	check := func(id string, value json.RawMessage, err error) {
		switch {
		case err == nil && string(value) == `{"id":"`+id+`"}`:
			read.Add(1)
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			gaveUp.Add(1)
		default:
			t.Errorf("%s is %s, %v", id, value, err)
		}
	}
	for range 20 {
		wg.Go(func() {
			for i := range 1000 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				if patience := rand.N(4 * time.Millisecond); i%2 == 0 {
					ctx, cancel = context.WithTimeout(ctx, patience)
				} else if i%4 == 1 {
					time.AfterFunc(patience, cancel)
				}
				ids := []string{fmt.Sprintf("id-%d", rand.N(100)), fmt.Sprintf("id-%d", rand.N(100))}
				if i%5 > 0 {
					value, err := s.Get(ctx, ids[0])
					check(ids[0], value, err)
				} else if values, err := s.GetMany(ctx, ids); err != nil {
					check(ids[0], nil, err)
				} else {
					check(ids[0], values[0], nil)
					check(ids[1], values[1], nil)
				}
				cancel()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for stalled := false; ; stalled = !stalled {
		select {
		case <-done:
			server.Resume()
			t.Logf("%d read, %d gave up", read.Load(), gaveUp.Load())
			require.Greater(t, read.Load(), int64(1000))
			require.Greater(t, gaveUp.Load(), int64(1000))
			return
		case <-time.After(15 * time.Millisecond): // The length of a stall.
			if stalled {
				server.Resume()
			} else {
				server.Pause()
			}
		}
	}
}

// Server states that pass are ErrUnavailable and say what to do; the same
// store works when they have passed.
func TestRedisStatesThatPass(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Arg("--save", "3600", "1", "--busy-reply-threshold", "1"))
	c, ctx := server.Client(), t.Context()
	dump := filepath.Join(server.Dir, "dump.rdb")
	s := openRedisStore(t, redisCfg(server.URL()), "docs")
	set := func(kv ...string) func() error {
		return func() error { return c.ConfigSet(ctx, kv[0], kv[1]).Err() }
	}
	for code, state := range map[string]struct {
		enter, leave func() error
		remedy, op   string
	}{
		"OOM":         {set("maxmemory", "1"), set("maxmemory", "0"), "maxmemory", "upsert"},
		"NOREPLICAS":  {set("min-replicas-to-write", "1"), set("min-replicas-to-write", "0"), "min-replicas-to-write", "upsert"},
		"max clients": {func() error { return errors.Join(set("maxclients", "1")(), testkit.KillTCP(ctx, server)) }, set("maxclients", "1000"), "raise maxclients", "insert"},
		"READONLY": {func() error { return c.ReplicaOf(ctx, "127.0.0.1", "1").Err() }, func() error { return c.ReplicaOf(ctx, "no", "one").Err() },
			"replica", "upsert"},
		"MASTERDOWN": {func() error {
			return errors.Join(set("replica-serve-stale-data", "no")(), c.ReplicaOf(ctx, "127.0.0.1", "1").Err())
		}, func() error { return c.ReplicaOf(ctx, "no", "one").Err() }, "master", "get"},
		"MISCONF": {func() error {
			return errors.Join(os.Mkdir(dump, 0o700), c.Set(ctx, "x", "", 0).Err(), c.BgSave(ctx).Err(), c.Del(ctx, "x").Err(), awaitFailedSave(ctx, server))
		}, func() error { return errors.Join(os.Remove(dump), set("save", "")()) }, "save", "insert"},
		"BUSY": {func() error { go c.Eval(context.Background(), "while true do end", nil); return awaitBusy(ctx, server) },
			func() error { return c.ScriptKill(ctx).Err() }, "script", "get"},
	} {
		require.NoError(t, s.Upsert(ctx, testkit.OneDoc), code)
		require.NoError(t, state.enter(), code)
		for range 2 {
			err := operations[state.op](ctx, s)
			require.ErrorIs(t, err, kv.ErrUnavailable, code)
			require.NotErrorIs(t, err, kv.ErrOutcomeUnknown, code)
			t.Logf("%s: %v", code, err)
		}
		require.NoError(t, testkit.Await(func() bool { // A full server may hang up before its words are read.
			return strings.Contains(fmt.Sprint(operations[state.op](ctx, s)), state.remedy)
		}), code)
		require.NoError(t, state.leave(), code)
		require.Eventually(t, func() bool { return s.Upsert(ctx, testkit.OneDoc) == nil }, 5*time.Second, 5*time.Millisecond, code)
	}
}

func awaitFailedSave(ctx context.Context, server *redistest.Server) error {
	return testkit.Await(func() bool {
		return strings.Contains(server.Client().Info(ctx, "persistence").Val(), "rdb_last_bgsave_status:err")
	})
}

func awaitBusy(ctx context.Context, server *redistest.Server) error {
	return testkit.Await(func() bool {
		err := server.Client().Ping(ctx).Err()
		return err != nil && strings.HasPrefix(err.Error(), "BUSY")
	})
}

// LOADING and CLUSTERDOWN are ErrUnavailable, too.
func TestRedisLoadingAndClusterDown(t *testing.T) {
	t.Parallel()
	down := redistest.Start(t, redistest.Arg("--cluster-enabled", "yes"))
	_, err := openRedisStore(t, redisCfg(down.URL()), "docs").Get(t.Context(), "a")
	require.ErrorIs(t, err, kv.ErrUnavailable)
	require.ErrorContains(t, err, "CLUSTERDOWN")

	server := redistest.Start(t, redistest.Arg("--enable-debug-command", "yes", "--key-load-delay", "700", "--loading-process-events-interval-bytes", "1024"))
	s := openRedisStore(t, redisCfg(server.URL()), "docs")
	require.NoError(t, s.Upsert(t.Context(), testkit.Numbered(1500)))
	done := make(chan struct{})
	go func() { defer close(done); server.Client().Do(context.Background(), "debug", "reload") }()
	require.NoError(t, testkit.Await(func() bool { _, err = s.Get(t.Context(), "id-1"); return err != nil }))
	require.ErrorIs(t, err, kv.ErrUnavailable)
	require.ErrorContains(t, err, "LOADING")
	<-done
	require.NoError(t, testkit.Await(func() bool { _, err = s.Get(t.Context(), "id-1"); return err == nil }))
}

// OOM in the middle of a batch: its lists partition the ids and tell the
// truth; UNLINK still works.
func TestRedisOutOfMemoryMidBatch(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Arg("--maxmemory", "8mb", "--maxmemory-policy", "noeviction"))
	s := openRedisStore(t, redisCfg(server.URL()), "docs")
	items := make(map[string]json.RawMessage)
	for i := range 400 {
		items[fmt.Sprint(i)] = json.RawMessage(`"` + strings.Repeat("x", 32<<10) + `"`)
	}
	err := s.Upsert(t.Context(), items)
	var batch *kv.BatchError
	require.ErrorAs(t, err, &batch)
	require.ErrorIs(t, err, kv.ErrUnavailable)
	require.ErrorContains(t, err, "OOM")
	require.NotErrorIs(t, err, kv.ErrOutcomeUnknown)
	all := slices.Concat(batch.Applied, batch.NotApplied, batch.Unknown)
	slices.Sort(all)
	require.Equal(t, slices.Sorted(maps.Keys(items)), all)
	require.Empty(t, batch.Unknown)
	require.NotEmpty(t, batch.Applied)
	require.Equal(t, slices.Sorted(slices.Values(batch.Applied)), listed(t, s))
	n, err := s.Delete(t.Context(), batch.Applied...)
	require.NoError(t, err)
	require.Len(t, batch.Applied, n)
	require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
}

// A server that comes back serves the same store again: no call meets a
// connection that died with the old one, not even those that are never
// repeated.
func TestRedisServerComesBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.AppendFsyncAlways())
	cfg := redisCfg(server.URL())
	cfg.Redis.MaxConnections = 5
	s := openRedisStore(t, cfg, "docs")
	for _, name := range slices.Sorted(maps.Keys(operations)) {
		require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
		var wg sync.WaitGroup
		for range 50 { // Fills the pool.
			wg.Go(func() { _, _ = s.Get(t.Context(), "a") })
		}
		wg.Wait()
		server.Kill()
		if name == "get" || name == "upsert" {
			require.ErrorIs(t, operations[name](t.Context(), s), kv.ErrUnavailable, name)
			server.Restart()
			require.NoError(t, testkit.Await(func() bool { return operations[name](t.Context(), s) == nil }))
			continue
		}
		server.Restart()
		require.NoError(t, operations[name](t.Context(), s), name)
	}
}

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

// The pool is bounded and callers wait their turn: the server has room for no
// more connections than the pool may have.
func TestRedisPoolIsBounded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	require.NoError(t, server.Client().ConfigSet(t.Context(), "maxclients", "3").Err(), "two and the test's own")
	cfg := redisCfg(server.URL())
	cfg.Redis.MaxConnections = 2
	f, err := kv.NewFactory(cfg)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			s, err := f.Open(context.Background(), fmt.Sprintf("ns%d", i%5))
			for range 10 {
				if err == nil {
					err = s.Upsert(context.Background(), testkit.Numbered(20))
				}
				if err == nil {
					_, err = s.Get(context.Background(), "id-7")
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, f.Close())
	require.Contains(t, server.Client().Info(t.Context(), "stats").Val(), "rejected_connections:0\r\n")
}

// Flush asks for BGSAVE only where that was asked for, and one that is refused
// is a warning.
func TestRedisFlush(t *testing.T) {
	server := redistest.Start(t)
	c, ctx := server.Client(), t.Context()
	server.ACL("app", "pw", "~*", "+@all", "-bgsave")
	require.NoError(t, openRedisStore(t, redisCfg(server.URL()), "docs").Flush(ctx))
	require.Zero(t, testkit.ServerCalls(t, c, "bgsave"))
	cfg, book := redisCfg(server.URL()), new(testkit.LogBook)
	cfg.Redis.SaveOnFlush = true
	require.NoError(t, openRedisStore(t, cfg, "docs", kv.WithLogger(book.Logger())).Flush(ctx))
	require.Equal(t, 1, testkit.ServerCalls(t, c, "bgsave"))
	require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(server.Dir, "dump.rdb")); return err == nil }, 5*time.Second, 5*time.Millisecond)
	require.Empty(t, book.Warnings())
	cfg.Redis.URL = kv.RedisURL("redis://app:pw@" + server.Addr)
	require.NoError(t, openRedisStore(t, cfg, "docs", kv.WithLogger(book.Logger())).Flush(ctx))
	require.Len(t, book.Warnings(), 1)
}

// A store keeps no memory it was given, not even that of a call whose caller
// has given up: -race sees a command that is built from it later.
func TestRedisAbandonedCallsLeaveTheirInput(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	s := openRedisStore(t, redisCfg("redis://"+m.Addr()), "docs")
	ids, value := make([]string, 400), json.RawMessage(`"abcdefgh"`)
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(rand.N(300*time.Microsecond), cancel)
		switch i % 4 {
		case 0:
			_, _ = s.GetMany(ctx, ids)
		case 1:
			_, _ = s.Delete(ctx, ids...)
		case 2:
			_, _ = s.Missing(ctx, ids)
		default:
			_ = s.Upsert(ctx, map[string]json.RawMessage{"x": value, "y": value})
		}
		for j := range ids {
			ids[j] = fmt.Sprint(i, j)
		}
		value[1]++
		if value[1] > 'y' {
			value[1] = 'a'
		}
		cancel()
	}
	_, err := s.GetMany(t.Context(), []string{"x", "y"})
	require.NoError(t, err)
}

// Close makes every later call fail with ErrClosed, also one that had begun.
func TestRedisCloseDuringCalls(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for round := range 20 {
		f, err := kv.NewFactory(redisCfg(server.URL()))
		require.NoError(t, err)
		opened, err := f.Open(t.Context(), "docs")
		require.NoError(t, err)
		s := opened.(builtin)
		var wg sync.WaitGroup
		for name, op := range operations {
			wg.Go(func() {
				err := error(nil)
				for err == nil || errors.Is(err, kv.ErrNotFound) {
					err = op(t.Context(), s)
				}
				if !errors.Is(err, kv.ErrClosed) {
					t.Errorf("round %d, %s: %v", round, name, err)
				}
			})
		}
		time.Sleep(rand.N(5 * time.Millisecond)) // Any moment will do.
		require.NoError(t, f.Close())
		wg.Wait()
	}
}
