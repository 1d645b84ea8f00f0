package kvllm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvllm"
)

// The second time a question is asked, the answer is the same, byte for byte,
// and the provider is not called; neither by another client of the store.
func TestSecondIsFree(t *testing.T) {
	each(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		c := client(t, s)
		first := ask(t, c, p.URL+w.path, w.body)
		require.Equal(t, got{200, "miss", p.Body(w.path, w.body), nil, first.header}, first)
		for _, c := range []*http.Client{c, client(t, s)} {
			again := ask(t, c, p.URL+w.path, w.body)
			require.Equal(t, got{200, "hit", first.body, nil, again.header}, again)
			require.Equal(t, "0", again.header.Get("Age"))
			require.Equal(t, first.header.Get("Content-Type"), again.header.Get("Content-Type"))
		}
		require.Equal(t, 1, p.Calls())

		all := answers(t, s)
		require.Len(t, all, 1)
		a := all[0]
		require.WithinDuration(t, time.Now(), a.Time, time.Minute)
		require.Equal(t, "It's", a.Question)
		require.Equal(t, w.operation, a.Operation)
		require.True(t, a.Complete)
		require.Equal(t, w.isStream(), a.Stream)
		require.EqualValues(t, len(first.body), a.Size)
		if w.operation == "completions" && w.isStream() {
			return // This stream says nothing of tokens.
		}
		require.EqualValues(t, 12, a.Usage.InputTokens)
		if w.operation != "embeddings" {
			require.EqualValues(t, 7, a.Usage.OutputTokens)
			require.Equal(t, p.Text([]byte(w.body)), a.Text())
		}
	})
}

// The id is of method, path, scope and the meaning of the body; not of
// credentials, nor of host and headers.
func TestSameQuestion(t *testing.T) {
	p, s := llmtest.New(t), open(t)
	c := client(t, s)
	url := p.URL + "/v1/chat/completions"
	const body = `{"model":"m","messages":[{"role":"user","content":"é"}],"temperature":0.5,"seed":100,"stream":false}`
	require.Equal(t, "miss", ask(t, c, url, body, "Authorization", "Bearer one").cache)
	for _, same := range []string{
		` { "messages" : [ { "content" : "\u00e9", "role":"user" } ] , "seed":1e2, "temperature":5.0E-1, "mod\u0065l":"m"} ` + "\n",
		`{"model":"m","messages":[{"role":"user","content":"é"}],"temperature":0.50,"seed":100,"stream":null}`,
	} {
		require.Equal(t, "hit", ask(t, c, url, same, "Authorization", "Bearer two", "X-Api-Key", "3").cache, same)
	}
	require.Equal(t, "hit", ask(t, c, strings.Replace(url, "127.0.0.1", "localhost", 1)+"?key=secret", body).cache)
	require.Equal(t, 1, p.Calls())
	doc, err := s.Get(t.Context(), ids(t, s)[0])
	require.NoError(t, err)
	require.NotContains(t, string(doc), "Bearer")
}

// All that changes an answer is in the id: tools, images, formats, seeds, and
// what is not known.
func TestOtherQuestion(t *testing.T) {
	p, s := llmtest.New(t), open(t)
	c := client(t, s)
	body := func(content, more string) string {
		return `{"model":"m","messages":[{"role":"user","content":` + content + `}]` + more + `}`
	}
	image := func(data string) string {
		return `[{"type":"text","text":"what"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + data + `"}}]`
	}
	tool := func(name string) string {
		return `,"tools":[{"type":"function","function":{"name":"` + name + `"}}]`
	}
	bodies := []string{
		body(`"a"`, ""), body(`"b"`, ""), body(`"a"`, `,"temperature":0`), body(`"a"`, `,"temperature":0.1`),
		body(`"a"`, `,"seed":9007199254740992`), body(`"a"`, `,"seed":9007199254740993`), body(`"a"`, `,"n":1`),
		body(`"a"`, tool("weather")), body(`"a"`, tool("time")),
		body(image("AAAA"), ""), body(image("AAAB"), ""),
		body(`"a"`, `,"response_format":{"type":"json_object"}`), body(`"a"`, `,"unheard":null`),
		body(`"\ud800"`, ""), body(`"\udbff"`, ""), body(`"\ufffd"`, ""), body(`"\\ud800"`, ""),
		body(`"a"`, `,"stream":true`),
		strings.Replace(body(`"a"`, ""), "user", "system", 1), strings.Replace(body(`"a"`, ""), `"m"`, `"M"`, 1),
	}
	for range 2 {
		for _, b := range bodies {
			ask(t, c, p.URL+"/v1/chat/completions", b)
		}
	}
	require.Equal(t, len(bodies), p.Calls())
	require.Equal(t, "miss", ask(t, c, p.URL+"/v2/chat/completions", bodies[0]).cache)
	require.Equal(t, "miss", ask(t, client(t, s, kvllm.Options{Scope: "b"}), p.URL+"/v1/chat/completions", bodies[0]).cache)
	awaitStored(t, s, len(bodies)+2)
}

