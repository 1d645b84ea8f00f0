package kv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	"github.com/ngraf/kv"
)

// The program of the README; a test compares the two.
func Example() {
	ctx := context.Background()
	cfg, err := kv.FromEnv() // STORAGE_KV_BACKEND=json or redis
	if err != nil {
		log.Fatal(err)
	}
	store, err := kv.Open(ctx, cfg, "full_docs")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	docs := kv.For[string](store) // or a struct of yours
	if err := docs.Upsert(ctx, map[string]string{"doc-1": "It was the best of times."}); err != nil {
		log.Fatal(err)
	}
	doc, err := docs.Get(ctx, "doc-1")
	fmt.Println(doc, err)
	// Output: It was the best of times. <nil>
}

// tempConfig keeps an example's files out of the way.
func tempConfig() (kv.Config, func()) {
	dir, err := os.MkdirTemp("", "kv-example")
	if err != nil {
		log.Fatal(err)
	}
	return kv.Config{WorkingDir: dir}, func() { _ = os.RemoveAll(dir) }
}

func ExampleFactory() {
	cfg, clean := tempConfig()
	defer clean()
	ctx := context.Background()
	factory, err := kv.NewFactory(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer factory.Close() // Closes the stores, too.
	docs, err := factory.Open(ctx, "full_docs")
	if err != nil {
		log.Fatal(err)
	}
	chunks, err := factory.Open(ctx, "text_chunks")
	if err != nil {
		log.Fatal(err)
	}
	_ = docs.Upsert(ctx, map[string]json.RawMessage{"doc-1": json.RawMessage(`{"content":"..."}`)})
	missing, err := chunks.Missing(ctx, []string{"chunk-1", "chunk-2"})
	fmt.Println(missing, err)
	// Output: [chunk-1 chunk-2] <nil>
}

func ExampleFromLookup() {
	vars := map[string]string{"REDIS_MAX_CONNECTIONS": "many", "REDIS_TTL_TEXT_CHUNKS": "1 day"}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	_, err := kv.FromLookup(lookup, nil)
	fmt.Println(err)
	// Output:
	// invalid: REDIS_MAX_CONNECTIONS: "many" is not a whole number above 0
	// invalid: REDIS_TTL_TEXT_CHUNKS: "1 day" is neither a number of seconds nor a duration such as 90s, 15m, 12h or 7d
}

func ExampleStore_GetMany() {
	cfg, clean := tempConfig()
	defer clean()
	ctx := context.Background()
	chunks, err := kv.Open(ctx, cfg, "text_chunks")
	if err != nil {
		log.Fatal(err)
	}
	defer chunks.Close()
	_ = chunks.Upsert(ctx, map[string]json.RawMessage{
		"chunk-1": json.RawMessage(`{"tokens":12,"content":"a long text"}`),
	})
	values, err := chunks.GetMany(ctx, []string{"chunk-1", "chunk-9"}, "tokens")
	fmt.Println(string(values[0]), values[1] == nil, err)
	// Output: {"tokens":12} true <nil>
}

func ExampleAs() {
	cfg, clean := tempConfig()
	defer clean()
	ctx := context.Background()
	cache, err := kv.Open(ctx, cfg, "llm_response_cache")
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	expirer, ok := kv.As[kv.Expirer](cache)
	if !ok {
		log.Fatal("no times to live here")
	}
	answer := map[string]json.RawMessage{"question": json.RawMessage(`{"return":"42","model":"m"}`)}
	err = expirer.UpsertTTL(ctx, answer, time.Hour)
	ttl, _ := expirer.TTL(ctx, "question")
	fmt.Println(ttl > 59*time.Minute, err)
	// Output: true <nil>
}

func ExampleError() {
	cfg, clean := tempConfig()
	defer clean()
	ctx := context.Background()
	docs, err := kv.Open(ctx, cfg, "full_docs")
	if err != nil {
		log.Fatal(err)
	}
	defer docs.Close()
	_, err = docs.Get(ctx, "nowhere")
	fmt.Println(err, errors.Is(err, kv.ErrNotFound))
	err = docs.Upsert(ctx, map[string]json.RawMessage{"a": json.RawMessage(`{"x":NaN}`)})
	fmt.Println(err)
	// Output:
	// kv: get full_docs: not found true
	// kv: upsert full_docs: invalid: a value is not JSON: invalid JSON at offset 5: NaN or Infinity
}

func ExampleRegister() {
	// A backend of one's own is chosen by STORAGE_KV_BACKEND=null.
	kv.Register("null", func(ctx context.Context, cfg kv.Config, namespace string) (kv.Store, error) {
		return nil, fmt.Errorf("nothing is kept in %s", namespace)
	})
	_, err := kv.Open(context.Background(), kv.Config{Backend: "null"}, "docs")
	fmt.Println(err)
	fmt.Println(slices.Contains(kv.Backends(), "null"))
	// Output:
	// kv: open docs: nothing is kept in docs
	// true
}
