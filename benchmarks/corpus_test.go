//go:build linux

package benchmarks

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ngraf/kv"
)

// namespace is the one that every benchmark uses.
const namespace = "text_chunks"

// A corpus is a set of documents that are made anew, the same each time,
// wherever they are needed.
type corpus struct {
	name  string
	count int
	id    func(i int) string
	value func(buf []byte, i int) []byte // appends document i, without white space
}

// chunks are values of text_chunks as nano-graphrag stores them, of about
// 4.8 KB.
func chunks(count int) corpus {
	return corpus{
		name:  "chunks",
		count: count,
		id:    func(i int) string { return fmt.Sprintf("chunk-%032x", scatter(i)) },
		value: func(buf []byte, i int) []byte {
			buf = append(buf, `{"tokens":1200,"content":"`...)
			buf = append(buf, excerpt(i, 4600)...)
			return fmt.Appendf(buf, `","chunk_order_index":%d,"full_doc_id":"doc-%032x"}`, i, scatter(i/40))
		},
	}
}

// documents are values of 1 KB under ids of 32 characters.
func documents(count int) corpus {
	return corpus{
		name:  "documents",
		count: count,
		id:    func(i int) string { return fmt.Sprintf("%032x", scatter(i)) },
		value: func(buf []byte, i int) []byte {
			buf = append(buf, `{"content":"`...)
			buf = append(buf, excerpt(i, 1010)...)
			return append(buf, `"}`...)
		},
	}
}

// scatter is a bijection, so that ids do not come in order.
func scatter(i int) uint64 { return (uint64(i) + 1) * 0x9E3779B97F4A7C15 }

// prose is English text as it stands between the quotation marks of a JSON
// string: lines of about 70 characters, speech, some typography, all escapes
// of its kind. It consists of pieces that end between characters.
var prose = sync.OnceValue(func() (text []string) {
	words := strings.Fields(`the of and to a in that it was I he his with you as had for at not be my on Scrooge
		have him is said upon they were all this Christmas one Spirit there by what so Ghost which old out but from
		no or them when would man could their some if good like more an been through little very before who`)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1 << 12 {
		var line strings.Builder
		for line.Len() < 60 {
			line.WriteString(words[rng.IntN(len(words))] + " ")
		}
		switch rng.IntN(8) {
		case 0:
			line.WriteString(`— he \"said\",`)
		case 1:
			line.WriteString("it’s “so”.")
		}
		text = append(text, line.String()+`\n`)
	}
	return text
})

// excerpt returns about size bytes of prose.
func excerpt(i, size int) []byte {
	lines := prose()
	buf := make([]byte, 0, size+100)
	for at := scatter(i) >> 16; ; at++ {
		line := lines[at%uint64(len(lines))]
		if len(buf)+len(line) > size {
			return append(buf, "The end of it all, as it was in the beginning and shall be."[:min(size-len(buf), 59)]...)
		}
		buf = append(buf, line...)
	}
}

// write writes the corpus to the document file in dir, in the layout of
// Python's json.dump(documents, file, indent=2), and returns its size.
func (c corpus) write(tb testing.TB, dir string) int64 {
	tb.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "kv_store_"+namespace+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	var value []byte
	var indented bytes.Buffer
	separator := "{\n"
	for i := range c.count {
		value = c.value(value[:0], i)
		indented.Reset()
		if err := json.Indent(&indented, value, "  ", "  "); err != nil {
			tb.Fatal(err)
		}
		fmt.Fprintf(w, "%s  %q: %s", separator, c.id(i), indented.Bytes())
		separator = ",\n"
	}
	fmt.Fprint(w, "\n}")
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	return info.Size()
}

// items returns the documents from first on, each as the items of one Upsert.
func (c corpus) items(first, n int) []map[string]json.RawMessage {
	list := make([]map[string]json.RawMessage, n)
	for i := range list {
		list[i] = map[string]json.RawMessage{c.id(first + i): c.value(nil, first+i)}
	}
	return list
}

// ids returns the ids of all documents, in an order that has nothing to do
// with that of the file.
func (c corpus) ids() []string {
	ids := make([]string, c.count)
	for i, at := range rand.New(rand.NewPCG(3, 4)).Perm(c.count) {
		ids[i] = c.id(at)
	}
	return ids
}

// open opens the namespace in dir.
func open(tb testing.TB, dir string, fsync kv.Fsync) kv.Store {
	tb.Helper()
	cfg := kv.Config{WorkingDir: dir, JSON: kv.JSONConfig{Fsync: fsync}}
	s, err := kv.Open(context.Background(), cfg, namespace, kv.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func closing(tb testing.TB, c io.Closer) {
	tb.Helper()
	if err := c.Close(); err != nil {
		tb.Fatal(err)
	}
}

// memoryDir returns a directory in which fsync costs nothing, or skips.
func memoryDir(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "kv-bench")
	if err != nil {
		b.Skip("no tmpfs at /dev/shm: ", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// settle ends what earlier benchmarks left under way: dirty pages on their
// way to the disk, and garbage.
func settle() {
	syscall.Sync()
	runtime.GC()
	debug.FreeOSMemory()
}
