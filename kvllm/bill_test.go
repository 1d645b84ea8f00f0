package kvllm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvllm"
)

// The bill has, by operation and model, requests, hits, misses, what was
// refused and why, tokens as the provider says, and money; of streams too.
func TestBill(t *testing.T) {
	p, s := llmtest.New(t), open(t)
	bill := new(kvllm.Bill)
	c := client(t, s, kvllm.Options{Bill: bill, Price: func(model string, u kvllm.Usage) float64 {
		require.Equal(t, "m", model)
		return float64(u.InputTokens)/10 + float64(u.OutputTokens)
	}})
	for _, w := range wires {
		if w.path == "/openai/deployments/d/chat/completions" || w.operation == "completions" {
			continue
		}
		p.Finish = ""
		for range 3 {
			ask(t, c, p.URL+w.path, w.body)
		}
		ask(t, c, p.URL+w.path, w.body, "Cache-Control", "no-store")
		if w.operation != "embeddings" {
			p.Finish = "incomplete"
			ask(t, c, p.URL+w.path, w.body[:len(w.body)-1]+`,"seed":1}`)
		}
	}
	require.NoError(t, testkit.Await(func() bool { return bill.Total().Misses+bill.Total().Bypassed == int64(p.Calls()) }))
	var got []string
	for _, l := range bill.Lines() {
		require.Equal(t, "m", l.Model)
		require.Equal(t, l.Requests, l.Hits+l.Misses+l.Bypassed)
		got = append(got, fmt.Sprint(l.Operation, ": ", l.Requests, l.Hits, l.Misses, l.Bypassed, l.Refused, l.Spent, l.Saved))
	}
	const two = ": 10 4 4 2 map[incomplete:2] "
	require.Equal(t, []string{
		"chat" + two + "{{48 28 8} 32.8} {{48 28 8} 32.8}",
		"embeddings: 8 4 2 2 map[] {{24 0 0} 2.4} {{48 0 0} 4.8}",
		"messages" + two + "{{48 28 16} 32.8} {{48 28 16} 32.8}",
		"ollama chat" + two + "{{48 28 0} 32.8} {{48 28 0} 32.8}",
		"ollama generate" + two + "{{48 28 0} 32.8} {{48 28 0} 32.8}",
		"responses" + two + "{{48 28 16} 32.8} {{48 28 16} 32.8}",
	}, got)
}

// A bill stays small, whatever models and reasons there are.
func TestBillIsBounded(t *testing.T) {
	p, s := llmtest.New(t), open(t)
	bill := new(kvllm.Bill)
	c := client(t, s, kvllm.Options{Bill: bill})
	for i := range 1100 {
		ask(t, c, p.URL+"/v1/embeddings", fmt.Sprintf(`{"model":"m%d","input":"a"}`, i))
	}
	require.Len(t, bill.Lines(), 1001)
	require.EqualValues(t, 1100, bill.Total().Requests)
}
