package kv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// durable is a server that nothing is wrong with.
func durable(args ...string) []redistest.Option {
	return []redistest.Option{redistest.Arg(append([]string{"--appendonly", "yes"}, args...)...)}
}

// A settings table: what a server configured so makes Check say of a
// namespace that lives for ever, and of one with a time to live
// (reliability.md, finding 9).
func TestRedisCheckSettings(t *testing.T) {
	for name, tt := range map[string]struct {
		options           []redistest.Option
		forEver, expiring []string
	}{
		"good":            {durable(), nil, nil},
		"bounded":         {durable("--maxmemory", "100mb"), nil, nil},
		"allkeys":         {durable("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"), []string{"redis-evicts-documents"}, []string{"redis-evicts-early"}},
		"volatile":        {durable("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"), []string{"redis-evicts-early"}, []string{"redis-evicts-early"}},
		"allkeys, no max": {durable("--maxmemory-policy", "allkeys-lru"), nil, nil},
		"nothing kept":    {nil, []string{"redis-not-durable"}, nil},
		"snapshots":       {[]redistest.Option{redistest.Arg("--save", "3600", "1")}, []string{"redis-snapshots-only"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, append(tt.options, redistest.Password(planted))...)
			f, err := kv.NewFactory(redisCfg(server.URL()), quietly())
			require.NoError(t, err)
			defer f.Close()
			for namespace, want := range map[string][]string{"docs": tt.forEver, "llm_response_cache": tt.expiring} {
				s, err := f.Open(t.Context(), namespace)
				require.NoError(t, err)
				require.NoError(t, s.Upsert(t.Context(), one1(planted, `"`+planted+`"`)))
				require.ElementsMatch(t, want, found(t, wrappedStore{s}), namespace)
			}
		})
	}
}

// Memory that runs out is said before writes are refused, and where anything
// may be evicted it is the eviction that is said.
func TestRedisCheckMemory(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, durable()...)
	c := server.Client()
	s := openRedisStore(t, redisCfg(server.URL()), "docs", quietly())
	for i := range 1000 {
		require.NoError(t, c.Set(t.Context(), fmt.Sprint("ballast", i), strings.Repeat("x", 20<<10), 0).Err())
	}
	used := func() float64 { // Without the append-only file's buffer, which comes and goes.
		number := func(field string) int64 { return testkit.ServerInfo(t, c, "memory", field) }
		return float64(number("used_memory") - number("mem_not_counted_for_evict"))
	}
	for _, tt := range []struct {
		policy string
		part   float64
		want   []string
	}{
		{"noeviction", 0.7, nil},
		{"noeviction", 0.88, []string{"redis-memory-high"}},
		{"noeviction", 0.98, []string{"redis-memory-full"}},
		{"volatile-lru", 0.98, []string{"redis-memory-high", "redis-evicts-early"}},
		{"allkeys-lru", 0.98, []string{"redis-evicts-documents"}},
	} {
		require.NoError(t, c.ConfigSet(t.Context(), "maxmemory-policy", tt.policy).Err())
		require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(int64(used()/tt.part))).Err())
		require.Equal(t, tt.want, orNil(found(t, s)), tt)
	}
	// It evicts: the policy is wrong, and it has done harm.
	require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "10mb").Err())
	require.NoError(t, c.Set(t.Context(), "small", "x", 0).Err())
	require.Equal(t, []string{"redis-evicts-documents", "redis-evicted"}, found(t, s))
	require.NoError(t, c.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "0").Err())
	require.Equal(t, []string{"redis-evicted"}, found(t, s), "the policy was mended, and the harm is done")
}

