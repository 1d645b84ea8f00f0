package kvllm_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvllm"
)

// fleetEnv carries a fleetJob to a child.
const fleetEnv = "KV_TEST_LLM_FLEET"

// A fleetJob is what each process of a fleet does.
type fleetJob struct {
	Redis, Provider string
	Prompts         int // of each kind
	Goroutines      int
}

// A fleetReport is what a process saw.
type fleetReport struct {
	Right  int
	Wrong  []string
	Hits   int64
	Misses int64
}

func openRedis(t testing.TB, url string) kv.Store {
	cfg := kv.Config{Backend: "redis", WorkingDir: filepath.Join("testdata", "none"), Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}
	s, err := kv.Open(t.Context(), cfg, "llm_response_cache", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func prompt(i int, stream bool) string {
	return fmt.Sprintf(`{"model":"m","stream":%t,"messages":[{"role":"user","content":"prompt %d"}]}`, stream, i)
}

// TestFleetChild is a process of a fleet. It begins when its input ends.
func TestFleetChild(t *testing.T) {
	text := os.Getenv(fleetEnv)
	if text == "" {
		t.Skip("is run by the tests of fleets")
	}
	var job fleetJob
	require.NoError(t, json.Unmarshal([]byte(text), &job))
	bill := new(kvllm.Bill)
	c := client(t, openRedis(t, job.Redis), kvllm.Options{Bill: bill})
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	require.NoError(t, err)
	var r fleetReport
	var mu sync.Mutex
	p := new(llmtest.Provider) // Says what the real one does.
	testkit.Together(t, job.Goroutines, func(g int) {
		for i := range job.Prompts {
			i = (i + g*job.Prompts/job.Goroutines) % job.Prompts
			for _, stream := range []bool{false, true} {
				body := prompt(i, stream)
				got, err := send(t.Context(), c, job.Provider, body)
				mu.Lock()
				if err == nil && got.err == nil && got.body == p.Body("/v1/chat/completions", body) {
					r.Right++
				} else {
					r.Wrong = append(r.Wrong, fmt.Sprint(err, got))
				}
				mu.Unlock()
			}
		}
	})
	require.NoError(t, testkit.Await(func() bool { return bill.Total().Requests == int64(2*job.Prompts*job.Goroutines) }))
	r.Hits, r.Misses = bill.Total().Hits, bill.Total().Misses
	out, err := json.Marshal(r)
	require.NoError(t, err)
	fmt.Println("report " + string(out))
}

// Of all processes and goroutines that ask for the same at the same time, one
// pays, for streams and for answers in one piece.
func TestFleetPaysOnce(t *testing.T) {
	server, p := redistest.Start(t), llmtest.New(t, llmtest.Behaviour{Takes: 5 * time.Millisecond, Between: time.Millisecond})
	job := fleetJob{server.URL(), p.URL + "/v1/chat/completions", 200, 16}
	processes := 4
	if testing.Short() {
		job.Goroutines, processes = 4, 2
	}
	children := testkit.StartChildren(t, processes, "TestFleetChild", fleetEnv, func(int) any { return job })
	for _, c := range children {
		c.Begin()
	}
	var sum fleetReport
	for i, c := range children {
		var r fleetReport
		given, err := c.Report(&r)
		require.NoError(t, err, "process %d", i)
		require.True(t, given, "process %d", i)
		require.Empty(t, r.Wrong)
		sum.Right += r.Right
		sum.Hits += r.Hits
		sum.Misses += r.Misses
	}
	require.Equal(t, processes*job.Goroutines*2*job.Prompts, sum.Right)
	require.EqualValues(t, 2*job.Prompts, sum.Misses)
	require.EqualValues(t, sum.Right-2*job.Prompts, sum.Hits)
	require.Equal(t, 2*job.Prompts, p.Calls())
	require.Len(t, ids(t, openRedis(t, server.URL())), 2*job.Prompts)
}

// A provider that refuses is no convoy: in a process all who ask at once get
// its one refusal.
func TestNoConvoy(t *testing.T) {
	server, p := redistest.Start(t), llmtest.New(t)
	p.Takes, p.Status = 200*time.Millisecond, 429
	c := client(t, openRedis(t, server.URL()))
	began := time.Now()
	testkit.Together(t, 20, func(int) {
		g, err := send(t.Context(), c, p.URL+"/v1/chat/completions", prompt(1, false))
		if err != nil || g.status != 429 || g.cache != "refused" || g.header.Get("Retry-After") != "0" {
			t.Error(g, err)
		}
	})
	t.Logf("%v, %d calls", time.Since(began), p.Calls())
	require.LessOrEqual(t, p.Calls(), 2)
}
