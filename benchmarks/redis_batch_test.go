//go:build linux

package benchmarks

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/redis/go-redis/v9"
)

const (
	// redisChunk is the size of the peers' batches, the fastest of those tried.
	redisChunk = 1_000
	// redisTTL is a time to live that no benchmark sees the end of, and
	// cacheTTL the same for what rueidis keeps.
	redisTTL, cacheTTL = time.Hour, time.Hour
)

// all returns all documents as the items of one Upsert.
func (c corpus) all() map[string]json.RawMessage {
	items := make(map[string]json.RawMessage, c.count)
	for i := range c.count {
		items[c.id(i)] = c.value(nil, i)
	}
	return items
}

// batches runs the benchmark of one way to handle all documents at once.
func (r *redisBench) batches(b *testing.B, name string, newContext func(*testing.B) context.Context, do func(ctx context.Context) error) {
	b.Run(name, func(b *testing.B) {
		ctx := newContext(b)
		runtime.GC()
		b.ReportAllocs()
		for b.Loop() {
			if err := do(ctx); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(redisDocuments)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
	})
}

// pipelined sends a command for each key, redisChunk of them together.
func (r *redisBench) pipelined(ctx context.Context, queue func(p redis.Pipeliner, i int), check func(redis.Cmder) error) error {
	for from := 0; from < len(r.keys); from += redisChunk {
		p := r.plain.Pipeline()
		for i := from; i < from+redisChunk; i++ {
			queue(p, i)
		}
		cmds, err := p.Exec(ctx)
		if err != nil {
			return err
		}
		for _, cmd := range cmds {
			if err := check(cmd); err != nil {
				return err
			}
		}
	}
	return nil
}

func noCheck(redis.Cmder) error { return nil }

// BenchmarkRedisUpsert stores 10,000 documents in one call, without a time to
// live and with one (R5, R6, R8).
func BenchmarkRedisUpsert(b *testing.B) {
	r := startRedis(b)
	items := r.corpus.all()
	values := make([][]byte, len(r.ids))
	for i, id := range r.ids {
		values[i] = items[id]
	}
	for _, ttl := range []struct {
		name string
		kept time.Duration
	}{{"forever", 0}, {"ttl", redisTTL}} {
		for _, ctx := range contexts {
			name := ttl.name + "/" + ctx.name + "/"
			r.batches(b, name+"go-redis", ctx.make, func(ctx context.Context) error {
				return r.pipelined(ctx, func(p redis.Pipeliner, i int) { p.Set(ctx, r.keys[i], values[i], ttl.kept) }, noCheck)
			})
			r.batches(b, name+"kv", ctx.make, func(ctx context.Context) error {
				return r.kv.(kv.Expirer).UpsertTTL(ctx, items, ttl.kept)
			})
		}
	}
}

// BenchmarkRedisGetMany reads 10,000 documents in one call (R7, R8).
func BenchmarkRedisGetMany(b *testing.B) {
	r := startRedis(b)
	r.load(b)
	other := r.rueidis(b)
	for _, ctx := range contexts {
		r.batches(b, ctx.name+"/go-redis", ctx.make, func(ctx context.Context) error {
			return r.pipelined(ctx,
				func(p redis.Pipeliner, i int) { p.Get(ctx, r.keys[i]) },
				func(cmd redis.Cmder) error {
					value, err := cmd.(*redis.StringCmd).Bytes()
					return sized(len(value), err)
				})
		})
		r.batches(b, ctx.name+"/kv", ctx.make, func(ctx context.Context) error {
			values, err := r.kv.GetMany(ctx, r.ids)
			for _, value := range values {
				err = sized(len(value), err)
			}
			return err
		})
		r.batches(b, ctx.name+"/rueidis", ctx.make, func(ctx context.Context) error {
			for keys := range slices.Chunk(r.keys, redisChunk) {
				values, err := other.Do(ctx, other.B().Mget().Key(keys...).Build()).ToArray()
				if err != nil {
					return err
				}
				for _, message := range values {
					value, err := message.AsBytes()
					if err := sized(len(value), err); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
}

// sized returns err, or one that says that a document is not whole.
func sized(size int, err error) error {
	if err == nil && size < 950 {
		err = fmt.Errorf("a document of %d bytes", size)
	}
	return err
}

// BenchmarkRedisMemory measures by how much the live heap grows, at its
// highest, during one Upsert (R9). The documents share one value, and the
// server forgets most of them, so that what is measured stands out.
func BenchmarkRedisMemory(b *testing.B) {
	r := startRedis(b, redistest.Arg("--maxmemory", "200mb", "--maxmemory-policy", "allkeys-random"))
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // Look often.
	for _, count := range []int{100_000, 1_000_000} {
		value := r.corpus.value(nil, 0)
		items := make(map[string]json.RawMessage, count)
		for i := range count {
			items[r.corpus.id(i)] = value
		}
		for _, ctx := range contexts {
			b.Run(fmt.Sprintf("%d/%s/kv", count, ctx.name), func(b *testing.B) {
				ctx := ctx.make(b)
				var peak float64
				for b.Loop() {
					b.StopTimer()
					settle()
					before, highest := heapAlloc(), watchHeap("/gc/heap/live:bytes")
					b.StartTimer()
					if err := r.kv.Upsert(ctx, items); err != nil {
						b.Fatal(err)
					}
					peak = max(peak, highest()-before)
				}
				b.ReportMetric(peak, "peak-bytes")
				b.ReportMetric(peak/float64(count), "peak-bytes/document")
			})
		}
	}
}
