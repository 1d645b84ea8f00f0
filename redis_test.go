package kv_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// Key <prefix>:<namespace>:<id>, a string holding the JSON text. No other key
// type, nothing else under that prefix or elsewhere.
func TestRedisKeysAndValues(t *testing.T) {
	server := redistest.Start(t)
	c, ctx := server.Client(), t.Context()
	cfg := redisCfg(server.URL())
	cfg.Redis.KeyPrefix = "my app:x"
	s := openRedisStore(t, cfg, "a.b-c")
	items := map[string]json.RawMessage{"": json.RawMessage(`null`), "x:y z*?[]\\\n": json.RawMessage(`{ "b":1.0,"a":"\u00e9" }`), "é": json.RawMessage(`1e400`)}
	require.NoError(t, s.Upsert(ctx, items))
	n, err := s.Insert(ctx, map[string]json.RawMessage{"é": json.RawMessage(`2`), "new": json.RawMessage(`3`)})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	items["new"] = json.RawMessage(`3`)
	var want []string
	for id, value := range items {
		key := "my app:x:a.b-c:" + id
		want = append(want, key)
		require.Equal(t, string(value), c.Get(ctx, key).Val())
		require.Equal(t, "string", c.Type(ctx, key).Val())
	}
	slices.Sort(want)
	require.Equal(t, want, testkit.AllKeys(t, c))
	require.NoError(t, s.Drop(ctx))
	require.Zero(t, c.DBSize(ctx).Val())
}

// A value and its TTL travel in one command, in milliseconds; a plain Upsert
// restarts or clears it; 0 is for ever.
func TestRedisTimeToLive(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c, ctx := server.Client(), t.Context()
	cfg := redisCfg(server.URL())
	cfg.TTL = map[string]time.Duration{"timed": time.Hour}
	doc := map[string]json.RawMessage{"a": json.RawMessage(`1`)}
	timed, plain := openRedisStore(t, cfg, "timed"), openRedisStore(t, cfg, "plain")
	left := func(ns string) time.Duration { return c.PTTL(ctx, "nano_graphrag:"+ns+":a").Val() }

	require.NoError(t, timed.Upsert(ctx, doc))
	require.InDelta(t, time.Hour, left("timed"), float64(time.Minute))
	require.NoError(t, timed.UpsertTTL(ctx, doc, 90*time.Minute+time.Microsecond))
	require.InDelta(t, 90*time.Minute, left("timed"), float64(time.Minute))
	require.NoError(t, timed.Upsert(ctx, doc))
	require.InDelta(t, time.Hour, left("timed"), float64(time.Minute), "Upsert restarts the namespace's")
	ttl, err := timed.TTL(ctx, "a")
	require.NoError(t, err)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))
	require.NoError(t, timed.UpsertTTL(ctx, doc, 0))
	require.EqualValues(t, -1, left("timed"))

	require.NoError(t, plain.UpsertTTL(ctx, doc, time.Minute))
	require.NoError(t, plain.Upsert(ctx, doc))
	require.EqualValues(t, -1, left("plain"), "Upsert clears it where the namespace has none")
	n, err := timed.Insert(ctx, map[string]json.RawMessage{"b": json.RawMessage(`2`)})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Positive(t, c.PTTL(ctx, "nano_graphrag:timed:b").Val())

	require.NoError(t, plain.UpsertTTL(ctx, doc, 150*time.Millisecond+time.Nanosecond))
	require.LessOrEqual(t, left("plain"), 151*time.Millisecond)
	require.Eventually(t, func() bool { _, err := plain.Get(ctx, "a"); return errors.Is(err, kv.ErrNotFound) }, 5*time.Second, 10*time.Millisecond)
	for _, command := range []string{"expire", "pexpire", "setex", "psetex", "multi"} {
		require.Zero(t, testkit.ServerCalls(t, c, command), command)
	}
}