func orNil(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

func one1(id, value string) map[string]json.RawMessage {
	return map[string]json.RawMessage{id: json.RawMessage(value)}
}

// A replica, its master, and how they are connected.
func TestRedisCheckReplication(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	master := redistest.Start(t, durable()...)
	host, port, err := net.SplitHostPort(master.Addr)
	require.NoError(t, err)
	replica := redistest.Start(t, durable("--replicaof", host, port)...)
	up := func() bool {
		return strings.Contains(replica.Client().Info(ctx, "replication").Val(), "master_link_status:up") &&
			strings.Contains(master.Client().Info(ctx, "replication").Val(), "state=online")
	}
	require.NoError(t, testkit.Await(up))
	m, r := openRedisStore(t, redisCfg(master.URL()), "docs", quietly()), openRedisStore(t, redisCfg(replica.URL()), "docs", quietly())
	require.Equal(t, []string{"redis-async-replication"}, found(t, m))
	require.Equal(t, []string{"redis-replica"}, found(t, r))
	for want, codes := range map[string][]string{"1": nil, "2": {"redis-too-few-replicas"}} {
		require.NoError(t, master.Client().ConfigSet(ctx, "min-replicas-to-write", want).Err())
		require.NoError(t, testkit.Await(func() bool { // Counted once a second.
			return strings.Contains(master.Client().Info(ctx, "replication").Val(), "min_slaves_good_slaves:1")
		}))
		require.Equal(t, codes, orNil(found(t, m)), want)
	}
	require.NoError(t, replica.Client().ReplicaOf(ctx, "no", "one").Err())
	require.NoError(t, testkit.Await(func() bool {
		return strings.Contains(master.Client().Info(ctx, "replication").Val(), "min_slaves_good_slaves:0")
	}))
	require.Equal(t, []string{"redis-too-few-replicas"}, found(t, m))

	// One that waits for its first copy is not in sync.
	require.NoError(t, master.Client().ConfigSet(ctx, "min-replicas-to-write", "0").Err())
	require.NoError(t, master.Client().ConfigSet(ctx, "repl-diskless-sync-delay", "600").Err())
	require.NoError(t, replica.Client().ReplicaOf(ctx, host, port).Err())
	require.NoError(t, testkit.Await(func() bool {
		return strings.Contains(master.Client().Info(ctx, "replication").Val(), "state=wait_bgsave")
	}))
	require.Equal(t, []string{"redis-replica-link", "redis-async-replication"}, found(t, m))
	require.Equal(t, []string{"redis-replica", "redis-replica-link"}, found(t, r))
}

// Too many clients, and a pool that may be the one too many.
func TestRedisCheckClients(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, durable("--maxclients", "20")...)
	cfg := redisCfg(server.URL())
	require.Equal(t, []string{"redis-clients"}, found(t, openRedisStore(t, cfg, "docs", quietly())))
	cfg.Redis.MaxConnections = 5
	s := openRedisStore(t, cfg, "docs", quietly())
	require.Empty(t, found(t, s))
	// The test's own connection must be there before the others are taken.
	require.NoError(t, server.Client().Ping(t.Context()).Err())
	var conns []net.Conn
	for range 30 {
		c, err := net.Dial("tcp", server.Addr)
		require.NoError(t, err)
		defer c.Close()
		conns = append(conns, c)
	}
	require.NoError(t, testkit.Await(func() bool {
		return testkit.ServerInfo(t, server.Client(), "stats", "rejected_connections") > 0
	}))
	require.Equal(t, []string{"redis-clients", "redis-rejected-connections"}, found(t, s))
	for _, c := range conns {
		_ = c.Close()
	}
	require.NoError(t, testkit.Await(func() bool {
		return testkit.ServerInfo(t, server.Client(), "clients", "connected_clients") < 10
	}))
	require.Equal(t, []string{"redis-rejected-connections"}, found(t, s))
}

