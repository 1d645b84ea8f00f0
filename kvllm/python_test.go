package kvllm_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvllm"
)

// With Options.Python an answer has the id and the value of nano-graphrag's
// workers, and theirs is an answer to us: interop.md.
func TestPython(t *testing.T) {
	p, s := llmtest.New(t), open(t)
	c := client(t, s, kvllm.Options{Python: true})
	const body = `{"model":"gpt-4o","messages":[{"role":"user","content":"it's"}],"stream":false}`
	url := p.URL + "/v1/chat/completions"
	require.Equal(t, p.Body("/v1/chat/completions", body), ask(t, c, url, body).body)
	id := kvllm.CacheID("gpt-4o", []kvllm.Message{{Role: "user", Content: "it's"}})
	require.Equal(t, []string{id}, ids(t, s))
	mine, err := kv.For[kvllm.CachedAnswer](s).Get(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, kvllm.CachedAnswer{Return: p.Text([]byte(body)), Model: "gpt-4o"}, mine)
	require.Equal(t, mine.Return, said(t, ask(t, c, url, body)))

	require.NoError(t, s.Upsert(t.Context(), testkit.One(id, `{"return": "caf\u00e9 <\"\\\ud83d\ude00>", "model": "gpt-4o"}`)))
	g := ask(t, c, url, body)
	require.Equal(t, "hit", g.cache)
	require.Equal(t, "café <\"\\😀>", said(t, g))
	require.Equal(t, "café <\"\\😀>", answers(t, s)[0].Text())
	require.Equal(t, 1, p.Calls())
}

// said is what a chat completion says.
func said(t *testing.T, g got) string {
	var reply struct {
		Choices []struct {
			Message      struct{ Role, Content string }
			FinishReason string `json:"finish_reason"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(g.body), &reply))
	require.Equal(t, "assistant", reply.Choices[0].Message.Role)
	require.Equal(t, "stop", reply.Choices[0].FinishReason)
	return reply.Choices[0].Message.Content
}

// What Python's workers cannot ask has an id of ours: other parameters, other
// messages, streams, and whatever has a scope. Their answers are for no tenant.
func TestPythonCannotAsk(t *testing.T) {
	p, s := llmtest.New(t), open(t)
	c := client(t, s, kvllm.Options{Python: true})
	const plain = `"messages":[{"role":"user","content":"a"}]`
	for _, w := range []wire{
		{path: "/v1/chat/completions", body: `{"model":"m","temperature":0,` + plain + `}`},
		{path: "/v1/chat/completions", body: `{"model":"m","stream":true,` + plain + `}`},
		{path: "/v1/chat/completions", body: `{` + plain + `}`},
		{path: "/v1/chat/completions", body: `{"model":"m","messages":[{"role":"user","content":"a","name":"b"}]}`},
		{path: "/v1/chat/completions", body: `{"model":"m","messages":[{"role":"user","content":null}]}`},
		{path: "/v1/chat/completions", body: `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}`},
		{path: "/v1/messages", body: `{"model":"m",` + plain + `}`},
	} {
		require.Equal(t, "miss", ask(t, c, p.URL+w.path, w.body).cache)
		require.Equal(t, "hit", ask(t, c, p.URL+w.path, w.body).cache, w.body)
	}
	const body = `{"model":"m",` + plain + `}`
	require.Equal(t, "miss", ask(t, client(t, s, kvllm.Options{Python: true, Scope: "a"}), p.URL+"/v1/chat/completions", body).cache)
	require.Equal(t, "miss", ask(t, client(t, s, kvllm.Options{Python: true, Scope: "b"}), p.URL+"/v1/chat/completions", body).cache)
	require.NotContains(t, ids(t, s), kvllm.CacheID("m", []kvllm.Message{{Role: "user", Content: "a"}}))
	require.Equal(t, "miss", ask(t, c, p.URL+"/v1/chat/completions", body).cache)
	require.Contains(t, ids(t, s), kvllm.CacheID("m", []kvllm.Message{{Role: "user", Content: "a"}}))
}
