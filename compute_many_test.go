package kv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/testkit"
)

// upper is an fn of ComputeMany that counts its calls.
func upper(calls *atomic.Int64, asked *[]string) func(context.Context, []string) (map[string]string, error) {
	return func(_ context.Context, ids []string) (map[string]string, error) {
		calls.Add(1)
		got := make(map[string]string, len(ids))
		for _, id := range ids {
			got[id] = strings.ToUpper(id)
		}
		if asked != nil {
			*asked = append(*asked, ids...)
		}
		return got, nil
	}
}

// One read, one call of fn with the ids that are absent, without repeats.
func TestComputeMany(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		s := open()
		view := kv.For[string](s)
		require.NoError(t, view.Upsert(t.Context(), map[string]string{"a": "there"}))
		var calls atomic.Int64
		var asked []string
		got, err := view.ComputeMany(t.Context(), []string{"b", "a", "c", "b"}, upper(&calls, &asked))
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "there", "b": "B", "c": "C"}, got)
		require.Equal(t, []string{"b", "c"}, asked)
		require.EqualValues(t, 1, calls.Load())
		again, err := view.ComputeMany(t.Context(), []string{"b", "a", "c"}, upper(&calls, nil))
		require.NoError(t, err)
		require.Equal(t, got, again)
		require.EqualValues(t, 1, calls.Load())
		none, err := view.ComputeMany(t.Context(), nil, upper(&calls, nil))
		require.NoError(t, err)
		require.Empty(t, none)
		stats := computeStats(t, s)
		require.Equal(t, kv.ComputeStats{Hits: 4, Misses: 2, Computes: 2, TimeSaved: stats.TimeSaved}, stats)
		_, err = view.ComputeMany(t.Context(), []string{"x", "\xff"}, upper(&calls, nil))
		require.ErrorIs(t, err, kv.ErrInvalid)
	})
}

// Each id is computed by one of the processes that ask for overlapping sets at
// once; each calls fn once, with those that it won.
func TestComputeManyShares(t *testing.T) { onComputeBackends(t, 0, testComputeManyShares) }

func testComputeManyShares(t *testing.T, open func() builtin) {
	var ids []string
	for i := range 1200 { // More than a pipeline takes.
		ids = append(ids, fmt.Sprint("id-", i))
	}
	var mu sync.Mutex
	counts := make(map[string]int)
	var wg sync.WaitGroup
	for worker := range 4 {
		s := open()
		wg.Go(func() {
			mine := append(slices.Clone(ids[worker*300:]), ids[:worker*300]...)
			calls := 0
			got, err := kv.For[string](s).ComputeMany(t.Context(), mine, func(ctx context.Context, missing []string) (map[string]string, error) {
				mu.Lock()
				defer mu.Unlock()
				calls++
				for _, id := range missing {
					counts[id]++
				}
				var n atomic.Int64
				return upper(&n, nil)(ctx, missing)
			})
			assert.NoError(t, err)
			assert.Len(t, got, len(ids))
			assert.LessOrEqual(t, calls, 1)
			for id, v := range got {
				assert.Equal(t, strings.ToUpper(id), v)
			}
		})
	}
	wg.Wait()
	require.Len(t, counts, len(ids))
	for id, n := range counts {
		require.Equal(t, 1, n, id)
	}
}

// What fn leaves out is left out; what it returns beside an error is stored,
// and the error stands for the others; corrupt documents are not computed.
func TestComputeManyInPart(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		s := open()
		view := kv.For[string](s)
		require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{"n": json.RawMessage("1"), "o": json.RawMessage("2")}))
		broken := errors.New("broken")
		got, err := view.ComputeMany(t.Context(), []string{"a", "b"}, func(context.Context, []string) (map[string]string, error) {
			return map[string]string{"a": "A", "other": "ignored"}, broken
		})
		require.Equal(t, broken, err)
		require.Equal(t, map[string]string{"a": "A"}, got)
		got, err = view.ComputeMany(t.Context(), []string{"a", "b"}, func(context.Context, []string) (map[string]string, error) { return nil, nil })
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "A"}, got)
		require.Equal(t, []string{"a", "n", "o"}, listed(t, s))
		var calls atomic.Int64
		got, err = view.ComputeMany(t.Context(), []string{"n", "b", "o"}, upper(&calls, nil))
		require.ErrorIs(t, err, kv.ErrCorrupt)
		require.Equal(t, map[string]string{"b": "B"}, got)
		require.Panics(t, func() {
			_, _ = view.ComputeMany(t.Context(), []string{"p", "q"}, func(context.Context, []string) (map[string]string, error) { panic("p") })
		})
		got, err = view.ComputeMany(t.Context(), []string{"p", "q"}, upper(&calls, nil))
		require.NoError(t, err, "nothing waits for the one that panicked")
		require.Equal(t, map[string]string{"p": "P", "q": "Q"}, got)
	})
}

