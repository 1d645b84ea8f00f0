package kv_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

// Where go-redis would go without a cache and say so in its log, the
// configuration is refused, and names the variables.
func TestClientCacheRefusals(t *testing.T) {
	for _, c := range []struct {
		vars map[string]string
		want []string
	}{
		{map[string]string{"REDIS_URL": "redis://h?cluster=true"}, []string{"REDIS_URL", "Cluster"}},
		{map[string]string{"REDIS_URL": "redis://h?addr=i:1"}, []string{"REDIS_URL", "Cluster"}},
		{map[string]string{"REDIS_URL": "redis://h?master_name=m"}, []string{"REDIS_URL", "Sentinel"}},
		{map[string]string{"REDIS_URL": "redis://h/3"}, []string{"REDIS_URL", "database 3"}},
		{map[string]string{"REDIS_URL": "redis://h?protocol=2"}, []string{"REDIS_URL", "protocol=2"}},
		{map[string]string{"REDIS_PASSWORD_FILE": "/secret"}, []string{"REDIS_PASSWORD_FILE"}},
		{map[string]string{"REDIS_CLIENT_CACHE": "64"}, []string{"bytes", "1048576"}},
		{map[string]string{"REDIS_CLIENT_CACHE": "-1"}, []string{"below 0"}},
		{map[string]string{"REDIS_CLIENT_CACHE": "64TB"}, []string{"number of bytes"}},
	} {
		c.vars["STORAGE_KV_BACKEND"] = "redis"
		if c.vars["REDIS_CLIENT_CACHE"] == "" {
			_, err := fromMap(c.vars)
			require.NoError(t, err, "%v without a cache", c.vars)
			c.vars["REDIS_CLIENT_CACHE"] = "16777216 # 16 MiB"
		}
		cfg, err := fromMap(c.vars)
		require.ErrorIs(t, err, kv.ErrInvalid, "%v", c.vars)
		for _, want := range append(c.want, "REDIS_CLIENT_CACHE:") {
			require.ErrorContains(t, err, want)
		}
		if cfg.Redis.ClientCache != 0 {
			_, err = kv.NewFactory(cfg)
			require.ErrorIs(t, err, kv.ErrInvalid)
		}
	}
	given := redis.NewClient(&redis.Options{})
	defer given.Close()
	_, err := kv.NewFactory(kv.Config{Backend: "redis", Redis: kv.RedisConfig{URL: "redis://h", ClientCache: 64 << 20}}, kv.WithRedisClient(given))
	require.ErrorContains(t, err, "WithRedisClient")
	for text, want := range map[string]int64{"0": 0, "1048576 # 1 MiB": 1 << 20, "64MB": 64 << 20} {
		cfg, err := fromMap(map[string]string{"REDIS_CLIENT_CACHE": text})
		require.NoError(t, err)
		require.Equal(t, want, cfg.Redis.ClientCache)
	}
}