// A server that cannot save is dangerous, since it may refuse writes.
func TestRedisCheckFailedSave(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, durable()...)
	s := openRedisStore(t, redisCfg(server.URL()), "docs", quietly())
	require.NoError(t, os.Mkdir(filepath.Join(server.Dir, "dump.rdb"), 0o700))
	require.NoError(t, server.Client().BgSave(t.Context()).Err())
	require.NoError(t, awaitFailedSave(t.Context(), server))
	require.Equal(t, []string{"redis-save-failed"}, found(t, s))
}

// What else writes under our prefix is found in a sample, which says how many
// keys it looked at.
func TestRedisCheckForeignValues(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t, durable()...)
	c := server.Client()
	s := openRedisStore(t, redisCfg(server.URL()), "docs", quietly())
	require.NoError(t, s.Upsert(ctx, testkit.Numbered(7)))
	require.NoError(t, c.Set(ctx, "nano_graphrag:docs2:"+planted, planted, 0).Err())
	require.Empty(t, found(t, s), "another namespace's is not ours")
	require.NoError(t, c.Set(ctx, "nano_graphrag:docs:"+planted, planted, 0).Err())
	require.NoError(t, c.LPush(ctx, "nano_graphrag:docs:list", planted).Err())
	require.NoError(t, c.Set(ctx, "nano_graphrag:docs:\xff", "1", 0).Err())
	require.Equal(t, []string{"redis-foreign-values"}, found(t, s))
	require.Contains(t, kv.Check(ctx, s)[0].Text, "3 of 10 ")

	require.NoError(t, s.Upsert(ctx, testkit.Numbered(3000)))
	require.NoError(t, c.ConfigResetStat(ctx).Err())
	found(t, s)
	require.LessOrEqual(t, testkit.ServerCalls(t, c, "get"), 100)
	require.LessOrEqual(t, testkit.ServerCalls(t, c, "scan"), 20)
	for _, command := range []string{"set", "unlink", "del", "config|set", "keys"} {
		require.Zero(t, testkit.ServerCalls(t, c, strings.ReplaceAll(command, "|", `\|`)), command)
	}
}

// What the user may not look at is named with the grant, and the rest is
// looked at all the same. An Open that may not look does not fail.
func TestRedisCheckNotPermitted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	least := strings.Fields("resetchannels ~nano_graphrag:* +get +mget +set +mset +unlink +exists +scan +ping +hello +auth +select +client|tracking +pttl")
	for grants, want := range map[string][]string{
		"":                  {"redis-not-permitted"},
		"+info":             {"redis-not-permitted"},
		"+info +config|get": {"redis-not-durable"},
		"+info -scan":       {"redis-not-permitted", "redis-not-permitted"},
	} {
		server.ACL("app", planted, append(least, strings.Fields(grants)...)...)
		book := new(testkit.LogBook)
		s := openRedisStore(t, redisCfg("redis://app:"+planted+"@"+server.Addr), "docs", kv.WithLogger(book.Logger()))
		require.Empty(t, book.Warnings())
		require.NotContains(t, book.Text(), "level=ERROR")
		list := kv.Check(t.Context(), s)
		require.Equal(t, want, sound(t, list), grants)
		require.NoError(t, s.Close())
	}
}

// A server that is gone is a danger, not an absence of findings.
func TestRedisCheckUnavailable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, durable()...)
	s := openRedisStore(t, redisCfg(server.URL()), "docs", quietly())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, []string{"check-cut-short"}, sound(t, kv.Check(ctx, s)))
	server.Kill()
	list := kv.Check(t.Context(), s)
	require.Equal(t, []string{"unavailable"}, sound(t, list))
	require.Equal(t, server.Addr, list[0].Where)
}

