//go:build linux

package benchmarks

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"testing"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/philippgille/gokv/encoding"
	gokv "github.com/philippgille/gokv/redis"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// redisDocuments is how many documents of 1 KB the server has, and how many a
// batch has.
const redisDocuments = 10_000

// poolSize is kv's default. The other clients get the same.
const poolSize = 50

// A redisBench is a redis-server of its own that holds documents, and what
// talks to it.
type redisBench struct {
	server *redistest.Server
	corpus corpus
	ids    []string
	keys   []string // of ids, as kv names them
	kv     kv.Store
	plain  *redis.Client
}

func startRedis(b *testing.B, opts ...redistest.Option) *redisBench {
	b.Helper()
	r := &redisBench{server: redistest.Start(b, opts...), corpus: documents(redisDocuments)}
	r.ids = r.corpus.ids()
	for _, id := range r.ids {
		r.keys = append(r.keys, "nano_graphrag:"+namespace+":"+id)
	}
	r.kv = r.open(b, kv.Config{Backend: "redis"})
	r.plain = redis.NewClient(&redis.Options{Addr: r.server.Addr, PoolSize: poolSize})
	b.Cleanup(func() { closing(b, r.plain) })
	fmt.Println("redis-server:", r.server.Client().InfoMap(b.Context(), "server").Item("Server", "redis_version"))
	return r
}

// load stores all documents.
func (r *redisBench) load(b *testing.B) {
	if err := r.kv.Upsert(b.Context(), r.corpus.all()); err != nil {
		b.Fatal(err)
	}
}

func (r *redisBench) open(b *testing.B, cfg kv.Config, opts ...kv.Option) kv.Store {
	cfg.Redis.URL = kv.RedisURL(r.server.URL())
	s, err := kv.Open(b.Context(), cfg, namespace, append(opts, kv.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closing(b, s) })
	return s
}

func (r *redisBench) rueidis(b *testing.B) rueidis.Client {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{r.server.Addr}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

func (r *redisBench) gokv(b *testing.B) gokv.Client {
	c, err := gokv.NewClient(gokv.Options{Address: r.server.Addr, Codec: encoding.JSON})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closing(b, c) })
	return c
}

// contexts are the two kinds that callers pass. The one of a request can be
// cancelled, and each has its own.
var contexts = []struct {
	name string
	make func(b *testing.B) context.Context
}{
	{"background", func(*testing.B) context.Context { return context.Background() }},
	{"request", func(b *testing.B) context.Context {
		ctx, cancel := context.WithCancel(context.Background())
		b.Cleanup(cancel)
		return ctx
	}},
}

// A reader reads the document at i of ids, and returns its size.
type reader func(ctx context.Context, i int) (int, error)

// read runs the benchmark of one reader: that many goroutines, each with a
// context of its own.
func read(b *testing.B, goroutines int, newContext func(*testing.B) context.Context, get reader) {
	each := make([]context.Context, goroutines)
	for i := range each {
		each[i] = newContext(b)
	}
	runtime.GC()
	b.ReportAllocs()
	together(b, goroutines, func(worker, i int) error {
		return sized(get(each[worker], i%redisDocuments))
	})
}

func (r *redisBench) getKV(ctx context.Context, i int) (int, error) {
	value, err := r.kv.Get(ctx, r.ids[i])
	return len(value), err
}

func (r *redisBench) getPlain(ctx context.Context, i int) (int, error) {
	value, err := r.plain.Get(ctx, r.keys[i]).Bytes()
	return len(value), err
}

// BenchmarkRedisGet reads one document of 1 KB at a time (R1, R2, R3, R8).
func BenchmarkRedisGet(b *testing.B) {
	r := startRedis(b)
	r.load(b)
	other := r.rueidis(b)
	getRueidis := func(ctx context.Context, i int) (int, error) {
		value, err := other.Do(ctx, other.B().Get().Key(r.keys[i]).Build()).AsBytes()
		return len(value), err
	}
	for _, goroutines := range []int{1, 8, 40, 64, 512} {
		for _, ctx := range contexts {
			run := func(name string, get reader) {
				b.Run(fmt.Sprintf("%d/%s/%s", goroutines, ctx.name, name), func(b *testing.B) {
					read(b, goroutines, ctx.make, get)
				})
			}
			run("go-redis", r.getPlain)
			run("kv", r.getKV)
			run("rueidis", getRueidis)
		}
	}
	decoding := r.gokv(b)
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d/background/gokv", goroutines), func(b *testing.B) {
			read(b, goroutines, contexts[0].make, func(_ context.Context, i int) (int, error) {
				var value struct{ Content string }
				_, err := decoding.Get(r.keys[i], &value)
				return len(`{"content":""}`) + len(value.Content), err // Less its escapes.
			})
		})
	}
}

// BenchmarkRedisCached reads documents that the client's own cache has (R4).
func BenchmarkRedisCached(b *testing.B) {
	r := startRedis(b)
	r.load(b)
	cfg, err := kv.FromLookup(func(name string) (string, bool) {
		value, ok := map[string]string{"STORAGE_KV_BACKEND": "redis", "REDIS_CLIENT_CACHE": "67108864"}[name]
		return value, ok
	}, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "R4 is not measured, since this version of kv has no REDIS_CLIENT_CACHE:", err)
		b.Skip(err)
	}
	cached := r.open(b, cfg)
	other := r.rueidis(b)
	for _, goroutines := range []int{1, 64} {
		for _, ctx := range contexts {
			run := func(name string, get reader) {
				b.Run(fmt.Sprintf("%d/%s/%s", goroutines, ctx.name, name), func(b *testing.B) {
					for i := range r.ids {
						if _, err := get(ctx.make(b), i); err != nil {
							b.Fatal(err)
						}
					}
					read(b, goroutines, ctx.make, get)
				})
			}
			run("go-redis", r.getPlain)
			run("kv", func(ctx context.Context, i int) (int, error) {
				value, err := cached.Get(ctx, r.ids[i])
				return len(value), err
			})
			run("rueidis-DoCache", func(ctx context.Context, i int) (int, error) {
				value, err := other.DoCache(ctx, other.B().Get().Key(r.keys[i]).Cache(), cacheTTL).AsBytes()
				return len(value), err
			})
		}
	}
}
