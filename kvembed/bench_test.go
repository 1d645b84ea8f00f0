package kvembed_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvembed"
)

// BenchmarkHits measures 1,000 vectors of 1,536 dimensions that are there,
// against the GetMany of their values.
func BenchmarkHits(b *testing.B) {
	const dims = 1536
	texts, ids := make([]string, 1000), make([]string, 1000)
	for i := range texts {
		texts[i] = fmt.Sprint("text ", i)
		ids[i] = kvembed.ID("m", dims, texts[i])
	}
	for name, cfg := range map[string]kv.Config{
		"json":  {WorkingDir: b.TempDir()},
		"redis": {Backend: "redis", WorkingDir: b.TempDir(), Redis: kv.RedisConfig{URL: kv.RedisURL(redistest.Start(b).URL())}},
	} {
		s, err := kv.Open(b.Context(), cfg, "embeddings", kv.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		embed := kvembed.Cached(s, "m", dims, (&provider{dims: dims}).embed)
		if _, err := embed(b.Context(), texts); err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/getmany", func(b *testing.B) {
			for b.Loop() {
				if _, err := s.GetMany(b.Context(), ids); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/embed", func(b *testing.B) {
			for b.Loop() {
				if _, err := embed(b.Context(), texts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
