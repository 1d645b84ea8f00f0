package jsonstore

import (
	"encoding/json"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// A swap replaces the document that was seen and no other, is one step among
// all writes, and survives as any of them.
func TestSwap(t *testing.T) {
	o := Options{Dir: t.TempDir(), Namespace: "t", Policy: policyNo, Logger: slog.New(slog.DiscardHandler)}
	e, err := Open(t.Context(), o)
	require.NoError(t, err)
	item := func(id, value string, ttl time.Duration) engine.Item {
		return engine.Item{ID: id, Value: json.RawMessage(value), TTL: ttl}
	}
	is := func(want string) func(json.RawMessage) bool {
		return func(value json.RawMessage) bool { return string(value) == want }
	}
	require.NoError(t, e.Upsert(t.Context(), engine.List(item("a", `1`, 0), item("n", `0`, 0))))
	require.NoError(t, e.Swap(t.Context(), item("a", `2`, time.Hour), is(`1`)))
	require.NoError(t, e.Swap(t.Context(), item("a", `3`, 0), is(`1`)))
	require.NoError(t, e.Swap(t.Context(), item("b", `3`, 0), func(json.RawMessage) bool { return true }))
	ttls, err := e.TTLs(t.Context(), []string{"a", "b"})
	require.NoError(t, err)
	require.InDelta(t, time.Hour, ttls[0], float64(time.Minute))
	require.Equal(t, engine.Absent, ttls[1], "what is not there is not raised")

	const workers, each = 8, 50 // Counting up loses no step.
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for done := 0; done < each; {
				value, err := e.Get(t.Context(), "n")
				assert.NoError(t, err)
				var n int
				assert.NoError(t, json.Unmarshal(value, &n))
				next, swapped := item("n", strconv.Itoa(n+1), 0), false
				assert.NoError(t, e.Swap(t.Context(), next, func(now json.RawMessage) bool {
					swapped = string(now) == string(value)
					return swapped
				}))
				if swapped {
					done++
				}
			}
		})
	}
	running.Wait()
	require.NoError(t, e.Close())
	require.ErrorIs(t, e.Swap(t.Context(), item("a", `4`, 0), is(`2`)), fault.ErrClosed)
	e, err = Open(t.Context(), o)
	require.NoError(t, err)
	defer e.Close()
	for id, want := range map[string]string{"a": `2`, "n": strconv.Itoa(workers * each)} {
		value, err := e.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, string(value))
	}
}
