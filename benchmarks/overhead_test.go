//go:build linux

package benchmarks

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvprom"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// BenchmarkOverhead compares Get with and without a collector that is
// registered and scraped twice a second, which a server does every 15 s.
// Rounds with and without take turns; ratio is that of their median times,
// cpu-ratio that of the processor time of the process, scrapes included, and
// allocs are those of one call, scrapes included.
func BenchmarkOverhead(b *testing.B) {
	for _, backend := range []string{"json", "redis"} {
		cfg := kv.Config{Backend: backend, WorkingDir: b.TempDir()}
		if backend == "redis" {
			cfg.Redis.URL = kv.RedisURL(redistest.Start(b).URL())
		}
		f, err := kv.NewFactory(cfg, kv.WithLogger(slog.New(slog.DiscardHandler)))
		check(b, err)
		b.Cleanup(func() { closing(b, f) })
		s, err := f.Open(b.Context(), namespace)
		check(b, err)
		corpus := documents(1000)
		check(b, s.Upsert(b.Context(), corpus.all()))
		ids := corpus.ids()
		for _, goroutines := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", backend, goroutines), func(b *testing.B) {
				get := func(n int) {
					var all sync.WaitGroup
					for w := range goroutines {
						all.Go(func() {
							for i := range n {
								if _, err := s.Get(b.Context(), ids[(i+w)%len(ids)]); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					all.Wait()
				}
				compare(b, get, scraped(f), goroutines)
			})
		}
	}
}

// compare has some work done in rounds, with and without something beside it.
func compare(b *testing.B, work func(n int), beside func() (stop func()), goroutines int) {
	const rounds, length = 21, 400 * time.Millisecond
	n := 1000
	for long := 0; long < 3; { // In a row, since a stall makes any round long.
		began := time.Now()
		work(n)
		if long++; time.Since(began) < length {
			n, long = n*5/4, 0
		}
	}
	for b.Loop() {
		var wall, cpu, allocs [2][]float64
		for round := range 2 * rounds {
			stop := func() {}
			if round%2 == 1 {
				stop = beside()
			}
			mallocs, before, began := allocated(), ownTime(b), time.Now()
			work(n)
			wall[round%2] = append(wall[round%2], float64(time.Since(began)))
			cpu[round%2] = append(cpu[round%2], float64(ownTime(b)-before))
			allocs[round%2] = append(allocs[round%2], float64(allocated()-mallocs))
			stop()
		}
		calls := float64(n * goroutines)
		b.ReportMetric(median(wall[0])/calls, "without-ns")
		b.ReportMetric(median(wall[1])/calls, "with-ns")
		b.ReportMetric(median(allocs[0])/calls, "without-allocs")
		b.ReportMetric(median(allocs[1])/calls, "with-allocs")
		b.ReportMetric(median(wall[1])/median(wall[0]), "ratio")
		b.ReportMetric(median(cpu[1])/median(cpu[0]), "cpu-ratio")
	}
}

// scraped returns what registers a collector and scrapes it over HTTP.
func scraped(f *kv.Factory) func() func() {
	return func() func() {
		collector := kvprom.NewCollector(f)
		registry := prometheus.NewRegistry()
		registry.MustRegister(collector)
		server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
		end := make(chan struct{})
		var scraping sync.WaitGroup
		scraping.Go(func() {
			for turns := time.Tick(500 * time.Millisecond); ; {
				if reply, err := http.Get(server.URL); err == nil {
					_, _ = io.Copy(io.Discard, reply.Body)
					_ = reply.Body.Close()
				}
				select {
				case <-turns:
				case <-end:
					return
				}
			}
		})
		return func() {
			close(end)
			scraping.Wait()
			server.Close()
			_ = collector.Close()
		}
	}
}

// BenchmarkScrape is what a scrape of one namespace costs, its text included.
func BenchmarkScrape(b *testing.B) {
	f, err := kv.NewFactory(kv.Config{WorkingDir: b.TempDir()}, kv.WithLogger(slog.New(slog.DiscardHandler)))
	check(b, err)
	b.Cleanup(func() { closing(b, f) })
	s, err := f.Open(b.Context(), namespace)
	check(b, err)
	corpus := documents(1000)
	check(b, s.Upsert(b.Context(), corpus.all()))
	_, err = s.Get(b.Context(), corpus.id(0))
	check(b, err)
	registry := prometheus.NewRegistry()
	registry.MustRegister(kvprom.NewCollector(f))
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(httptest.NewRecorder(), request)
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func ownTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