// A short time to live never becomes 0 or "for ever": miniredis sees the
// command's own argument.
func TestRedisTTLRoundsUpToTheMillisecond(t *testing.T) {
	m := miniredis.RunT(t)
	s := openRedisStore(t, redisCfg("redis://"+m.Addr()), "docs")
	for ttl, want := range map[time.Duration]time.Duration{1: time.Millisecond, time.Millisecond: time.Millisecond,
		time.Millisecond + 1: 2 * time.Millisecond, 1500 * time.Microsecond: 2 * time.Millisecond} {
		require.NoError(t, s.UpsertTTL(t.Context(), map[string]json.RawMessage{"a": json.RawMessage(`1`)}, ttl))
		require.Equal(t, want, m.TTL("nano_graphrag:docs:a"), "%v", ttl)
	}
}

// Go reads what Python wrote, byte by byte, and Python finds what Go wrote:
// the same keys, valid JSON, the same values (interop.md).
func TestRedisInteropWithPython(t *testing.T) {
	lines := bytes.Split(bytes.TrimSpace(testkit.GoldenData(t, "redis.ndjson")), []byte("\n"))
	var file map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(testkit.GoldenData(t, "kv_store_golden.json"), &file))
	server := redistest.Start(t)
	c, ctx := server.Client(), t.Context()
	s := openRedisStore(t, redisCfg(server.URL()), "golden")
	written := make(map[string]string)
	for _, line := range lines {
		var entry struct{ Key, Value string }
		require.NoError(t, json.Unmarshal(line, &entry))
		written[entry.Key] = entry.Value
		require.NoError(t, c.Set(ctx, entry.Key, entry.Value, 0).Err())
	}
	require.Len(t, written, 200)
	require.Equal(t, slices.Sorted(maps.Keys(file)), listed(t, s))
	for id := range file {
		value, err := s.Get(ctx, id)
		require.NoError(t, err)
		require.Equal(t, written["nano_graphrag:golden:"+id], string(value))
	}
	require.NoError(t, s.Drop(ctx))
	require.Zero(t, c.DBSize(ctx).Val())
	require.NoError(t, s.Upsert(ctx, file))
	require.Equal(t, slices.Sorted(maps.Keys(written)), testkit.AllKeys(t, c))
	for key, value := range written {
		text, err := c.Get(ctx, key).Bytes()
		require.NoError(t, err)
		require.True(t, json.Valid(text))
		require.Equal(t, testkit.Decoded(t, []byte(value)), testkit.Decoded(t, text))
	}
}

