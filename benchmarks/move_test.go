//go:build linux

package benchmarks

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"runtime/metrics"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvmove"
)

// BenchmarkMove moves 50,000 documents of 1 KB between a directory and a
// redis-server on the same machine, and for comparison writes them to Redis
// with Upsert, and reads them with GetMany, 500 at a time. The figures are in
// documents a second, and in the processor time that client and server took
// together, which a machine with other work to do changes less.
func BenchmarkMove(b *testing.B) {
	moves(b, documents(50_000))
}

// BenchmarkMoveGigabyte moves a file of 1 GB, and reports the most heap that
// was in use.
func BenchmarkMoveGigabyte(b *testing.B) {
	if os.Getenv("KV_BENCH_GIGABYTE") == "" {
		b.Skip("KV_BENCH_GIGABYTE is not set")
	}
	moves(b, chunks(210_000))
}

func moves(b *testing.B, c corpus) {
	ctx := context.Background()
	server := redistest.Start(b, redistest.Arg("save", ""))
	dir := b.TempDir()
	c.write(b, dir)
	files := open(b, dir, kv.FsyncEverySec)
	defer closing(b, files)
	cfg := kv.Config{Backend: "redis", Redis: kv.RedisConfig{URL: kv.RedisURL(server.URL())}}
	there, err := kv.Open(ctx, cfg, namespace, kv.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	defer closing(b, there)
	run := func(name string, before, move func() error) {
		b.Run(name, func(b *testing.B) {
			peak, used := uint64(0), time.Duration(0)
			for range b.N {
				b.StopTimer()
				check(b, before())
				settle()
				heap, before := mostHeap(), processorTime(b, server)
				b.StartTimer()
				check(b, move())
				b.StopTimer()
				peak, used = max(peak, heap()), used+processorTime(b, server)-before
			}
			b.ReportMetric(float64(c.count)*float64(b.N)/b.Elapsed().Seconds(), "docs/s")
			b.ReportMetric(float64(used.Microseconds())/float64(c.count)/float64(b.N), "cpu-µs/doc")
			b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
			b.ReportMetric(0, "ns/op")
		})
	}
	empty := func() error { return there.Drop(ctx) }
	migrate := func(dst, src kv.Store, o kvmove.Options) func() error {
		return func() error { _, err := kvmove.Migrate(ctx, dst, src, o); return err }
	}
	nothing := func() error { return nil }
	run("upsert", empty, func() error { return upsertAll(there, c) })
	run("json-redis-copy", empty, migrate(there, files, kvmove.Options{SkipVerify: true}))
	run("json-redis", empty, migrate(there, files, kvmove.Options{}))
	run("json-redis-again", nothing, migrate(there, files, kvmove.Options{}))
	run("getmany", nothing, func() error { return getAll(there, c) })
	var target kv.Store
	fresh := func() error {
		if target != nil {
			closing(b, target)
		}
		target = open(b, b.TempDir(), kv.FsyncEverySec)
		return nil
	}
	to := func(o kvmove.Options) func() error {
		return func() error { return migrate(target, there, o)() }
	}
	run("redis-json-copy", fresh, to(kvmove.Options{SkipVerify: true}))
	run("redis-json", fresh, to(kvmove.Options{}))
	run("redis-json-mirror", fresh, to(kvmove.Options{Mirror: true}))
	if target != nil {
		closing(b, target)
	}
}

// processorTime is what this process and a server have used.
func processorTime(b *testing.B, server *redistest.Server) time.Duration {
	var mine syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &mine))
	return time.Duration(mine.Utime.Nano()+mine.Stime.Nano()) + serverTime(b, server)
}

// serverTime is what a server has used.
func serverTime(b *testing.B, server *redistest.Server) (used time.Duration) {
	info, err := server.Client().InfoMap(context.Background(), "cpu").Result()
	check(b, err)
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		seconds, err := strconv.ParseFloat(info["CPU"][name], 64)
		check(b, err)
		used += time.Duration(seconds * float64(time.Second))
	}
	return used
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func upsertAll(s kv.Store, c corpus) error {
	items := make(map[string]json.RawMessage, 500)
	for i := range c.count {
		items[c.id(i)] = c.value(nil, i)
		if len(items) < 500 && i < c.count-1 {
			continue
		}
		if err := s.Upsert(context.Background(), items); err != nil {
			return err
		}
		clear(items)
	}
	return nil
}

func getAll(s kv.Store, c corpus) error {
	for ids := range slices.Chunk(c.ids(), 500) {
		if _, err := s.GetMany(context.Background(), ids); err != nil {
			return err
		}
	}
	return nil
}

// mostHeap returns a function that returns the most heap in use until then.
func mostHeap() func() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	done, answer := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for most := uint64(0); ; {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-tick.C:
			case <-done:
				answer <- most
				return
			}
		}
	}()
	return func() uint64 { close(done); return <-answer }
}
