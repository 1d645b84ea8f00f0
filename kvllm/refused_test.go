package kvllm_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvllm"
)

// Complete answers only: no other finish reason, no error, no other status.
// What is refused reaches the caller, and is counted.
func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		bill := new(kvllm.Bill)
		c := client(t, s, kvllm.Options{Bill: bill})
		url := p.URL + w.path
		refused := make(map[string]int64)
		refuse := func(reason string, status int) {
			t.Helper()
			g := ask(t, c, url, w.body)
			require.Equal(t, status, g.status)
			if status == 200 {
				require.Equal(t, p.Body(w.path, w.body), g.body)
			}
			if !w.isStream() || status != 200 {
				require.Equal(t, "refused", g.cache)
			}
			refused[reason]++
			require.NoError(t, testkit.Await(func() bool { return bill.Total().Misses == int64(p.Calls()) }))
			require.Equal(t, refused, bill.Total().Refused)
			require.Empty(t, ids(t, s))
		}
		for _, status := range []int{400, 401, 429, 500, 503, 529} {
			p.Status = status
			refuse("status "+strconv.Itoa(status), status)
		}
		p.Status = 0
		if w.operation == "embeddings" {
			return
		}
		if w.isStream() {
			p.Error = true
			if strings.HasPrefix(w.operation, "ollama") {
				p.Error = false // Its errors are lines.
			} else {
				refuse("an error in the answer", 200)
			}
			p.Error = false
		}
		for _, finish := range []string{"length", "content_filter", "incomplete", "max_tokens", "Anything <else>"} {
			if p.Finish = finish; w.operation == "responses" && finish != "incomplete" {
				continue
			}
			reason := finish
			if finish == "Anything <else>" {
				reason = "another finish reason"
			}
			refuse(reason, 200)
		}
		p.Finish = ""
		ask(t, c, url, w.body)
		awaitStored(t, s, 1)
		require.Equal(t, "hit", ask(t, c, url, w.body).cache)
	})
}

// A body that says an error, or is not what it should be, is not kept.
func TestRefusedBodies(t *testing.T) {
	s := open(t)
	for body, reason := range map[string]string{
		`{"error":{"message":"no"}}`:                          "an error in the answer",
		`{"error":"no","choices":[{"finish_reason":"stop"}]}`: "an error in the answer",
		`{"choices":[{"index":0,"finish_reason":"stop"}`:      "not well-formed",
		`{"choices":[]}`: "empty",
		`[]`:             "not well-formed",
		`<html>`:         "not well-formed",
		``:               "not well-formed",
		`{"choices":[{"index":0,"finish_reason":null}]}`:                             "no end",
		`{"choices":[{"index":0,"finish_reason":"stop"},{"index":1}]}`:               "no end",
		"{\"choices\":[{\"index\":0,\"finish_reason\":\"stop\",\"text\":\"\xff\"}]}": "too large",
	} {
		bill := new(kvllm.Bill)
		c := kvllm.Client(s, always("application/json", body), kvllm.Options{Bill: bill})
		g := ask(t, c, "http://provider/v1/chat/completions", wires[0].body)
		require.Equal(t, "refused", g.cache, body)
		require.Equal(t, body, g.body)
		require.Equal(t, map[string]int64{reason: 1}, bill.Total().Refused, body)
	}
	require.Empty(t, ids(t, s))
}

// always is a provider that always says the same.
func always(contentType, body string) http.RoundTripper {
	return roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {contentType}},
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1,
		}, nil
	})
}

// A compressed answer cannot be looked at; it passes. The provider is asked for
// none.
func TestCompressed(t *testing.T) {
	s := open(t)
	var accepts []string
	next := roundTripper(func(r *http.Request) (*http.Response, error) {
		accepts = r.Header.Values("Accept-Encoding")
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Encoding": {"br"}}, Body: io.NopCloser(strings.NewReader("zzz"))}, nil
	})
	g := ask(t, kvllm.Client(s, next), "http://provider/v1/chat/completions", wires[0].body, "Accept-Encoding", "br")
	require.Equal(t, "zzz", g.body)
	require.Equal(t, "refused", g.cache)
	require.Empty(t, accepts)
	require.Empty(t, ids(t, s))
}

// Keep decides about what has come whole, and sees what it is about.
func TestKeep(t *testing.T) {
	each(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		keeps := false
		bill := new(kvllm.Bill)
		c := client(t, s, kvllm.Options{Bill: bill, Keep: func(r *http.Request, a *kvllm.Answer) bool {
			require.Equal(t, w.path, r.URL.Path)
			text, err := io.ReadAll(a.Body())
			require.NoError(t, err)
			require.Equal(t, p.Body(w.path, w.body), string(text))
			require.Equal(t, p.Finish == "", a.Complete)
			return keeps
		}})
		ask(t, c, p.URL+w.path, w.body)
		require.NoError(t, testkit.Await(func() bool { return bill.Total().Refused["refused by Keep"] == 1 }))
		require.Empty(t, ids(t, s))
		keeps = true
		if w.operation == "embeddings" {
			return
		}
		p.Finish = "incomplete"
		ask(t, c, p.URL+w.path, w.body)
		awaitStored(t, s, 1)
		require.Equal(t, "hit", ask(t, c, p.URL+w.path, w.body).cache)
	})
}
