package kv_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

func namespacesOf(t *testing.T, cfg kv.Config) []string {
	t.Helper()
	f, err := kv.NewFactory(cfg)
	require.NoError(t, err)
	list, err := f.Namespaces(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = f.Namespaces(t.Context())
	require.ErrorIs(t, err, kv.ErrClosed)
	return list
}

// Namespaces of files: a document file or a journal makes one, and nothing
// else does. Looking leaves no file.
func TestNamespacesOfFiles(t *testing.T) {
	dir := t.TempDir()
	cfg := kv.Config{WorkingDir: filepath.Join(dir, "none")}
	require.Empty(t, namespacesOf(t, cfg))
	require.NoFileExists(t, cfg.WorkingDir)

	cfg.WorkingDir = dir
	for _, name := range []string{
		"kv_store_b.json", "kv_store_a.json.json", "kv_store_.json", "kv_store_-x.json", "kv_store_c.journal.12",
		"kv_store_d.journal.12.torn", "kv_store_d.journal.012", "kv_store_d.journal.tmp", "kv_store_d.lock", "kv_store_d.ttl",
		"kv_store_d.json.tmp", "kv_store_d.json.previous-2026", "kv_store_e.journal.1.json", "graph.graphml",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "kv_store_dir.json"), 0o700))
	before := namesIn(t, dir)
	require.Equal(t, []string{"a.json", "b", "c", "e.journal.1"}, namespacesOf(t, cfg))
	require.Equal(t, before, namesIn(t, dir))
}

// Namespaces on Redis: those of the keys under the exact prefix, whatever
// characters it and the ids hold; keys of others are passed over.
func TestNamespacesOfRedis(t *testing.T) {
	t.Parallel()
	one, cluster := redistest.Start(t), redistest.StartCluster(t, 3, 0)
	for name, server := range map[string]struct {
		url   string
		addrs []string
	}{"one": {one.URL(), []string{one.Addr}}, "cluster": {cluster.URL(), cluster.Addrs()}} {
		t.Run(name, func(t *testing.T) {
			cfg := redisCfg(server.url)
			client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: server.addrs})
			defer client.Close()
			cfg.Redis.KeyPrefix = "p[a]*"
			require.Empty(t, namespacesOf(t, cfg))
			for _, prefix := range []string{"p[a]*", "pa", "p[a]*x"} {
				other := cfg
				other.Redis.KeyPrefix = prefix
				namespaces := []string{"other"}
				if prefix == cfg.Redis.KeyPrefix {
					namespaces = []string{"docs", "docs.x-mine"}
				}
				for _, namespace := range namespaces {
					s, err := kv.Open(t.Context(), other, namespace)
					require.NoError(t, err)
					require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{"": []byte("1"), "a:b": []byte("2"), "c": []byte("3")}))
					require.NoError(t, s.Close())
				}
			}
			f, err := kv.NewFactory(cfg)
			require.NoError(t, err)
			_, err = f.Open(t.Context(), "odd")
			require.NoError(t, err)
			for _, key := range []string{"p[a]*:", "p[a]*::x", "p[a]*:no_colon", "p[a]*:-x:y", "p[a]*:a b:y", "p[a]*"} {
				require.NoError(t, client.Set(t.Context(), key, "1", 0).Err())
			}
			list, err := f.Namespaces(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{"docs", "docs.x-mine"}, list)
			require.NoError(t, f.Close())
			require.Equal(t, list, namespacesOf(t, cfg))
		})
	}
}

// A Cluster that may not be asked for its slots is listed all the same, and a
// warning says what the listing does not notice.
func TestNamespacesWithoutClusterNodes(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	cfg := redisCfg(cluster.URL())
	require.NoError(t, openRedisStore(t, cfg, "docs").Upsert(t.Context(), testkit.OneDoc))
	for _, node := range cluster.Nodes {
		node.ACL("default", "", "~*", "&*", "+@all", "-cluster|nodes")
	}
	book := new(testkit.LogBook)
	f, err := kv.NewFactory(cfg, kv.WithLogger(book.Logger()))
	require.NoError(t, err)
	list, err := f.Namespaces(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"docs"}, list)
	require.Len(t, book.Warnings(), 1)
	require.Contains(t, book.Warnings()[0], "CLUSTER NODES")
	require.NoError(t, f.Close())
}

// register registers a backend, once for all runs of a test.
var register = sync.OnceFunc(func() {
	kv.Register("namespaces-test", func(context.Context, kv.Config, string) (kv.Store, error) { return nil, nil })
})

// A registered backend is not asked, and a server that is not there is an
// error, not an empty list.
func TestNamespacesFail(t *testing.T) {
	f, err := kv.NewFactory(redisCfg("redis://127.0.0.1:1"))
	require.NoError(t, err)
	_, err = f.Namespaces(t.Context())
	require.ErrorIs(t, err, kv.ErrUnavailable)
	require.NoError(t, f.Close())

	register()
	f, err = kv.NewFactory(kv.Config{Backend: "namespaces-test"})
	require.NoError(t, err)
	_, err = f.Namespaces(t.Context())
	require.ErrorIs(t, err, kv.ErrInvalid)
	require.NoError(t, f.Close())
}
