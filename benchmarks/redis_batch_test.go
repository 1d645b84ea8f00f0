//go:build linux

package benchmarks

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
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

// BenchmarkRedisOrder overwrites 10,000 documents with MSET of 500, by way of
// go-redis, in the order in which they were first written, and in another one
// each time, as that of a map is. What the server needs tells them apart.
func BenchmarkRedisOrder(b *testing.B) {
	r := startRedis(b)
	items := r.corpus.all()
	inOrder := make([]int, len(r.keys))
	for i := range inOrder {
		inOrder[i] = i
	}
	for _, order := range []struct {
		name string
		make func() []int
	}{
		{"same", func() []int { return inOrder }},
		{"another", func() []int { return rand.Perm(len(inOrder)) }},
	} {
		if err := r.plain.FlushAll(b.Context()).Err(); err != nil {
			b.Fatal(err)
		}
		overwrite := func(order []int) {
			for part := range slices.Chunk(order, 500) {
				args := make([]any, 0, 2*len(part))
				for _, i := range part {
					args = append(args, r.keys[i], []byte(items[r.ids[i]]))
				}
				check(b, r.plain.MSet(b.Context(), args...).Err())
			}
		}
		overwrite(inOrder)
		b.Run(order.name+"/go-redis", func(b *testing.B) {
			var used time.Duration
			for b.Loop() {
				b.StopTimer()
				next, before := order.make(), serverTime(b, r.server)
				b.StartTimer()
				overwrite(next)
				b.StopTimer()
				used += serverTime(b, r.server) - before
				b.StartTimer()
			}
			b.ReportMetric(float64(used.Microseconds())/1000/float64(b.N), "server-ms")
		})
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
// server forgets most of them, so that what is measured stands out. What lives
// is known when the collector has just run, so it is made to run now and then
// while a command waits to be sent: what it has not got round to says more
// about the size of the caller's own map.
func BenchmarkRedisMemory(b *testing.B) {
	r := startRedis(b, redistest.Arg("--maxmemory", "200mb", "--maxmemory-policy", "allkeys-random"))
	look := new(heapLook)
	r.plain.AddHook(look)
	s := r.open(b, kv.Config{Backend: "redis"}, kv.WithRedisClient(r.plain))
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
					before := look.begin(count / 500 / 8)
					if err := s.Upsert(ctx, items); err != nil {
						b.Fatal(err)
					}
					peak = max(peak, look.peak-before)
				}
				b.ReportMetric(peak, "peak-bytes")
				b.ReportMetric(peak/float64(count), "peak-bytes/document")
			})
		}
	}
}

// A heapLook is a hook that looks at the live heap before every so many
// commands, and holds the others back meanwhile.
type heapLook struct {
	mu              sync.Mutex
	every, commands int
	peak            float64
}

// begin forgets the peak, and returns what lives now.
func (l *heapLook) begin(every int) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.every, l.commands, l.peak = every, 0, 0
	return liveHeap()
}

func liveHeap() float64 {
	runtime.GC()
	return heapAlloc()
}

func (l *heapLook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *heapLook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *heapLook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		l.mu.Lock()
		if l.commands++; l.every > 0 && l.commands%l.every == 0 {
			l.peak = max(l.peak, liveHeap())
		}
		l.mu.Unlock()
		return next(ctx, cmd)
	}
}