// Each master of a Cluster is asked, and the Cluster itself.
func TestRedisCheckCluster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cluster := redistest.StartCluster(t, 2, 0, durable("--cluster-require-full-coverage", "no")...)
	for _, node := range cluster.Nodes {
		require.NoError(t, node.Client().ConfigResetStat(ctx).Err())
	}
	s := openRedisStore(t, redisCfg(cluster.URL()), "docs", quietly())
	for _, node := range cluster.Nodes {
		require.Equal(t, 1, testkit.ServerCalls(t, node.Client(), "info"), "an Open asks each master once")
		require.Zero(t, testkit.ServerCalls(t, node.Client(), `cluster\|info`), "and no more")
	}
	require.Empty(t, found(t, s))
	alone := openRedisStore(t, redisCfg("redis://"+cluster.Nodes[0].Addr), "docs", quietly())
	require.Contains(t, found(t, alone), "redis-cluster-not-named")

	second := cluster.Nodes[1]
	require.NoError(t, second.Client().ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err())
	require.NoError(t, second.Client().ConfigSet(ctx, "maxmemory", "100mb").Err())
	list := kv.Check(ctx, s)
	require.Equal(t, []string{"redis-evicts-documents"}, sound(t, list))
	require.Equal(t, second.Addr, list[0].Where)
	require.NoError(t, second.Client().ConfigSet(ctx, "maxmemory", "0").Err())

	for _, node := range cluster.Nodes {
		require.NoError(t, node.Client().Do(ctx, "cluster", "delslotsrange", 0, 99).Err())
	}
	list = kv.Check(ctx, s)
	require.Contains(t, sound(t, list), "redis-cluster-broken")
	require.Contains(t, list[0].Text, "100 of 16384")
	for _, node := range cluster.Nodes {
		require.NoError(t, node.Client().ConfigSet(ctx, "cluster-require-full-coverage", "yes").Err())
		require.NoError(t, node.Client().Do(ctx, "cluster", "delslotsrange", 100, 199).Err())
		require.NoError(t, testkit.Await(func() bool { return strings.Contains(node.Client().ClusterInfo(ctx).Val(), "cluster_state:fail") }))
	}
	list = kv.Check(ctx, s)
	require.Contains(t, sound(t, list), "redis-cluster-broken")
	require.Contains(t, fmt.Sprint(list), "The cluster is down")
}

// The dangerous findings are logged with the first namespace that they
// concern, once for a factory, with one INFO for each Open.
func TestRedisOpenSaysDangers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Arg("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"))
	book := new(testkit.LogBook)
	f, err := kv.NewFactory(redisCfg(server.URL()), kv.WithLogger(book.Logger()))
	require.NoError(t, err)
	defer f.Close()
	dangers := func() int { return strings.Count(book.Text(), "level=ERROR") }
	for _, tt := range []struct {
		namespace string
		said      int
	}{{"llm_response_cache", 0}, {"full_docs", 1}, {"text_chunks", 1}, {"full_docs", 1}} {
		require.NoError(t, server.Client().ConfigResetStat(t.Context()).Err())
		_, err := f.Open(t.Context(), tt.namespace)
		require.NoError(t, err)
		require.Equal(t, tt.said, dangers(), tt.namespace)
		for _, command := range []string{"config", "config|get", "scan", "get"} {
			require.Zero(t, testkit.ServerCalls(t, server.Client(), strings.ReplaceAll(command, "|", `\|`)), command)
		}
	}
	require.Contains(t, book.Text(), "code=redis-evicts-documents severity=danger where="+server.Addr+" namespace=full_docs remedy=")
	require.NotContains(t, book.Text(), "redis-not-durable", "a warning waits until somebody asks")

	quiet := new(testkit.LogBook)
	openRedisStore(t, redisCfg(server.URL()), "full_docs", kv.WithLogger(quiet.Logger()), kv.WithReadOnly())
	require.NotContains(t, quiet.Text(), "level=ERROR", "one who only looks has Check")
}

// A client that was given is checked, too.
func TestRedisCheckGivenClient(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, durable("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")...)
	client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	defer client.Close()
	s := openRedisStore(t, redisCfg(""), "docs", kv.WithRedisClient(client), quietly())
	require.Equal(t, []string{"redis-evicts-documents"}, found(t, s))
}
