package kv

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redisstore"
)

// The keys of an import share a slot and are no documents, whatever the
// prefix.
func TestImportKeys(t *testing.T) {
	for _, prefix := range []string{"", "a", "a{b}c", "}x", "{", "kv-import", "a:b"} {
		cfg := Config{Redis: RedisConfig{KeyPrefix: prefix}}
		e := redisstore.New(&redisstore.Client{}, settledOptions(t, cfg), "docs", nil)
		r := e.Record()
		slot := func(key string) uint16 {
			if tag, ok := redisstore.HashTag(key); ok {
				return redisstore.KeySlot(tag)
			}
			return redisstore.KeySlot(key)
		}
		require.Equal(t, slot(r.Key), slot(r.Lease), prefix)
		require.False(t, strings.HasPrefix(r.Key, e.Prefix))
		require.False(t, strings.HasPrefix(r.Lease, e.Prefix))
	}
}
