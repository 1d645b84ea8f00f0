package kv_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvllm"
)

// BenchmarkCompute measures a hit against Typed.Get, and a miss against the
// Get and Upsert that it replaces. Compare with
//
//	go test -run '^$' -bench Compute -count 10 .
func BenchmarkCompute(b *testing.B) {
	for _, backend := range []string{"json", "redis"} {
		cfg := kv.Config{WorkingDir: b.TempDir()}
		if backend == "redis" {
			cfg = redisCfg(redistest.Start(b).URL())
		}
		s, err := kv.Open(b.Context(), cfg, "docs", kv.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		view := kv.For[kvllm.CachedAnswer](s)
		answer := kvllm.CachedAnswer{Return: strings.Repeat("x", 1024), Model: "m"}
		var calls atomic.Int64
		fn := giving(&calls, answer, nil)
		if _, err := view.Compute(b.Context(), "a", fn); err != nil {
			b.Fatal(err)
		}
		run := func(name string, call func(i int) error) {
			b.Run(backend+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := call(i); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		ctx := context.Background()
		run("hit/get", func(int) error { _, err := view.Get(ctx, "a"); return err })
		run("hit/compute", func(int) error { _, err := view.Compute(ctx, "a", fn); return err })
		round := 0
		run("miss/get-upsert", func(i int) error {
			if i == 0 {
				round++
			}
			id := fmt.Sprint("g", round, i)
			_, _ = view.Get(ctx, id)
			return view.Upsert(ctx, map[string]kvllm.CachedAnswer{id: answer})
		})
		run("miss/compute", func(i int) error {
			if i == 0 {
				round++
			}
			_, err := view.Compute(ctx, fmt.Sprint("c", round, i), fn)
			return err
		})
	}
}
