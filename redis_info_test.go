package kv_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
)

// Tools find the fields of INFO by As, of each master of a Cluster; files have
// no servers.
func TestServerInfo(t *testing.T) {
	t.Parallel()
	ask := func(s kv.Store) (map[string]map[string]string, error) {
		informer, ok := kv.As[interface {
			ServerInfo(context.Context) (map[string]map[string]string, error)
		}](s)
		require.True(t, ok)
		return informer.ServerInfo(t.Context())
	}
	cluster := redistest.StartCluster(t, 3, 0)
	s := openRedisStore(t, redisCfg(cluster.URL()), "docs", kv.WithLogger(slog.New(slog.DiscardHandler)))
	all, err := ask(s)
	require.NoError(t, err)
	require.ElementsMatch(t, cluster.Addrs(), slices.Sorted(maps.Keys(all)))
	for _, info := range all {
		require.Equal(t, "master", info["role"])
	}
	require.NoError(t, s.Close())
	_, err = ask(s)
	require.ErrorIs(t, err, kv.ErrClosed)

	files, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, "docs", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer files.Close()
	all, err = ask(files)
	require.NoError(t, err)
	require.Empty(t, all)
}
