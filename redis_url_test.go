package kv_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

// What a URL says twice is refused, with the name of the option and not its
// value: redis-py takes the first, and workers in Python might use another
// database or user.
func TestRedisURLSaysNothingTwice(t *testing.T) {
	for url, option := range map[string]string{
		"redis://h?db=2&db=3":                               "db",
		"redis://h?db=2&db=2":                               "db",
		"redis://h?socket_timeout=2&db=1&socket_timeout=3":  "socket_timeout",
		"redis://h?password=GEHEIM&password=GEHEIM":         "password",
		"redis://h?username=GEHEIM&username=o&password=p":   "username",
		"redis://:GEHEIM@h?password=GEHEIM":                 "password",
		"redis://jo:GEHEIM@h?username=GEHEIM":               "username",
		"redis://jo:GEHEIM@h?username=jo":                   "username",
		"unix://:GEHEIM@/s?password=GEHEIM":                 "password",
		"redis://h?master_name=a&master_name=b":             "master_name",
		"redis://h?cluster=true&cluster=false":              "cluster",
		"redis://h?decode_responses=1&decode_responses=2":   "decode_responses",
		"redis://h?sentinel_password=a&sentinel_password=b": "sentinel_password",
	} {
		err := kv.Config{Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}.Validate()
		require.ErrorIs(t, err, kv.ErrInvalid, url)
		require.ErrorContains(t, err, "REDIS_URL", url)
		require.ErrorContains(t, err, "option "+option+" ", url)
		require.NotContains(t, err.Error(), "GEHEIM")
	}
	for _, url := range []string{
		"redis://h/2?db=4", "redis://h?addr=i&addr=j", "redis://jo@h?password=p", "redis://:p@h?username=jo", "redis://jo:p@h?db=1",
	} {
		require.NoError(t, kv.Config{Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}.Validate(), url)
	}
}

// An address is what it looks like, or refused.
func TestRedisURLAddressesWithColons(t *testing.T) {
	for _, url := range []string{
		"redis://h?addr=::1", "redis://h?addr=a:b:c", "redis://h?addr=a:1:2", "redis://h?addr=::1:6379", "redis://h?addr=[a:b]:1",
		"redis://h?addr=[::1", "redis://h?addr=[]:1", "redis://h?addr=[a]",
	} {
		err := kv.Config{Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}.Validate()
		require.ErrorIs(t, err, kv.ErrInvalid, url)
		require.ErrorContains(t, err, "addr", url)
		require.ErrorContains(t, err, "[::1]:6379", url)
	}
	for _, url := range []string{"redis://::1", "redis://a:b:c", "redis://fe80::1:6379/0"} {
		require.ErrorIs(t, kv.Config{Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}.Validate(), kv.ErrInvalid, url)
	}
	for _, url := range []string{"redis://[::1]", "redis://h?addr=[::1]", "redis://h?addr=[::1]:7", "redis://h?addr=i:7", "redis://h?addr=10.0.0.1"} {
		require.NoError(t, kv.Config{Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}.Validate(), url)
	}
}
