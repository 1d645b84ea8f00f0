//go:build linux

package benchmarks

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ngraf/kv"
	"github.com/philippgille/gokv/encoding"
	"github.com/philippgille/gokv/file"
	bolt "go.etcd.io/bbolt"
)

// fileChunks is how many chunks make the file of 96 MB.
const fileChunks = 20_000

// BenchmarkJSONOpen opens a file of 96 MB that is in the page cache (J1).
func BenchmarkJSONOpen(b *testing.B) {
	dir := b.TempDir()
	size := chunks(fileChunks).write(b, dir)
	name := filepath.Join(dir, "kv_store_"+namespace+".json")
	b.Run("encoding-json", func(b *testing.B) {
		settle()
		b.SetBytes(size)
		for b.Loop() {
			if n := len(unmarshalFile(b, name)); n != fileChunks {
				b.Fatal(n)
			}
		}
	})
	b.Run("kv", func(b *testing.B) {
		settle()
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			closing(b, open(b, dir, kv.FsyncEverySec))
		}
	})
}

func unmarshalFile(b *testing.B, name string) map[string]json.RawMessage {
	data, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	var documents map[string]json.RawMessage
	if err := json.Unmarshal(data, &documents); err != nil {
		b.Fatal(err)
	}
	return documents
}

// BenchmarkJSONRewrite writes the file of 96 MB anew after one document was
// stored (J2). It is in a tmpfs, where fsync does nothing; kv-disk is the same
// on the disk, with its fsyncs.
func BenchmarkJSONRewrite(b *testing.B) {
	corpus := chunks(fileChunks)
	dir := memoryDir(b)
	size := corpus.write(b, dir)
	documents := unmarshalFile(b, filepath.Join(dir, "kv_store_"+namespace+".json"))
	marshal := func(b *testing.B) []byte {
		data, err := json.Marshal(documents)
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	b.Run("encoding-json", func(b *testing.B) {
		settle()
		b.SetBytes(size)
		for b.Loop() {
			marshal(b)
		}
	})
	b.Run("kv", func(b *testing.B) { flushChanged(b, corpus, dir, size) })
	b.Run("encoding-json-write", func(b *testing.B) {
		settle()
		b.SetBytes(size)
		for b.Loop() {
			if err := os.WriteFile(filepath.Join(dir, "peer.json"), marshal(b), 0o600); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("kv-disk", func(b *testing.B) {
		dir := b.TempDir()
		corpus.write(b, dir)
		flushChanged(b, corpus, dir, size)
	})
}

func flushChanged(b *testing.B, c corpus, dir string, size int64) {
	ctx := context.Background()
	s := open(b, dir, kv.FsyncEverySec)
	defer closing(b, s)
	items := c.items(0, 1)[0]
	settle()
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Upsert(ctx, items); err != nil {
			b.Fatal(err)
		}
		if err := s.Flush(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJSONGet reads one of 10,000 documents of 1 KB at a time (J5).
func BenchmarkJSONGet(b *testing.B) {
	corpus := documents(10_000)
	ids := corpus.ids()
	loop := func(b *testing.B, get func(id string) int) {
		settle()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if n := get(ids[i%len(ids)]); n < 1000 {
				b.Fatal(n)
			}
		}
	}
	b.Run("bbolt", func(b *testing.B) {
		db := openBolt(b, corpus)
		loop(b, func(id string) int { return boltGet(b, db, id) })
	})
	b.Run("kv", func(b *testing.B) {
		dir := b.TempDir()
		corpus.write(b, dir)
		s := open(b, dir, kv.FsyncEverySec)
		defer closing(b, s)
		loop(b, func(id string) int {
			value, err := s.Get(context.Background(), id)
			if err != nil {
				b.Fatal(err)
			}
			return len(value)
		})
	})
	b.Run("pread", func(b *testing.B) { // What the reading itself takes.
		dir := b.TempDir()
		size := corpus.write(b, dir)
		f, err := os.Open(filepath.Join(dir, "kv_store_"+namespace+".json"))
		if err != nil {
			b.Fatal(err)
		}
		defer closing(b, f)
		at := rand.New(rand.NewPCG(5, 6))
		loop(b, func(string) int {
			n, err := f.ReadAt(make([]byte, 1024), at.Int64N(size-1024))
			if err != nil {
				b.Fatal(err)
			}
			return n
		})
	})
	b.Run("gokv-file", func(b *testing.B) {
		s := openGokv(b)
		ids = ids[:1_000] // It takes long to store them.
		for i, id := range ids {
			if err := s.Set(id, json.RawMessage(corpus.value(nil, i))); err != nil {
				b.Fatal(err)
			}
		}
		loop(b, func(id string) int {
			var value json.RawMessage
			if _, err := s.Get(id, &value); err != nil {
				b.Fatal(err)
			}
			return len(value)
		})
	})
}

var bucket = []byte(namespace)

// openBolt returns a database with the documents of c.
func openBolt(b *testing.B, c corpus) *bolt.DB {
	db, err := bolt.Open(filepath.Join(b.TempDir(), "bolt.db"), 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closing(b, db) })
	err = db.Update(func(tx *bolt.Tx) error {
		into, err := tx.CreateBucketIfNotExists(bucket)
		for i := 0; i < c.count && err == nil; i++ {
			err = into.Put([]byte(c.id(i)), c.value(nil, i))
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return db
}

// boltGet reads a value and copies it, since bbolt's own is valid only within
// the transaction.
func boltGet(b *testing.B, db *bolt.DB, id string) int {
	var value []byte
	err := db.View(func(tx *bolt.Tx) error {
		found := tx.Bucket(bucket).Get([]byte(id))
		value = append(make([]byte, 0, len(found)), found...)
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return len(value)
}

func openGokv(b *testing.B) file.Store {
	s, err := file.NewStore(file.Options{Directory: b.TempDir(), Codec: encoding.JSON})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkJSONFlushNothing flushes what is flushed already (J7), and counts
// the reads and writes of the process meanwhile.
func BenchmarkJSONFlushNothing(b *testing.B) {
	dir := b.TempDir()
	documents(10_000).write(b, dir)
	name := filepath.Join(dir, "kv_store_"+namespace+".json")
	s := open(b, dir, kv.FsyncEverySec)
	defer closing(b, s)
	ctx := context.Background()
	if err := s.Upsert(ctx, documents(10_000).items(7, 1)[0]); err != nil {
		b.Fatal(err)
	}
	if err := s.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	before, err := os.Stat(name)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("kv", func(b *testing.B) {
		settle()
		b.ReportAllocs()
		own := -ioCalls(b) + ioCalls(b) // What it costs to ask.
		calls := ioCalls(b)
		for b.Loop() {
			if err := s.Flush(ctx); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(ioCalls(b)-calls-own), "io-calls")
	})
	after, err := os.Stat(name)
	if err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		b.Fatal("the document file was replaced: ", err)
	}
}

// ioCalls returns how many reads and writes the process has asked for.
func ioCalls(b *testing.B) int {
	return field(b, "/proc/self/io", "syscr:") + field(b, "/proc/self/io", "syscw:")
}

// field returns the number behind a name in a file of /proc.
func field(b *testing.B, file, name string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		b.Skip(err)
	}
	n, err := strconv.Atoi(procField(string(text), name))
	if err != nil {
		b.Fatal(file, ": ", err)
	}
	return n
}
