package kv_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvtest"
)

// contractOn runs the suite on servers that its cases use one after the
// other. admin may do everything there.
func contractOn(t *testing.T, cfg kv.RedisConfig, admin []*redis.Client, opts ...kv.Option) {
	kvtest.Run(t, func(t *testing.T) kvtest.Harness {
		for _, server := range admin {
			require.NoError(t, server.FlushAll(t.Context()).Err())
		}
		cfg := kv.Config{Backend: "redis", NoMigrate: true, Redis: cfg, MaxValueBytes: tight}
		return kvtest.Harness{Open: newOpener(t, cfg, same, opts...).open, Persistent: true, MaxValueBytes: tight}
	})
}

// On a real server, every command by itself, with a circuit that is closed.
func TestContractRedisAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := kv.RedisConfig{URL: kv.RedisURL(server.URL()), CircuitFailures: 1000}
	contractOn(t, cfg, []*redis.Client{server.Client()}, kv.WithoutAutoPipelining())
}

// A user who may do what docs/configuration.md lists, and no more.
func TestContractLeastPrivilege(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Password("not this"))
	rights := "resetchannels ~nano_graphrag:* +get +mget +set +mset +unlink +exists +scan +ping +hello +auth +select +client|tracking +pttl"
	server.ACL("app", "p w", strings.Fields(rights)...)
	cfg := kv.RedisConfig{URL: kv.RedisURL("redis://" + server.Addr), Username: "app", Password: "p w"}
	contractOn(t, cfg, []*redis.Client{server.Client()})
}

func TestContractSentinel(t *testing.T) {
	t.Parallel()
	group := redistest.StartSentinel(t, 1, 3)
	contractOn(t, kv.RedisConfig{URL: kv.RedisURL(group.URL())}, []*redis.Client{group.Master().Client()})
}

func TestContractCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	var admin []*redis.Client
	for _, node := range cluster.Nodes {
		admin = append(admin, node.Client())
	}
	contractOn(t, kv.RedisConfig{URL: kv.RedisURL(cluster.URL())}, admin)
}
