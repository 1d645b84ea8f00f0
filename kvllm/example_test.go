package kvllm_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvllm"
)

// The same question twice: the second one is free.
func Example() {
	dir, url, provider := exampleSetup()
	defer os.RemoveAll(dir)
	store, err := kv.Open(context.Background(), kv.Config{WorkingDir: dir}, "llm_response_cache")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	client := kvllm.Client(store, provider) // nil in a program: http.DefaultTransport
	for range 2 {                           // An SDK does this, given option.WithHTTPClient(client).
		resp, err := client.Post(url+"/v1/chat/completions", "application/json",
			strings.NewReader(`{"model":"gpt-4o","messages":[{"role":"user","content":"How does it begin?"}]}`))
		if err != nil {
			log.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.Header.Get(kvllm.HeaderCache), len(answer), err)
	}
	// Output:
	// miss 128 <nil>
	// hit 128 <nil>
}

// exampleSetup returns a directory, and a provider that is not far.
func exampleSetup() (dir, url string, provider http.RoundTripper) {
	dir, err := os.MkdirTemp("", "kvllm")
	if err != nil {
		log.Fatal(err)
	}
	return dir, "http://provider", always("application/json",
		`{"choices":[{"index":0,"message":{"role":"assistant","content":"It was the best of times."},"finish_reason":"stop"}],"usage":{}}`)
}

func ExampleBill() {
	dir, url, provider := exampleSetup()
	defer os.RemoveAll(dir)
	store, err := kv.Open(context.Background(), kv.Config{WorkingDir: dir}, "llm_response_cache")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	var bill kvllm.Bill
	client := kvllm.Client(store, provider, kvllm.Options{
		Bill: &bill,
		Price: func(_ string, u kvllm.Usage) float64 {
			return 2.5e-6*float64(u.InputTokens) + 1e-5*float64(u.OutputTokens)
		},
	})
	for range 3 {
		resp, err := client.Post(url+"/v1/chat/completions", "application/json",
			strings.NewReader(`{"model":"gpt-4o","messages":[{"role":"user","content":"How does it begin?"}]}`))
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
	}
	for _, l := range bill.Lines() {
		fmt.Println(l.Operation, l.Model, l.Requests, "requests,", l.Hits, "free")
	}
	// Output: chat gpt-4o 3 requests, 2 free
}

func ExampleCacheID() {
	fmt.Println(kvllm.CacheID("gpt-4o", []kvllm.Message{{Role: "user", Content: "it's"}}))
	// Output: 70d75b0a3f71d8fb5e0bdbfcf123256f
}
