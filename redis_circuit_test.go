package kv_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

// Its settings are checked like all others.
func TestRedisCircuitSettings(t *testing.T) {
	cfg, err := fromMap(map[string]string{"REDIS_CIRCUIT_FAILURES": "7 # some", "REDIS_CIRCUIT_COOLDOWN": "2.5"})
	require.NoError(t, err)
	require.Equal(t, 7, cfg.Redis.CircuitFailures)
	require.Equal(t, 2500*time.Millisecond, cfg.Redis.CircuitCooldown)
	for name, text := range map[string]string{"REDIS_CIRCUIT_FAILURES": "-1", "REDIS_CIRCUIT_COOLDOWN": "0"} {
		_, err = fromMap(map[string]string{name: text})
		require.ErrorIs(t, err, kv.ErrInvalid)
		require.ErrorContains(t, err, name)
	}
	err = kv.Config{Redis: kv.RedisConfig{CircuitFailures: -1, CircuitCooldown: -1}}.Validate()
	require.ErrorIs(t, err, kv.ErrInvalid)
	require.ErrorContains(t, err, "REDIS_CIRCUIT_FAILURES")
	require.ErrorContains(t, err, "REDIS_CIRCUIT_COOLDOWN")
}