// What is no question to a model passes through untouched.
func TestUntouched(t *testing.T) {
	s := open(t)
	const chat = `{"model":"m","messages":[]}`
	for _, c := range []struct{ method, path, body, encoding string }{
		{"GET", "/v1/models", "", ""},
		{"GET", "/v1/chat/completions", "", ""},
		{"POST", "/v1/chat/completions", "{not JSON", ""},
		{"POST", "/v1/chat/completions", chat + "x", ""},
		{"POST", "/v1/chat/completions", "\xff", ""},
		{"POST", "/v1/chat/completions", `{"model":"m"}`, ""},
		{"POST", "/v1/chat/completions", chat, "gzip"},
		{"POST", "/v1/threads/t/messages", `{"role":"user","content":"a"}`, ""},
		{"POST", "/v1/messages/count_tokens", chat, ""},
		{"POST", "/v1/messages/batches", `{"requests":[]}`, ""},
		{"POST", "/v1/chat/completions/chatcmpl-1", `{"metadata":{}}`, ""},
		{"POST", "/v1/responses", `{"model":"m","input":"a","conversation":"conv_1"}`, ""},
		{"POST", "/v1/images/generations", `{"model":"m","prompt":"a"}`, ""},
		{"PUT", "/v1/chat/completions", chat, ""},
	} {
		var body io.Reader
		if c.body != "" {
			body = strings.NewReader(c.body)
		}
		r, err := http.NewRequestWithContext(t.Context(), c.method, "http://provider"+c.path, body)
		require.NoError(t, err)
		if c.encoding != "" {
			r.Header.Set("Content-Encoding", c.encoding)
		}
		var seen string
		next := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Body != nil {
				text, err := io.ReadAll(r.Body)
				require.NoError(t, err)
				seen = string(text)
			}
			return &http.Response{StatusCode: http.StatusTeapot, Header: http.Header{"A": {"b"}}, Body: http.NoBody}, nil
		})
		resp, err := kvllm.Transport(s, next).RoundTrip(r)
		require.NoError(t, err)
		require.Equal(t, 418, resp.StatusCode)
		require.Equal(t, c.body, seen)
		require.Equal(t, http.Header{"A": {"b"}}, resp.Header)
	}
	require.Empty(t, ids(t, s))
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Cache-Control: no-store passes by the cache; no-cache too, except with a
// stream. A stored answer stays where it is.
func TestCacheControl(t *testing.T) {
	p, s := llmtest.New(t), open(t)
	c := client(t, s)
	whole, stream := wires[0], wires[9]
	url := p.URL + whole.path
	for i, step := range []struct{ body, control, want string }{
		{whole.body, "no-store", "bypass"},
		{whole.body, "no-cache", "bypass"},
		{whole.body, "", "miss"},
		{whole.body, "max-age=0, No-Cache", "bypass"},
		{whole.body, "no-store", "bypass"},
		{whole.body, "max-age=0", "hit"},
		{stream.body, "no-store", "bypass"},
		{stream.body, "no-cache", "miss"},
		{stream.body, "no-cache", "hit"},
		{stream.body, "no-cache, no-store", "bypass"},
	} {
		require.Equal(t, step.want, ask(t, c, url, step.body, "Cache-Control", step.control).cache, i)
	}
	awaitStored(t, s, 2)
}

// The modes: Refresh stores over, ReplayOnly asks nobody, Off looks at nothing.
func TestModes(t *testing.T) {
	each(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		url := p.URL + w.path
		replay := client(t, s, kvllm.Options{Mode: kvllm.ReplayOnly})
		_, err := send(t.Context(), replay, url, w.body)
		require.ErrorIs(t, err, kv.ErrNotFound)
		_, err = send(t.Context(), replay, p.URL+"/v1/files", w.body)
		require.ErrorIs(t, err, kv.ErrNotFound)
		require.Zero(t, p.Calls())

		first := ask(t, client(t, s), url, w.body)
		awaitStored(t, s, 1)
		require.Equal(t, first.body, ask(t, replay, url, w.body, "Cache-Control", "no-store").body)
		p.Size = 500
		refresh := client(t, s, kvllm.Options{Mode: kvllm.Refresh})
		require.Equal(t, "miss", ask(t, refresh, url, w.body).cache)
		var second got
		require.NoError(t, testkit.Await(func() bool {
			second = ask(t, replay, url, w.body)
			return second.body != first.body
		}))
		require.Equal(t, p.Body(w.path, w.body), second.body)
		p.Status = 500
		require.Equal(t, 500, ask(t, refresh, url, w.body).status)
		require.Equal(t, second.body, ask(t, replay, url, w.body).body)

		off := ask(t, client(t, s, kvllm.Options{Mode: kvllm.Off}), url, w.body)
		require.Equal(t, 500, off.status)
		require.Empty(t, off.cache)
		awaitStored(t, s, 1)
	})
}

