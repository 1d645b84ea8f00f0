package kvllm_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvllm"
)

// No goroutine is left when all tests are done.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// open returns a store of files.
func open(t testing.TB, change ...func(*kv.Config)) kv.Store {
	cfg := kv.Config{WorkingDir: t.TempDir()}
	for _, do := range change {
		do(&cfg)
	}
	s, err := kv.Open(t.Context(), cfg, "llm_response_cache", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// client returns one whose connections end with the test.
func client(t testing.TB, s kv.Store, o ...kvllm.Options) *http.Client {
	next := &http.Transport{}
	t.Cleanup(next.CloseIdleConnections)
	return kvllm.Client(s, next, o...)
}

// A got is what a caller gets.
type got struct {
	status int
	cache  string
	body   string
	err    error // of reading the body
	header http.Header
}

func send(ctx context.Context, c *http.Client, url, body string, headers ...string) (got, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return got{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		return got{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Header.Get(kvllm.HeaderCache), string(text), err, resp.Header}, nil
}

func post(t testing.TB, c *http.Client, url, body string, headers ...string) got {
	t.Helper()
	g, err := send(t.Context(), c, url, body, headers...)
	require.NoError(t, err)
	return g
}

// ask posts what is to be answered.
func ask(t testing.TB, c *http.Client, url, body string, headers ...string) got {
	t.Helper()
	g := post(t, c, url, body, headers...)
	require.NoError(t, g.err)
	return g
}

// ids lists what is stored.
func ids(t testing.TB, s kv.Store) (list []string) {
	for id, err := range s.Keys(context.WithoutCancel(t.Context())) {
		require.NoError(t, err)
		list = append(list, id)
	}
	return list
}

// awaitStored waits until so many documents are stored: a caller may have an
// answer a moment before the store has.
func awaitStored(t testing.TB, s kv.Store, n int) {
	t.Helper()
	require.NoError(t, testkit.Await(func() bool { return len(ids(t, s)) == n }))
}

// answers are those that are stored.
func answers(t testing.TB, s kv.Store) (list []*kvllm.Answer) {
	for _, id := range ids(t, s) {
		doc, err := s.Get(t.Context(), id)
		require.NoError(t, err)
		a, err := kvllm.ParseAnswer(doc)
		require.NoError(t, err)
		list = append(list, a)
	}
	return list
}

// A wire is a path and a body that it takes.
type wire struct{ operation, path, body string }

// wires are requests of all formats, without and with a stream.
var wires = []wire{
	{"chat", "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"It's\nme"}]}`},
	{"completions", "/v1/completions", `{"model":"m","prompt":"It's\nme"}`},
	{"responses", "/v1/responses", `{"model":"m","input":"It's\nme"}`},
	{"messages", "/v1/messages", `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"It's\nme"}]}`},
	{"embeddings", "/v1/embeddings", `{"model":"m","input":["It's\nme"]}`},
	{"embeddings", "/api/embed", `{"model":"m","input":["It's\nme"]}`},
	{"ollama chat", "/api/chat", `{"model":"m","stream":false,"messages":[{"role":"user","content":"It's\nme"}]}`},
	{"ollama generate", "/api/generate", `{"model":"m","stream":false,"prompt":"It's\nme"}`},
	{"chat", "/openai/deployments/d/chat/completions", `{"messages":[{"role":"user","content":"It's\nme"}]}`},

	{"chat", "/v1/chat/completions", `{"model":"m","stream":true,"messages":[{"role":"user","content":"It's\nme"}]}`},
	{"completions", "/v1/completions", `{"model":"m","stream":true,"prompt":"It's\nme"}`},
	{"responses", "/v1/responses", `{"model":"m","stream":true,"input":[{"role":"user","content":[{"type":"input_text","text":"It's\nme"}]}]}`},
	{"messages", "/v1/messages", `{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"It's\nme"}]}]}`},
	{"ollama chat", "/api/chat", `{"model":"m","messages":[{"role":"user","content":"It's\nme"}]}`},
	{"ollama generate", "/api/generate", `{"model":"m","prompt":"It's\nme"}`},
}

func (w wire) name() string {
	if w.isStream() {
		return w.operation + " stream " + w.path
	}
	return w.operation + " " + w.path
}

func (w wire) isStream() bool {
	var q struct{ Stream *bool }
	_ = json.Unmarshal([]byte(w.body), &q)
	return q.Stream != nil && *q.Stream || q.Stream == nil && strings.HasPrefix(w.operation, "ollama")
}

// each runs a test for each wire, with a provider and a store of its own.
func each(t *testing.T, do func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store)) {
	for _, w := range wires {
		t.Run(w.name(), func(t *testing.T) { do(t, w, llmtest.New(t), open(t)) })
	}
}
