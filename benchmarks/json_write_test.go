//go:build linux

package benchmarks

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ngraf/kv"
	bolt "go.etcd.io/bbolt"
)

// BenchmarkJSONUpsert stores one document of 1 KB at a time, everysec, in the
// place of one that is there, anywhere in the store (J3). So it includes the
// share of each in the compactions. kv-new and gokv-file add documents to an
// empty store.
func BenchmarkJSONUpsert(b *testing.B) {
	b.Run("write", func(b *testing.B) {
		appendLoop(b, func(*os.File) error { return nil })
	})
	b.Run("kv-1000", func(b *testing.B) { upsertExisting(b, 1_000) })
	b.Run("kv-1000000", func(b *testing.B) { upsertExisting(b, 1_000_000) })
	b.Run("kv-new", func(b *testing.B) {
		s := open(b, b.TempDir(), kv.FsyncEverySec)
		defer closing(b, s)
		upsertLoop(b, s, documents(0).id)
	})
	b.Run("bbolt-nosync", func(b *testing.B) {
		corpus := documents(1_000)
		db := openBolt(b, corpus)
		db.NoSync = true
		value := corpus.value(nil, 0)
		settle()
		for i := 0; b.Loop(); i++ {
			if err := db.Update(boltPut(corpus.id(i%corpus.count), value)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("gokv-file", func(b *testing.B) {
		s := openGokv(b)
		corpus := documents(0)
		value := json.RawMessage(corpus.value(nil, 0))
		settle()
		for i := 0; b.Loop(); i++ {
			if err := s.Set(corpus.id(i), value); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// upsertExisting replaces documents of a store that has count of them.
func upsertExisting(b *testing.B, count int) {
	corpus := documents(count)
	dir := b.TempDir()
	corpus.write(b, dir)
	s := open(b, dir, kv.FsyncEverySec)
	defer closing(b, s)
	ids := corpus.ids()
	upsertLoop(b, s, func(i int) string { return ids[i%len(ids)] })
}

func upsertLoop(b *testing.B, s kv.Store, id func(i int) string) {
	ctx := context.Background()
	value := json.RawMessage(documents(1).value(nil, 0))
	items := make(map[string]json.RawMessage, 1)
	settle()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		clear(items)
		items[id(i)] = value
		if err := s.Upsert(ctx, items); err != nil {
			b.Fatal(err)
		}
	}
}

func boltPut(id string, value []byte) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put([]byte(id), value) }
}

// A raw file is one that documents are appended to.
type raw struct {
	*os.File
	at    int64
	value []byte
}

func openRaw(b *testing.B) *raw {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closing(b, f) })
	return &raw{File: f, value: documents(1).value(nil, 0)}
}

// append appends 1 KB and then calls sync.
func (r *raw) append(sync func(*os.File) error) error {
	n, err := r.WriteAt(r.value, r.at)
	r.at += int64(n)
	if err != nil {
		return err
	}
	return sync(r.File)
}

func appendLoop(b *testing.B, sync func(*os.File) error) {
	r := openRaw(b)
	settle()
	for b.Loop() {
		if err := r.append(sync); err != nil {
			b.Fatal(err)
		}
	}
}

func fdatasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// BenchmarkJSONUpsertAlways stores one document of 1 KB at a time, and has it
// on the disk before the next (J4). The speed of a shared disk drifts by more
// than what is measured, so the two take turns call by call: ns/op is both
// together.
func BenchmarkJSONUpsertAlways(b *testing.B) {
	b.Run("in-turn", func(b *testing.B) {
		corpus := documents(1_000)
		dir := b.TempDir()
		corpus.write(b, dir)
		s := open(b, dir, kv.FsyncAlways)
		defer closing(b, s)
		items := corpus.items(0, corpus.count)
		r := openRaw(b)
		var peer, ours time.Duration
		settle()
		for i := 0; b.Loop(); i++ {
			begin := time.Now()
			if err := r.append(fdatasync); err != nil {
				b.Fatal(err)
			}
			between := time.Now()
			if err := s.Upsert(context.Background(), items[i%len(items)]); err != nil {
				b.Fatal(err)
			}
			peer += between.Sub(begin)
			ours += time.Since(between)
		}
		b.ReportMetric(peer.Seconds()/float64(b.N)*1e6, "µs-fdatasync")
		b.ReportMetric(ours.Seconds()/float64(b.N)*1e6, "µs-kv")
	})
	b.Run("fsync", func(b *testing.B) { appendLoop(b, (*os.File).Sync) })
	b.Run("bbolt", func(b *testing.B) {
		corpus := documents(1_000)
		db := openBolt(b, corpus)
		value := corpus.value(nil, 0)
		settle()
		for i := 0; b.Loop(); i++ {
			if err := db.Update(boltPut(corpus.id(i%corpus.count), value)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// writers is how many goroutines write at once.
const writers = 64

// BenchmarkJSONUpsertAlways64 is the same with 64 writers (J4). bbolt-64 is
// bbolt told how many writers to expect, so that it does not wait for more.
func BenchmarkJSONUpsertAlways64(b *testing.B) {
	corpus := documents(10_000)
	b.Run("bbolt", func(b *testing.B) { boltBatch(b, corpus, 1000) })
	b.Run("kv", func(b *testing.B) {
		dir := b.TempDir()
		corpus.write(b, dir)
		s := open(b, dir, kv.FsyncAlways)
		defer closing(b, s)
		items := corpus.items(0, corpus.count)
		b.ReportAllocs()
		settle()
		together(b, writers, func(_, i int) error { return s.Upsert(context.Background(), items[i%len(items)]) })
	})
	b.Run("bbolt-64", func(b *testing.B) { boltBatch(b, corpus, writers) })
}

func boltBatch(b *testing.B, c corpus, batch int) {
	db := openBolt(b, c)
	db.MaxBatchSize = batch
	value := c.value(nil, 0)
	settle()
	together(b, writers, func(_, i int) error { return db.Batch(boltPut(c.id(i%c.count), value)) })
}

// together calls op b.N times, shared among that many goroutines.
func together(b *testing.B, goroutines int, op func(worker, i int) error) {
	var next atomic.Int64
	var running sync.WaitGroup
	b.ResetTimer()
	for worker := range goroutines {
		running.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := op(worker, int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	b.StopTimer()
}
