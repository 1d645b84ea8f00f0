package redisstore

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The cache stays within its bytes, on its own books and on the heap.
func TestClientCacheIsBounded(t *testing.T) {
	const limit = 10 << 20
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	c := newDocCache(limit, time.Hour)
	reply := []byte(fmt.Sprintf("$1024\r\n%s\r\n", strings.Repeat("x", 1024)))
	for i := range 100_000 {
		key := fmt.Sprintf("nano_graphrag:text_chunks:chunk-%032d", i)
		token, fetch := c.Reserve("", []string{"0\x000:\x00" + key})
		require.True(t, fetch)
		c.FulfillOwned("", token, 7, reply)
		if i%100 == 0 {
			_, bytes := c.size()
			require.LessOrEqual(t, bytes, int64(limit))
		}
	}
	docs, bytes := c.size()
	took := heap() - before
	t.Logf("%d documents, %d bytes by our books, %d on the heap", docs, bytes, took)
	require.Greater(t, bytes, int64(limit*9/10))
	require.Less(t, took, int64(limit*5/4))
	require.EqualValues(t, 100_000, int64(docs)+c.evictions.Load())
	require.Zero(t, reservations(c))

	// What is too large for a shard never comes in.
	token, _ := c.Reserve("", []string{"0\x000:\x00large"})
	require.False(t, c.FulfillOwned("", token, 7, []byte(fmt.Sprintf("$%d\r\n%s\r\n", limit/16, strings.Repeat("x", limit/16)))))
	_, state := c.look([]byte("large"))
	require.Equal(t, docAbsent, state)
	require.Equal(t, docs, c.EvictByConn(7))
	docs, bytes = c.size()
	require.Zero(t, docs)
	require.Zero(t, bytes)
	runtime.KeepAlive(c)
}

// What is in use outlives what is not.
func TestClientCacheKeepsWhatIsUsed(t *testing.T) {
	c := newDocCache(LeastCache, time.Hour)
	reply := []byte(fmt.Sprintf("$1024\r\n%s\r\n", strings.Repeat("x", 1024)))
	put := func(key string) {
		if token, fetch := c.Reserve("", []string{"0\x000:\x00" + key}); fetch {
			c.FulfillOwned("", token, 7, reply)
		}
		if d, state := c.look([]byte(key)); state == docFetched {
			require.True(t, c.serve(d, time.Hour))
		}
	}
	hot := make([]string, 100)
	for i := range hot {
		hot[i] = fmt.Sprint("hot-", i)
		put(hot[i])
	}
	for i := range 10_000 {
		c.look([]byte(hot[i%len(hot)]))
		put(fmt.Sprint("cold-", i))
	}
	left := 0
	for _, key := range hot {
		if _, state := c.look([]byte(key)); state == docServed {
			left++
		}
	}
	require.Greater(t, left, 90)
}

// A reply that a write has overtaken does not come into the cache, nor into
// the place of the one that was asked for after it.
func TestClientCacheReplyTooLate(t *testing.T) {
	name := []string{"0\x002:jo\x00a"}
	state := func(c *docCache) docState { _, state := c.look([]byte("a")); return state }
	for event, change := range map[string]func(c *docCache){
		"invalidation": func(c *docCache) { require.Equal(t, 1, c.DeleteByRedisKey(name[0])) },
		"own write":    func(c *docCache) { require.True(t, c.drop("a")) },
		"flush":        func(c *docCache) { require.Equal(t, 1, c.Flush()) },
	} {
		c := newDocCache(LeastCache, time.Hour)
		old, fetch := c.Reserve("", name)
		require.True(t, fetch, event)
		_, fetch = c.Reserve("", name)
		require.False(t, fetch, event)
		require.Equal(t, docAsked, state(c), event)
		change(c)
		require.Equal(t, docAbsent, state(c), event)
		next, fetch := c.Reserve("", name)
		require.True(t, fetch, event)
		require.False(t, c.FulfillOwned("", old, 1, []byte("$1\r\n1\r\n")), event)
		require.Equal(t, docAsked, state(c), event)
		reply := []byte("$1\r\n2\r\n")
		require.True(t, c.FulfillOwned("", next, 1, reply), event)
		clear(reply) // It is go-redis's.
		require.False(t, c.Cancel("", next), event)
		d, at := c.look([]byte("a"))
		require.Equal(t, docFetched, at, event)
		require.Equal(t, "2", string(d.value), event)
		change(c)
		require.False(t, c.serve(d, time.Hour), event)
		require.Zero(t, reservations(c))
	}
}
