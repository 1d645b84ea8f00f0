package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// benchFile is a file for the benchmarks, of about 8 MB.
type benchFile struct {
	kind string
	file []byte
	docs [][]byte // the members' values
}

func benchFiles() []benchFile {
	const english = "It was the best of times, it was the worst of times, it was the age of wisdom,\n" +
		"it was the age of foolishness \u2014 it was the epoch of belief, \"said he\", it was the epoch\n"
	const chinese = "中国南方电网调度运行操作管理规定，各调度机构可参照执行。\n第一章 总则 1.1 为规范运行操作，"
	text := func(s string, size int) func(int) any {
		content := strings.Repeat(s, size/len(s)+1)
		return func(i int) any {
			return map[string]any{
				"tokens": 1200, "content": content, "chunk_order_index": i, "full_doc_id": "doc-331c19bbe842d3513d3fe5de9d508183",
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	numbers := func(int) any {
		v := make([]float64, 256)
		for i := range v {
			v[i] = rng.NormFloat64()
		}
		return map[string]any{"vector": v}
	}
	structure := func(i int) any {
		var v []any
		for j := range 40 {
			v = append(v, map[string]any{"id": j, "src": fmt.Sprint("n", j), "tags": []any{"a", true, nil, []any{}}, "weight": i})
		}
		return v
	}
	var files []benchFile
	for _, k := range []struct {
		kind string
		doc  func(int) any
	}{
		{"english", text(english, 4500)}, {"chinese", text(chinese, 4500)},
		{"numbers", numbers}, {"structure", structure},
	} {
		f := benchFile{kind: k.kind, file: []byte("{")}
		for i := 0; len(f.file) < 8<<20; i++ {
			var buf bytes.Buffer
			enc := json.NewEncoder(&buf)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(k.doc(i)); err != nil {
				panic(err)
			}
			doc := bytes.TrimSpace(buf.Bytes())
			f.docs = append(f.docs, doc)
			if i > 0 {
				f.file = append(f.file, ',')
			}
			f.file = fmt.Appendf(f.file, "\n  \"chunk-%d\": ", i)
			f.file = AppendIndent(f.file, doc, "  ")
		}
		f.file = append(f.file, "\n}"...)
		files = append(files, f)
	}
	return files
}

func BenchmarkCheck(b *testing.B) {
	for _, f := range benchFiles() {
		b.Run(f.kind+"/jsonscan", func(b *testing.B) {
			b.SetBytes(int64(len(f.file)))
			b.ReportAllocs()
			for b.Loop() {
				if err := Check(f.file, 512); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(f.kind+"/encoding-json", func(b *testing.B) {
			b.SetBytes(int64(len(f.file)))
			for b.Loop() {
				if !json.Valid(f.file) {
					b.Fatal("invalid")
				}
			}
		})
	}
}

func BenchmarkReader(b *testing.B) {
	for _, f := range benchFiles() {
		b.Run(f.kind+"/jsonscan", func(b *testing.B) {
			b.SetBytes(int64(len(f.file)))
			b.ReportAllocs()
			for b.Loop() {
				r := NewReader(bytes.NewReader(f.file), 512)
				n := 0
				for ; ; n++ {
					if _, err := r.Next(); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
				if n != len(f.docs) {
					b.Fatal(n, "members")
				}
			}
		})
		b.Run(f.kind+"/encoding-json", func(b *testing.B) {
			b.SetBytes(int64(len(f.file)))
			for b.Loop() {
				if _, _, err := decodeFile(f.file); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendIndent(b *testing.B) {
	for _, f := range benchFiles() {
		size := 0
		for _, doc := range f.docs {
			size += len(doc)
		}
		b.Run(f.kind+"/jsonscan", func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				for _, doc := range f.docs {
					dst = AppendIndent(dst[:0], doc, "  ")
				}
			}
		})
		b.Run(f.kind+"/encoding-json", func(b *testing.B) {
			b.SetBytes(int64(size))
			var dst bytes.Buffer
			for b.Loop() {
				for _, doc := range f.docs {
					dst.Reset()
					if err := json.Indent(&dst, doc, "  ", "  "); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