// An answer that is longer than the store takes passes, and is not kept.
func TestTooLargeForTheStore(t *testing.T) {
	each(t, func(t *testing.T, w wire, p *llmtest.Provider, _ kv.Store) {
		if w.operation == "embeddings" {
			t.Skip("is short here")
		}
		s := open(t, func(c *kv.Config) { c.MaxValueBytes = 3000 })
		bill := new(kvllm.Bill)
		p.Size = 4000
		for i := range 2 {
			g := ask(t, client(t, s, kvllm.Options{Bill: bill}), p.URL+w.path, w.body)
			require.Equal(t, p.Body(w.path, w.body), g.body)
			require.NoError(t, testkit.Await(func() bool { return bill.Total().Refused["too large"] == int64(i+1) }))
		}
		require.Equal(t, 2, p.Calls())
		require.Empty(t, ids(t, s))
	})
}

// Where the store is away, closed or read-only, or has something else under
// the id, the provider is asked.
func TestStoreIsNoUse(t *testing.T) {
	p := llmtest.New(t)
	w := wires[0]
	for name, broken := range map[string]func(kv.Store) kv.Store{
		"closed": func(s kv.Store) kv.Store {
			require.NoError(t, s.Close())
			return s
		},
		"away": func(s kv.Store) kv.Store { return failing{s, kv.ErrUnavailable} },
		"odd":  func(s kv.Store) kv.Store { return failing{s, errors.New("odd")} },
		"foreign": func(s kv.Store) kv.Store {
			ask(t, client(t, s), p.URL+w.path, w.body)
			require.NoError(t, s.Upsert(t.Context(), testkit.One(ids(t, s)[0], `{"other":1}`)))
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := broken(open(t))
			before := p.Calls()
			for range 2 {
				g := ask(t, client(t, s), p.URL+w.path, w.body)
				require.Equal(t, p.Body(w.path, w.body), g.body)
				require.Contains(t, []string{"bypass", "refused", "miss"}, g.cache)
			}
			require.Equal(t, before+2, p.Calls())
			if name == "foreign" {
				doc, err := s.Get(t.Context(), ids(t, s)[0])
				require.NoError(t, err)
				require.JSONEq(t, `{"other":1}`, string(doc))
			}
		})
	}
}

// A failing store answers no call.
type failing struct {
	kv.Store
	err error
}

func (f failing) Get(context.Context, string) (json.RawMessage, error) { return nil, f.err }

// The caller's own errors reach it: a body that cannot be read, a context that
// is done, a provider that cannot be reached.
func TestErrors(t *testing.T) {
	s := open(t)
	odd := errors.New("odd")
	asked := 0
	c := kvllm.Transport(s, roundTripper(func(*http.Request) (*http.Response, error) {
		asked++
		return nil, odd
	}))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://p/v1/chat/completions", iotest.ErrReader(odd))
	require.NoError(t, err)
	_, err = c.RoundTrip(r)
	require.ErrorIs(t, err, odd)
	require.Zero(t, asked)

	r, err = http.NewRequestWithContext(t.Context(), http.MethodPost, "http://p/v1/chat/completions", strings.NewReader(wires[0].body))
	require.NoError(t, err)
	_, err = c.RoundTrip(r)
	require.Equal(t, odd, err)
	require.Equal(t, 1, asked)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err = http.NewRequestWithContext(ctx, http.MethodPost, "http://p/v1/chat/completions", strings.NewReader(wires[0].body))
	require.NoError(t, err)
	_, err = c.RoundTrip(r)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, ids(t, s))
}

// A panic of what is next reaches the caller who began.
func TestPanic(t *testing.T) {
	c := kvllm.Transport(open(t), roundTripper(func(*http.Request) (*http.Response, error) { panic("odd") }))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://p/v1/chat/completions", strings.NewReader(wires[0].body))
	require.NoError(t, err)
	defer func() { require.Contains(t, fmt.Sprint(recover()), "odd") }()
	_, _ = c.RoundTrip(r)
	t.Fatal("it returned")
}

// The request that a caller gave is not changed, and can be sent again.
func TestRequestIsLeftAlone(t *testing.T) {
	p := llmtest.New(t)
	c := client(t, open(t))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+wires[0].path, bytes.NewReader([]byte(wires[0].body)))
	require.NoError(t, err)
	r.Header.Set("Accept-Encoding", "gzip")
	before := r.Header.Clone()
	for range 2 {
		resp, err := c.Do(r)
		require.NoError(t, err)
		require.Same(t, r, resp.Request)
		resp.Body.Close()
		require.Equal(t, before, r.Header)
		r.Body, err = r.GetBody()
		require.NoError(t, err)
	}
	require.Equal(t, 1, p.Calls())
}