// Negative caching: off, an fn that finds nothing is asked each time; on, it
// is not asked again for a while. Nothing is stored, and a document counts.
func TestComputeNegative(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		s := open()
		var calls atomic.Int64
		nothing := giving(&calls, "", fmt.Errorf("no page: %w", kv.ErrNotFound))
		for range 2 {
			_, err := kv.For[string](s).Compute(t.Context(), "a", nothing)
			require.ErrorIs(t, err, kv.ErrNotFound)
		}
		require.EqualValues(t, 2, calls.Load())
		view := kv.For[string](s).With(kv.ComputeOptions[string]{Negative: time.Hour})
		for range 3 {
			_, err := view.Compute(t.Context(), "a", nothing)
			require.ErrorIs(t, err, kv.ErrNotFound)
		}
		require.EqualValues(t, 3, calls.Load())
		got, err := view.ComputeMany(t.Context(), []string{"a", "b"}, func(_ context.Context, ids []string) (map[string]string, error) {
			calls.Add(int64(len(ids)))
			return nil, nil
		})
		require.NoError(t, err)
		require.Empty(t, got)
		require.EqualValues(t, 4, calls.Load())
		_, err = view.Compute(t.Context(), "b", nothing)
		require.ErrorIs(t, err, kv.ErrNotFound)
		require.EqualValues(t, 4, calls.Load())
		require.Empty(t, listed(t, s))
		require.NoError(t, view.Upsert(t.Context(), map[string]string{"a": "v"}))
		v, err := view.Compute(t.Context(), "a", nothing)
		require.NoError(t, err)
		require.Equal(t, "v", v)
		_, err = s.Delete(t.Context(), "a")
		require.NoError(t, err)

		_, err = view.With(kv.ComputeOptions[string]{Negative: time.Millisecond}).Compute(t.Context(), "c", nothing)
		require.ErrorIs(t, err, kv.ErrNotFound)
		if strings.Contains(t.Name(), "miniredis") {
			return // Its time stands still.
		}
		require.NoError(t, testkit.Await(func() bool {
			v, err := view.Compute(t.Context(), "c", giving(&calls, "v", nil))
			return err == nil && v == "v"
		}))
	})
}

// Refresh ahead: when the remaining life falls under the fraction, callers get
// the present value at once, and one worker computes a new one.
func TestComputeRefreshAhead(t *testing.T) {
	for name, backend := range computeBackends {
		if name == "miniredis" {
			continue // Its time stands still.
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Refreshing is due at once and expiry never, however slow the
			// machine is.
			open := backend(t, time.Hour)
			var calls atomic.Int64
			count := func(context.Context) (int64, error) { return calls.Add(1), nil }
			o := kv.ComputeOptions[int64]{RefreshAhead: .999999}
			stores := []builtin{open(), open()}
			began := time.Now()
			require.NoError(t, testkit.Await(func() bool {
				for _, s := range stores {
					v, err := kv.For[int64](s).With(o).Compute(t.Context(), "a", count)
					require.NoError(t, err)
					require.Positive(t, v)
				}
				return calls.Load() > 2
			}))
			last := calls.Load()
			looks := int64(2 * (time.Since(began)/time.Second + 1)) // At most one a second for each process.
			require.LessOrEqual(t, last, 1+looks)
			require.NoError(t, testkit.Await(func() bool {
				v, err := kv.For[int64](stores[0]).Get(t.Context(), "a")
				return err == nil && v >= last
			}))
			misses := computeStats(t, stores[0]).Misses
			if apart(t, stores[1]) {
				misses += computeStats(t, stores[1]).Misses
			}
			require.EqualValues(t, 1, misses, "nobody waited")
		})
	}
}

// A backend that is not built in is computed on by the callers of one view.
func TestComputeForeign(t *testing.T) {
	inner, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	defer inner.Close()
	type nine struct{ kv.Store }
	view := kv.For[string](nine{inner})
	var calls atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			v, err := view.Compute(t.Context(), "a", func(context.Context) (string, error) {
				calls.Add(1)
				time.Sleep(20 * time.Millisecond)
				return "v", nil
			})
			assert.NoError(t, err)
			assert.Equal(t, "v", v)
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, calls.Load())
	_, err = view.With(kv.ComputeOptions[string]{TTL: time.Hour}).Compute(t.Context(), "b", giving(&calls, "v", nil))
	require.ErrorIs(t, err, kv.ErrInvalid)
}
