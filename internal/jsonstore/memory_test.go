package jsonstore

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fsys"
)

// A renamedFS says when the document file is about to be replaced, which is
// when a compaction holds the most.
type renamedFS struct {
	fsys.FS
	before func()
}

func (f *renamedFS) Rename(oldname, newname string) error {
	if newname == documentName {
		f.before()
	}
	return f.FS.Rename(oldname, newname)
}

// BenchmarkJSONMemory reports what is held for each document, in the manner of
// the README: with ids of 20 bytes, which are part of it.
func BenchmarkJSONMemory(b *testing.B) {
	const n = 1 << 20 * 3 / 4 // Between two sizes of the map.
	for _, ttl := range []time.Duration{0, time.Hour} {
		b.Run(fmt.Sprintf("ttl=%v", ttl), func(b *testing.B) {
			for b.Loop() {
				heap := func() float64 {
					runtime.GC()
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					return float64(m.HeapAlloc)
				}
				before, during := heap(), 0.0
				dir, err := fsys.Open(b.TempDir(), true)
				require.NoError(b, err)
				files := &renamedFS{dir, func() { during = heap() }}
				e, err := Open(b.Context(), Options{Namespace: "t", Files: files, Policy: policyNo, Logger: slog.New(slog.DiscardHandler)})
				require.NoError(b, err)
				s := enginetest.Wrap(e)
				for from := 0; from < n; from += 1024 {
					items := make(map[string]json.RawMessage)
					for i := range 1024 {
						items[fmt.Sprintf("id-%017d", from+i)] = json.RawMessage(`{"text":"some"}`)
					}
					require.NoError(b, s.UpsertTTL(b.Context(), items, ttl))
				}
				e.auto.running.Wait()
				during = 0
				require.NoError(b, s.Upsert(b.Context(), map[string]json.RawMessage{"more": json.RawMessage("1")}))
				idle := heap()
				require.NoError(b, s.Flush(b.Context()))
				b.ReportMetric((idle-before)/n, "B/doc")
				b.ReportMetric((during-before)/n, "B/doc-in-Flush")
				require.NoError(b, s.Close())
			}
		})
	}
}
