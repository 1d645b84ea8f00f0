package kv_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
)

// A Get that the client-side cache answers, against go-redis's own Get, which
// asks the server, and with its own cache.
func BenchmarkRedisClientCache(b *testing.B) {
	server := redistest.Start(b)
	o, err := redis.ParseURL(server.URL())
	require.NoError(b, err)
	plain := redis.NewClient(o)
	defer plain.Close()
	tracked := *o
	tracked.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxMemoryBytes: 64 << 20}
	own := redis.NewClient(&tracked)
	defer own.Close()
	cfg := redisCfg(server.URL())
	cfg.Redis.ClientCache = 64 << 20
	s, err := kv.Open(b.Context(), cfg, "docs")
	require.NoError(b, err)
	defer s.Close()
	ids := make([]string, 1000)
	items := make(map[string]json.RawMessage, len(ids))
	for i := range ids {
		ids[i] = fmt.Sprintf("chunk-%026d", i)
		items[ids[i]] = json.RawMessage(`"` + string(bytes.Repeat([]byte("x"), 1022)) + `"`)
	}
	require.NoError(b, s.Upsert(b.Context(), items))
	const prefix = "nano_graphrag:docs:"
	for _, who := range []struct {
		name string
		get  func(id string) error
	}{
		{"go-redis", func(id string) error { return plain.Get(b.Context(), prefix+id).Err() }},
		{"go-redis-cache", func(id string) error { return own.Get(b.Context(), prefix+id).Err() }},
		{"kv", func(id string) error { _, err := s.Get(b.Context(), id); return err }},
	} {
		name, get := who.name, who.get
		for range 3 {
			for _, id := range ids {
				require.NoError(b, get(id))
			}
		}
		for _, goroutines := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", name, goroutines), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism((goroutines + 1) / 2)
				if goroutines == 1 {
					for i := 0; b.Loop(); i++ {
						if err := get(ids[i%len(ids)]); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.RunParallel(func(p *testing.PB) {
					for i := 0; p.Next(); i++ {
						if err := get(ids[i%len(ids)]); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
