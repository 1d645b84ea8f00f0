package kv_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// A linearOp is a call on the one document of a history, "" stands for none.
type linearOp struct {
	kind  string // get, compute, upsert, delete
	value string // to be stored
}

type linearOut struct {
	value   string // what get and compute returned
	removed bool   // what delete counted
	unknown bool   // the call failed; it may have been applied, or be so later
}

// linearModel is a register whose compute stores its value if there is none,
// and returns what is there then.
var linearModel = porcupine.NondeterministicModel{
	Init: func() []any { return []any{""} },
	Step: func(state, input, output any) []any {
		now, op, out := state.(string), input.(linearOp), output.(linearOut)
		switch op.kind {
		case "get":
			if out.value == now {
				return []any{now}
			}
		case "upsert":
			if out.unknown {
				return []any{now, op.value}
			}
			return []any{op.value}
		case "delete":
			if out.unknown {
				return []any{now, ""}
			}
			if out.removed == (now != "") {
				return []any{""}
			}
		case "compute":
			switch {
			case out.unknown && now == "":
				return []any{"", op.value}
			case out.unknown:
				return []any{now}
			case now == "" && out.value == op.value, now == out.value && now != "":
				return []any{out.value}
			}
		}
		return nil
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprint(input, output) },
}

// linearCall makes one call.
func linearCall(s builtin, op linearOp) (out linearOut, read bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	view := kv.For[string](s)
	var err error
	switch op.kind {
	case "get":
		out.value, err = view.Get(ctx, "x")
		if errors.Is(err, kv.ErrNotFound) {
			err = nil
		}
		return out, err == nil
	case "upsert":
		err = view.Upsert(ctx, map[string]string{"x": op.value})
	case "delete":
		var n int
		n, err = s.Delete(ctx, "x")
		out.removed = n > 0
	case "compute":
		out.value, err = view.Compute(ctx, "x", func(context.Context) (string, error) {
			time.Sleep(rand.N(2 * time.Millisecond))
			return op.value, nil
		})
	}
	out.unknown = err != nil
	return out, true
}

// twice adds to each Upsert one that may or may not happen in the same time:
// it is repeated when its reply was lost, and others may write in between.
func twice(history []porcupine.Operation) []porcupine.Operation {
	all := slices.Clone(history)
	for i, op := range history {
		if op.Input.(linearOp).kind == "upsert" {
			op.Output, op.ClientId = linearOut{unknown: true}, 1_000_000+i
			all = append(all, op)
		}
	}
	return all
}

// linearHistory lets clients work on one document, and reports what they saw.
func linearHistory(stores []builtin, clients, calls int) []porcupine.Operation {
	var mu sync.Mutex
	var history []porcupine.Operation
	began := time.Now()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), rand.Uint64()))
			for i := range calls {
				op := linearOp{value: fmt.Sprintf("%d.%d", c, i)}
				op.kind = []string{"get", "compute", "compute", "compute", "delete", "upsert", "delete"}[rng.IntN(7)]
				call := time.Since(began)
				out, counts := linearCall(stores[c%len(stores)], op)
				returned := int64(time.Since(began))
				if !counts {
					continue
				}
				id := c
				mu.Lock()
				if out.unknown { // From then on it runs apart from its client.
					returned, id = math.MaxInt64, clients+len(history)
				}
				history = append(history, porcupine.Operation{ClientId: id, Input: op, Call: int64(call), Output: out, Return: returned})
				mu.Unlock()
				time.Sleep(rand.N(time.Millisecond))
			}
		})
	}
	wg.Wait()
	return history
}

func checkLinear(t *testing.T, history []porcupine.Operation) {
	t.Helper()
	model := linearModel.ToModel()
	// Orders grow with what failed, faster than anybody can try.
	result := porcupine.CheckOperationsTimeout(model, history, 60*time.Second/time.Duration(testkit.Stride()))
	if result == porcupine.Unknown {
		t.Log("there were too many orders to try them all")
	}
	if result == porcupine.Illegal {
		_, info := porcupine.CheckOperationsVerbose(model, history, 60*time.Second)
		var longest []int
		for _, part := range info.PartialLinearizations()[0] {
			if len(part) > len(longest) {
				longest = part
			}
		}
		reached := make(map[int]bool)
		for _, i := range longest {
			reached[i] = true
		}
		for i, op := range history {
			if !reached[i] {
				t.Logf("%v-%v client %d: %+v: %+v", time.Duration(op.Call), time.Duration(op.Return), op.ClientId, op.Input, op.Output)
			}
		}
		for _, i := range longest[max(0, len(longest)-40):] {
			op := history[i]
			t.Logf("in order: %v-%v client %d: %+v: %+v", time.Duration(op.Call), time.Duration(op.Return), op.ClientId, op.Input, op.Output)
		}
		t.Fatalf("not linearizable: %d calls, of which %d can be put in order", len(history), len(longest))
	}
}

// Compute, Get, Upsert and Delete on one id are linearizable: each takes
// effect at one moment between its call and its return.
func TestComputeIsLinearizable(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		for range 5 {
			stores := []builtin{open(), open()}
			_, err := stores[0].Delete(t.Context(), "x")
			require.NoError(t, err)
			checkLinear(t, linearHistory(stores, 8, 100))
		}
	})
}

// They are with the server held up, and killed and started again, too.
func TestComputeIsLinearizableUnderFaults(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.AppendFsyncAlways())
	var stores []builtin
	for range 3 {
		cfg := redisCfg(server.URL())
		cfg.Redis.SocketTimeout = 300 * time.Millisecond
		stores = append(stores, openRedisStore(t, cfg, "docs"))
	}
	for round := range 5 / min(testkit.Stride(), 2) {
		require.NoError(t, testkit.Await(func() bool { _, err := stores[0].Delete(t.Context(), "x"); return err == nil }))
		done := make(chan struct{})
		var faults sync.WaitGroup
		faults.Go(func() {
			for i := round; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(100 * time.Millisecond):
				}
				if i%2 == 0 {
					server.Pause()
					time.Sleep(rand.N(500 * time.Millisecond))
					server.Resume()
				} else {
					server.Kill()
					server.Restart()
				}
			}
		})
		history := linearHistory(stores, 9, 60)
		close(done)
		faults.Wait()
		unknown := 0
		for _, op := range history {
			if op.Output.(linearOut).unknown {
				unknown++
			}
		}
		t.Logf("round %d: %d calls, %d of unknown outcome", round, len(history), unknown)
		checkLinear(t, twice(history))
	}
	for _, s := range stores {
		require.Zero(t, computeStats(t, s).LeaseLosses)
	}
}