// Drop removes this namespace and no other, and Keys lists no other, whatever
// characters prefixes and ids hold (reliability.md, 11).
func TestRedisOtherPeoplesData(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c, ctx := server.Client(), t.Context()
	for _, prefix := range []string{"nano_graphrag", "p*", "[x]", "p?", `p\`, "p^[^a]", "p:q", "é{1}"} {
		require.NoError(t, c.FlushAll(ctx).Err())
		var others []string
		for _, other := range []string{":ab:x", ":A:x", ":a", "x:a:x", "", ":a.b:x", ":b:a:x"} {
			others = append(others, prefix+other)
		}
		others = append(others, "pp:a:1", "x:a:1", "p:a:1", "other:"+prefix+":a:x", "p*:b:a:1", "nano_graphragg:a:x")
		for _, key := range others {
			require.NoError(t, c.Set(ctx, key, "theirs", 0).Err())
		}
		slices.Sort(others)
		cfg := redisCfg(server.URL())
		cfg.Redis.KeyPrefix = prefix
		s := openRedisStore(t, cfg, "a")
		require.Empty(t, listed(t, s), prefix)
		require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"b:x": json.RawMessage(`1`), "*": json.RawMessage(`2`), "": json.RawMessage(`3`)}))
		require.Equal(t, []string{"", "*", "b:x"}, listed(t, s), prefix)
		n, err := s.Delete(ctx, "*", "*", "nothing")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.NoError(t, s.Drop(ctx))
		require.Equal(t, slices.Compact(others), testkit.AllKeys(t, c), prefix)
	}
}

// Keys yields every id once, in a database that others fill, too, and while
// the table is rehashed, when SCAN repeats itself.
func TestRedisKeysOfALargeSharedDatabase(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c, ctx := server.Client(), t.Context()
	require.NoError(t, c.Eval(ctx, `for i = 1, 30000 do redis.call('SET', 'session:' .. i, 'x') end return 1`, nil).Err())
	s := openRedisStore(t, redisCfg(server.URL()), "docs")
	items := testkit.Numbered(10_000)
	require.NoError(t, s.Upsert(ctx, items))
	want := slices.Sorted(maps.Keys(items))
	require.Equal(t, want, listed(t, s))

	var got []string
	for id, err := range s.Keys(ctx) {
		require.NoError(t, err)
		if len(got)%2000 == 0 { // Shrinks or grows the table below the cursor.
			script := `for i = 1, 60000 do redis.call(ARGV[1], 'session:' .. i, ARGV[2]) end return 1`
			require.NoError(t, c.Eval(ctx, script, nil, "SET", "x").Err())
			require.NoError(t, c.Eval(ctx, `for i = 1, 60000 do redis.call('UNLINK', 'session:' .. i) end return 1`, nil).Err())
		}
		got = append(got, id)
	}
	slices.Sort(got)
	require.Equal(t, want, got)
	values, err := s.GetMany(ctx, want)
	require.NoError(t, err)
	for i, id := range want {
		require.JSONEq(t, string(items[id]), string(values[i]))
	}
	n, err := s.Delete(ctx, want[:7000]...)
	require.NoError(t, err)
	require.Equal(t, 7000, n)
	require.NoError(t, s.Drop(ctx))
	require.Zero(t, c.DBSize(ctx).Val())
}

// WRONGTYPE, or bytes that are not JSON, under our prefix: ErrCorrupt for that
// id alone, which is listed and can be removed and replaced.
func TestRedisCorruptIsOneID(t *testing.T) {
	server := redistest.Start(t)
	c, ctx := server.Client(), t.Context()
	s := openRedisStore(t, redisCfg(server.URL()), "docs")
	require.NoError(t, s.Upsert(ctx, testkit.Numbered(2)))
	require.NoError(t, c.HSet(ctx, "nano_graphrag:docs:hash", "f", "GEHEIM").Err())
	require.NoError(t, c.LPush(ctx, "nano_graphrag:docs:list", "v").Err())
	require.NoError(t, c.Set(ctx, "nano_graphrag:docs:nan", `{"GEHEIM": NaN}`, 0).Err())
	require.NoError(t, c.Set(ctx, "nano_graphrag:docs:empty", "", 0).Err())
	bad := []string{"empty", "hash", "list", "nan"}
	for _, id := range bad {
		_, err := s.Get(ctx, id)
		require.ErrorIs(t, err, kv.ErrCorrupt, id)
		require.NotErrorIs(t, err, kv.ErrUnavailable)
		require.NotContains(t, err.Error(), "GEHEIM")
		var e *kv.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, id, e.ID)
	}
	values, err := s.GetMany(ctx, []string{"id-0", "hash", "none", "nan", "id-1"})
	require.ErrorIs(t, err, kv.ErrCorrupt)
	require.Len(t, values, 5)
	require.JSONEq(t, `{"id":"id-0"}`, string(values[0]))
	require.JSONEq(t, `{"id":"id-1"}`, string(values[4]))
	require.Nil(t, values[1])
	require.Nil(t, values[2])
	require.Nil(t, values[3])
	require.Equal(t, slices.Sorted(slices.Values(append([]string{"id-0", "id-1"}, bad...))), listed(t, s))
	absent, err := s.Missing(ctx, append(slices.Clone(bad), "none"))
	require.NoError(t, err)
	require.Equal(t, []string{"none"}, absent)
	require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"hash": json.RawMessage(`1`)}))
	n, err := s.Delete(ctx, bad...)
	require.NoError(t, err)
	require.Equal(t, 4, n)
}

// The stores of a factory share one client; Close closes everything; the
// factory is safe for concurrent use.
func TestRedisFactorySharesOneClient(t *testing.T) {
	server := redistest.Start(t)
	book := new(testkit.LogBook)
	cfg := redisCfg(server.URL())
	cfg.Redis.MaxConnections = 3
	cfg.Warnings = []string{"a remark"}
	f, err := kv.NewFactory(cfg, kv.WithLogger(book.Logger()))
	require.NoError(t, err)
	require.Zero(t, testkit.TCPClients(t, server), "NewFactory connects to nothing")
	var wg sync.WaitGroup
	stores := make([]kv.Store, 40)
	for i := range stores {
		wg.Go(func() {
			s, err := f.Open(context.Background(), fmt.Sprintf("ns%d", i%8))
			if err == nil {
				err = s.Upsert(context.Background(), testkit.Numbered(20))
			}
			if err != nil {
				t.Error(err)
			}
			stores[i] = s
		})
	}
	wg.Wait()
	require.LessOrEqual(t, testkit.TCPClients(t, server), 3)
	require.NoError(t, stores[0].Close())
	require.NoError(t, stores[0].Close(), "closing twice is fine")
	_, err = stores[0].Get(t.Context(), "id-1")
	require.ErrorIs(t, err, kv.ErrClosed)
	_, err = stores[8].Get(t.Context(), "id-1")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	_, err = stores[8].Get(t.Context(), "id-1")
	require.ErrorIs(t, err, kv.ErrClosed)
	_, err = f.Open(t.Context(), "ns1")
	require.ErrorIs(t, err, kv.ErrClosed)
	require.Eventually(t, func() bool { return testkit.TCPClients(t, server) == 0 }, 5*time.Second, 5*time.Millisecond)
	require.Len(t, book.Warnings(), 1, "warnings come once")
}

// registered makes names of backends, which stay registered.
var registered atomic.Int64

// Register adds a backend as database/sql does; the client of WithRedisClient
// stays its owner's.
func TestRegisterAndWithRedisClient(t *testing.T) {
	var seen kv.Config
	other := fmt.Sprintf("redis-test-backend-%d", registered.Add(1))
	kv.Register(other, func(_ context.Context, cfg kv.Config, ns string) (kv.Store, error) {
		seen = cfg
		return nil, fmt.Errorf("%w: %s", kv.ErrUnavailable, ns)
	})
	require.Contains(t, kv.Backends(), other)
	for _, name := range []string{other, "redis", "json", ""} {
		require.Panics(t, func() {
			kv.Register(name, func(context.Context, kv.Config, string) (kv.Store, error) { return nil, nil })
		}, name)
	}
	require.Panics(t, func() { kv.Register("none", nil) })

	m := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1})
	defer client.Close()
	cfg := kv.Config{Backend: "redis", Redis: kv.RedisConfig{KeyPrefix: "mine"}}
	s, err := kv.Open(t.Context(), cfg, "docs", kv.WithRedisClient(client), kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	require.NoError(t, s.Upsert(t.Context(), testkit.Numbered(1)))
	require.NoError(t, s.Close())
	require.Equal(t, `{"id":"id-0"}`, client.Get(t.Context(), "mine:docs:id-0").Val(), "the client is still open")
	_, err = kv.Open(t.Context(), kv.Config{Backend: other, WorkingDir: "here"}, "docs")
	require.ErrorIs(t, err, kv.ErrUnavailable)
	require.Equal(t, "here", seen.WorkingDir)
}

// One UniversalClient serves Cluster and Sentinel, too: batches over many
// slots, and Keys and Drop on every master (reliability.md, 3).
func TestRedisClusterAndSentinel(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	sentinel := redistest.StartSentinel(t, 1, 1, redistest.Password("p w"))
	for _, url := range []string{cluster.URL(), sentinel.URL()} {
		ctx := t.Context()
		s := openRedisStore(t, redisCfg(url), "docs")
		other := openRedisStore(t, redisCfg(url), "docs2")
		require.NoError(t, other.Upsert(ctx, testkit.Numbered(50)))
		items := testkit.Numbered(1000)
		require.NoError(t, s.Upsert(ctx, items))
		want := slices.Sorted(maps.Keys(items))
		require.Equal(t, want, listed(t, s))
		values, err := s.GetMany(ctx, want)
		require.NoError(t, err)
		for i, id := range want {
			require.Equal(t, string(items[id]), string(values[i]))
		}
		value, err := s.Get(ctx, "id-7")
		require.NoError(t, err)
		require.JSONEq(t, `{"id":"id-7"}`, string(value))
		absent, err := s.Missing(ctx, append(want, "none"))
		require.NoError(t, err)
		require.Equal(t, []string{"none"}, absent)
		n, err := s.Insert(ctx, testkit.Numbered(1010))
		require.NoError(t, err)
		require.Equal(t, 10, n)
		n, err = s.Delete(ctx, want[:100]...)
		require.NoError(t, err)
		require.Equal(t, 100, n)
		require.NoError(t, s.Drop(ctx))
		require.Empty(t, listed(t, s))
		require.Len(t, listed(t, other), 50)
	}
}

// MOVED and ASK are followed and never leaked, for single commands and in
// batches (reliability.md, condition table).
func TestRedisClusterRedirections(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2, 0)
	ctx, s := t.Context(), openRedisStore(t, redisCfg(cluster.URL()), "docs")
	items := testkit.Numbered(1000)
	ids := slices.Sorted(maps.Keys(items))
	slots := make([]int, 400)
	for i := range slots {
		slots[i] = i
	}
	check := func(present int) {
		t.Helper()
		n, err := s.Insert(ctx, items)
		require.NoError(t, err)
		require.Equal(t, len(ids)-present, n)
		values, err := s.GetMany(ctx, ids)
		require.NoError(t, err)
		for i, id := range ids {
			require.Equal(t, string(items[id]), string(values[i]))
			value, err := s.Get(ctx, id)
			require.NoError(t, err)
			require.Equal(t, string(items[id]), string(value))
		}
		require.NoError(t, s.Upsert(ctx, items))
	}
	finish := cluster.BeginMove(cluster.Nodes[0], cluster.Nodes[1], slots)
	check(0)
	finish()
	check(len(ids))
	n, err := s.Delete(ctx, ids...)
	require.NoError(t, err)
	require.Equal(t, len(ids), n)
}

// The least privileges of reliability.md are enough, over TCP, TLS and the
// unix socket.
func TestRedisLeastPrivilege(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Password("not this"))
	server.ACL("app", "p w", append([]string{"resetchannels", "~nano_graphrag:*"}, strings.Fields("+get +mget +set +mset +unlink +exists +scan +ping +hello +auth +select +client|tracking +pttl")...)...)
	for _, url := range []string{"redis://" + server.Addr + "/3", "unix://" + server.Socket} {
		cfg := redisCfg(url)
		cfg.Redis.Username, cfg.Redis.Password = "app", "p w"
		s := openRedisStore(t, cfg, "docs")
		for _, name := range []string{"upsert", "get", "getmany", "missing", "keys", "ttl", "upsertttl", "insert", "ping", "flush", "delete", "drop"} {
			require.NoError(t, operations[name](t.Context(), s), name)
		}
	}
}

// A given client is its owner's: it works on after the store and its factory
// were closed.
func TestRedisGivenClientOutlivesTheStore(t *testing.T) {
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1})
	defer client.Close()
	s, err := kv.Open(t.Context(), redisCfg(""), "docs", kv.WithRedisClient(client))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, client.Ping(t.Context()).Err())
}
