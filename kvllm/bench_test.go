package kvllm_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvllm"
)

// overheadBody is a question of 1 KB.
func overheadBody(n int, stream bool) string {
	return fmt.Sprintf(`{"model":"m","stream":%t,"messages":[{"role":"system","content":"%s"},{"role":"user","content":"%d"}],"temperature":0.0}`,
		stream, strings.Repeat("You are \\\"kind\\\". ", 50), n)
}

// BenchmarkOverhead measures what stands between a caller and an answer of 4
// KB: a hit against Store.Get of the same document, a miss and the first byte
// of a stream against the provider alone, which is in memory.
//
//	go test -run '^$' -bench Overhead -count 10 ./kvllm
func BenchmarkOverhead(b *testing.B) {
	p := llmtest.Behaviour{Size: 4 << 10}
	replies := map[bool]string{}
	for _, stream := range []bool{false, true} {
		replies[stream] = p.Body("/v1/chat/completions", overheadBody(0, stream))
	}
	stores := map[string]func(b *testing.B) kv.Store{
		"json":  func(b *testing.B) kv.Store { return open(b) },
		"redis": func(b *testing.B) kv.Store { return openRedis(b, redistest.Start(b).URL()) },
	}
	for _, backend := range []string{"json", "redis"} {
		for _, stream := range []bool{false, true} {
			contentType := "application/json"
			if stream {
				contentType = "text/event-stream"
			}
			provider := always(contentType, replies[stream])
			name := fmt.Sprintf("%s/stream=%t/", backend, stream)
			b.Run(name+"hit", func(b *testing.B) {
				rt := kvllm.Transport(stores[backend](b), provider)
				roundTrip(b, rt, overheadBody(0, stream))
				for b.Loop() {
					roundTrip(b, rt, overheadBody(0, stream))
				}
			})
			b.Run(name+"get", func(b *testing.B) {
				s := stores[backend](b)
				roundTrip(b, kvllm.Transport(s, provider), overheadBody(0, stream))
				id := ids(b, s)[0]
				for b.Loop() {
					_, err := s.Get(b.Context(), id)
					require.NoError(b, err)
				}
			})
			b.Run(name+"miss", func(b *testing.B) {
				rt := kvllm.Transport(stores[backend](b), provider)
				for n := 0; b.Loop(); n++ {
					roundTrip(b, rt, overheadBody(n, stream))
				}
			})
			b.Run(name+"first byte", func(b *testing.B) {
				rt := kvllm.Transport(stores[backend](b), provider)
				for n := 0; b.Loop(); n++ {
					body := trip(b, rt, overheadBody(n, stream))
					_, err := body.Read(make([]byte, 1))
					require.NoError(b, err)
					b.StopTimer()
					_, _ = io.Copy(io.Discard, body)
					_ = body.Close()
					b.StartTimer()
				}
			})
			b.Run(name+"provider", func(b *testing.B) {
				for b.Loop() {
					roundTrip(b, provider, overheadBody(0, stream))
				}
			})
		}
	}
}

func trip(b *testing.B, rt http.RoundTripper, body string) io.ReadCloser {
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://p/v1/chat/completions", bytes.NewReader([]byte(body)))
	require.NoError(b, err)
	resp, err := rt.RoundTrip(r)
	require.NoError(b, err)
	return resp.Body
}

func roundTrip(b *testing.B, rt http.RoundTripper, body string) {
	from := trip(b, rt, body)
	_, err := io.Copy(io.Discard, from)
	require.NoError(b, err)
	require.NoError(b, from.Close())
}
