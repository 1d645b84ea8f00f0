package kvembed_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvembed"
)

// Chunks are embedded once, also when a pipeline runs again over documents of
// which a few are new.
func ExampleCached() {
	dir, err := os.MkdirTemp("", "kvembed")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	store, err := kv.Open(ctx, kv.Config{WorkingDir: dir}, "embeddings") // kv.FromEnv() in a program
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	provider := func(_ context.Context, texts []string) ([][]float32, error) { // The call of the model.
		fmt.Println("asked for", texts)
		vectors := make([][]float32, len(texts))
		for i, text := range texts {
			vectors[i] = []float32{float32(len(text)), 0.5}
		}
		return vectors, nil
	}
	embed := kvembed.Cached(store, "a-model", 2, provider)
	for _, chunks := range [][]string{{"one", "three", "one"}, {"three", "eleven", "one"}} {
		vectors, err := embed(ctx, chunks)
		fmt.Println(vectors, err)
	}
	// Output:
	// asked for [one three]
	// [[3 0.5] [5 0.5] [3 0.5]] <nil>
	// asked for [eleven]
	// [[5 0.5] [6 0.5] [3 0.5]] <nil>
}
