//go:build linux

package benchmarks

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ngraf/kv"
)

// memoryChunks is how many chunks make a file of 1 GB.
const memoryChunks = 220_000

// BenchmarkJSONMemory opens a file of 1 GB and measures what that takes (J6).
// The figures are in bytes, and in percent of the file:
//
//	heap   live objects after a collection
//	peak   objects and garbage at their highest while the file was opened
//	rss    growth of what the process has resident, at its highest, the
//	       page cache apart
func BenchmarkJSONMemory(b *testing.B) {
	dir := b.TempDir()
	size := chunks(memoryChunks).write(b, dir)
	b.Run("kv", func(b *testing.B) {
		settle()
		var heap, peak, rss float64
		b.SetBytes(size)
		for b.Loop() {
			b.StopTimer()
			settle()
			heapBefore, rssBefore := heapAlloc(), field(b, "/proc/self/status", "VmRSS:")
			resetPeak(b)
			highest := watchHeap("/memory/classes/heap/objects:bytes")
			b.StartTimer()
			s := open(b, dir, kv.FsyncEverySec)
			b.StopTimer()
			peak = max(peak, highest()-heapBefore)
			rss = max(rss, 1024*float64(field(b, "/proc/self/status", "VmHWM:")-rssBefore))
			runtime.GC()
			heap = max(heap, heapAlloc()-heapBefore)
			closing(b, s)
			b.StartTimer()
		}
		b.ReportMetric(float64(size), "file-bytes")
		b.ReportMetric(heap, "heap-bytes")
		b.ReportMetric(100*heap/float64(size), "heap-%")
		b.ReportMetric(100*peak/float64(size), "peak-%")
		b.ReportMetric(100*rss/float64(size), "rss-%")
		b.ReportMetric(heap/memoryChunks, "heap-bytes/document")
	})
}

func heapAlloc() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// watchHeap looks at a figure of the heap every millisecond until the function that it
// returns is called, which tells the highest figure.
func watchHeap(name string) func() float64 {
	var highest float64
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		sample := []metrics.Sample{{Name: name}}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			highest = max(highest, float64(sample[0].Value.Uint64()))
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() float64 {
		close(done)
		watching.Wait()
		return highest
	}
}

// resetPeak makes VmHWM begin anew.
func resetPeak(b *testing.B) {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Log("rss-% is that of the whole process: ", err)
	}
}

// procField returns the word behind a name.
func procField(text, name string) string {
	_, rest, _ := strings.Cut(text, name)
	words := strings.Fields(rest)
	if len(words) == 0 {
		return ""
	}
	return words[0]
}
