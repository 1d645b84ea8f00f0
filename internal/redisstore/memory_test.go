package redisstore

import (
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// liveHeap returns the bytes of the heap that something refers to.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A call with many ids or items has some chunks of them under way, and not all
// commands and replies at once: what a write takes does not grow with the
// batch, and what a read takes beside its result is a byte or two for each id.
func TestRedisMemoryIsBoundedByTheChunk(t *testing.T) {
	if testkit.Race {
		t.Skip("measured without the race detector")
	}
	const aChunk = 1 << 20
	n := int64(200_000 / min(testkit.Stride(), 4))
	server := redistest.Start(t)
	s := openEngine(t, settled(server.URL()), "docs")
	items, ids := make(map[string]json.RawMessage, n), make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("id-%06d", i)
		items[ids[i]] = json.RawMessage(fmt.Sprintf(`{"id":%d,"text":"0123456789"}`, i))
	}
	var mu sync.Mutex // Also keeps other chunks from allocating during a look.
	var peak, commands, every int64
	engineOf(s).way.client.AddHook(testkit.Hook(func(redis.Cmder) {
		mu.Lock()
		defer mu.Unlock()
		if commands++; commands%every == 0 {
			peak = max(peak, liveHeap())
		}
	}))
	for _, call := range []struct {
		name  string
		every int64 // commands from one look to the next; a look takes long
		extra int64 // bytes for each item
		do    func() (any, error)
	}{
		{"upsert", n / 500 / 4, 0, func() (any, error) { return nil, s.Upsert(t.Context(), items) }},
		{"upsertttl", n / 4, 0, func() (any, error) { return nil, s.UpsertTTL(t.Context(), items, 1<<40) }},
		{"insert", n / 4, 0, func() (any, error) { return s.Insert(t.Context(), items) }},
		{"getmany", n / 500 / 4, 2, func() (any, error) { return s.GetMany(t.Context(), ids) }},
		{"missing", n / 4, 2, func() (any, error) { return s.Missing(t.Context(), ids) }},
		{"delete", n / 4, 2, func() (any, error) { return s.Delete(t.Context(), ids...) }},
	} {
		peak, every = 0, call.every
		before := liveHeap()
		result, err := call.do()
		require.NoError(t, err)
		most := peak - before
		if call.name == "getmany" {
			most -= liveHeap() - before // The values.
		}
		runtime.KeepAlive(result)
		t.Logf("%s: %d bytes for each of %d", call.name, most/n, n)
		require.NotZero(t, peak, call.name)
		require.Less(t, most, call.extra*n+aChunk, call.name)
	}
	runtime.KeepAlive(items)
	runtime.KeepAlive(ids)
}
