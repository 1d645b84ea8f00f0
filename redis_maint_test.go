package kv_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
)

// Where the server knows no maintenance notifications, auto does without them
// and keeps the contract.
func TestContractMaintAuto(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := kv.RedisConfig{URL: kv.RedisURL(server.URL()), MaintNotifications: kv.MaintAuto}
	contractOn(t, cfg, []*redis.Client{server.Client()})
}

// A server that knows no maintenance notifications is not asked with off, is
// used with auto, and is an error of Open with on that says what to set.
func TestRedisMaintNotifications(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cluster := redistest.StartCluster(t, 1, 0)
	for name, url := range map[string]string{"one server": server.URL(), "Cluster": cluster.URL()} {
		for _, most := range []int{1, 2, 50} {
			cfg := kv.Config{Backend: "redis", NoMigrate: true, Redis: kv.RedisConfig{URL: kv.RedisURL(url), MaxConnections: most}}
			for _, mode := range []kv.MaintNotifications{"", kv.MaintOff, kv.MaintAuto} {
				cfg.Redis.MaintNotifications = mode
				s, err := kv.Open(t.Context(), cfg, "docs")
				require.NoError(t, err, "%s, %q", name, mode)
				require.NoError(t, s.Upsert(t.Context(), numbered(3)))
				values, err := s.GetMany(t.Context(), []string{"id-0", "id-1", "id-2"})
				require.NoError(t, err)
				require.Len(t, values, 3)
				require.NoError(t, s.Close())
			}
			cfg.Redis.MaintNotifications = kv.MaintOn
			_, err := kv.Open(t.Context(), cfg, "docs")
			require.ErrorIs(t, err, kv.ErrInvalid, name)
			require.ErrorContains(t, err, "REDIS_MAINT_NOTIFICATIONS", name)
			require.NotErrorIs(t, err, kv.ErrUnavailable, name)
		}
	}
	for _, url := range []string{"redis://h?protocol=2", "redis://h?master_name=m"} {
		for _, mode := range []kv.MaintNotifications{kv.MaintAuto, kv.MaintOn} {
			err := kv.Config{Redis: kv.RedisConfig{URL: kv.RedisURL(url), MaintNotifications: mode}}.Validate()
			require.ErrorIs(t, err, kv.ErrInvalid)
			require.ErrorContains(t, err, "REDIS_MAINT_NOTIFICATIONS")
		}
	}
}

func numbered(n int) map[string]json.RawMessage {
	docs := make(map[string]json.RawMessage, n)
	for i := range n {
		docs[fmt.Sprintf("id-%d", i)] = json.RawMessage(`{}`)
	}
	return docs
}
