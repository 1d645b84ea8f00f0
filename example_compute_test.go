package kv_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"sync"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvllm"
)

// An LLM's answers, paid for once by all workers, those in Python included.
func ExampleTyped_Compute() {
	cfg, clean := tempConfig() // kv.FromEnv() in a program; redis to share between hosts
	defer clean()
	ctx := context.Background()
	store, err := kv.Open(ctx, cfg, "llm_response_cache")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	cache := kv.For[kvllm.CachedAnswer](store).With(kv.ComputeOptions[kvllm.CachedAnswer]{
		Limit:  2 * time.Minute, // of one call of the model
		Accept: func(a kvllm.CachedAnswer) bool { return a.Return != "" && !strings.HasPrefix(a.Return, "I'm sorry") },
	})
	calls := 0
	ask := func(model, prompt string) (string, error) {
		messages := []kvllm.Message{{Role: "user", Content: prompt}}
		answer, err := cache.Compute(ctx, kvllm.CacheID(model, messages), func(ctx context.Context) (kvllm.CachedAnswer, error) {
			calls++ // The call of the model, with ctx.
			return kvllm.CachedAnswer{Return: "It was the best of times.", Model: model}, nil
		})
		return answer.Return, err
	}
	var workers sync.WaitGroup
	for range 10 {
		workers.Go(func() {
			if _, err := ask("gpt-4o", "How does it begin?"); err != nil {
				log.Fatal(err)
			}
		})
	}
	workers.Wait()
	answer, err := ask("gpt-4o", "How does it begin?")
	fmt.Println(answer, err, calls)
	// Output: It was the best of times. <nil> 1
}

func ExampleTyped_ComputeMany() {
	cfg, clean := tempConfig()
	defer clean()
	ctx := context.Background()
	store, err := kv.Open(ctx, cfg, "embeddings")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	lengths := kv.For[int](store)
	embed := func(_ context.Context, missing []string) (map[string]int, error) {
		fmt.Println("computing", missing)
		got := make(map[string]int)
		for _, text := range missing {
			got[text] = len(text)
		}
		return got, nil
	}
	for _, texts := range [][]string{{"one", "three"}, {"three", "eleven", "one"}} {
		got, err := lengths.ComputeMany(ctx, texts, embed)
		fmt.Println(got, err)
	}
	// Output:
	// computing [one three]
	// map[one:3 three:5] <nil>
	// computing [eleven]
	// map[eleven:6 one:3 three:5] <nil>
}
