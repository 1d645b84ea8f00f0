package redisstore

import (
	"cmp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The keys of a record share a slot and are no documents, whatever the
// prefix.
func TestRecordKeys(t *testing.T) {
	for _, prefix := range []string{"", "a", "a{b}c", "}x", "{", "kv-import", "a:b"} {
		o := settled("redis://h")
		o.KeyPrefix = cmp.Or(prefix, o.KeyPrefix)
		e := New(&Client{}, o, "docs", nil)
		r := e.Record()
		slot := func(key string) uint16 {
			if tag, ok := hashTag(key); ok {
				return keySlot(tag)
			}
			return keySlot(key)
		}
		require.Equal(t, slot(r.Key), slot(r.lease), prefix)
		require.Equal(t, slot(r.Key), slot(r.chunk("x")), prefix)
		require.NotEqual(t, r.Key, r.chunk("x"))
		require.False(t, strings.HasPrefix(r.chunk("x"), e.prefix))
		require.False(t, strings.HasPrefix(r.Key, e.prefix))
		require.False(t, strings.HasPrefix(r.lease, e.prefix))
	}
}
