package kv_test

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

// A tenant gives ids a prefix. It has all that a store has, and lets As look
// below it.
type tenant struct {
	kv.Store
	name string
}

func (w tenant) Unwrap() kv.Store { return w.Store }
func (w tenant) Get(ctx context.Context, id string) (json.RawMessage, error) {
	return w.Store.Get(ctx, w.name+id)
}

func (w tenant) GetMany(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
	own := make([]string, len(ids))
	for i, id := range ids {
		own[i] = w.name + id
	}
	return w.Store.GetMany(ctx, own, fields...)
}

func (w tenant) Upsert(ctx context.Context, items map[string]json.RawMessage) error {
	own := make(map[string]json.RawMessage, len(items))
	for id, v := range items {
		own[w.name+id] = v
	}
	return w.Store.Upsert(ctx, own)
}

// An openTenant says what it does to ids.
type openTenant struct{ tenant }

func (w openTenant) MapID(id string) string { return w.name + id }

// Through a wrapper Compute works on its methods alone, or on the store below
// if the wrapper says how it maps ids; no tenant gets what another stored.
func TestComputeThroughWrappers(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		first, second := open(), open()
		var calls atomic.Int64
		of := func(who string, s kv.Store) {
			for range 2 {
				v, err := kv.For[string](s).Compute(t.Context(), "a", giving(&calls, "secret of "+who, nil))
				require.NoError(t, err)
				require.Equal(t, "secret of "+who, v)
			}
			many, err := kv.For[string](s).ComputeMany(t.Context(), []string{"a", "b"}, func(_ context.Context, ids []string) (map[string]string, error) {
				calls.Add(1)
				require.Equal(t, []string{"b"}, ids)
				return map[string]string{"b": "another of " + who}, nil
			})
			require.NoError(t, err)
			require.Equal(t, map[string]string{"a": "secret of " + who, "b": "another of " + who}, many)
		}
		of("A", tenant{first, "A:"})
		of("B", tenant{second, "B:"})
		of("C", openTenant{tenant{first, "C:"}})
		of("D", passThrough{openTenant{tenant{second, "D:"}}})
		require.EqualValues(t, 8, calls.Load())
		require.Equal(t, []string{"A:a", "A:b", "B:a", "B:b", "C:a", "C:b", "D:a", "D:b"}, listed(t, first))
		_, err := kv.For[string](tenant{first, "A:"}).With(kv.ComputeOptions[string]{TTL: time.Hour}).Compute(t.Context(), "c", giving(&calls, "", nil))
		require.ErrorIs(t, err, kv.ErrInvalid, "it has no UpsertTTL of its own")

		calls.Store(0)
		var wg sync.WaitGroup
		for _, s := range []kv.Store{openTenant{tenant{first, "C:"}}, openTenant{tenant{second, "C:"}}} {
			for range 4 {
				wg.Go(func() {
					v, err := kv.For[string](s).With(kv.ComputeOptions[string]{TTL: time.Hour}).Compute(t.Context(), "shared", func(context.Context) (string, error) {
						calls.Add(1)
						time.Sleep(20 * time.Millisecond)
						return "v", nil
					})
					assert.NoError(t, err)
					assert.Equal(t, "v", v)
				})
			}
		}
		wg.Wait()
		require.EqualValues(t, 1, calls.Load(), "its leases are those of the store below")
		left, err := first.TTL(t.Context(), "C:shared")
		require.NoError(t, err)
		require.Positive(t, left)
	})
}

// A view that is made anew for each call shares the computations of its store,
// which is not built in.
func TestComputeForeignShares(t *testing.T) {
	inner, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	defer inner.Close()
	type nine struct{ kv.Store }
	var calls atomic.Int64
	var wg sync.WaitGroup
	release := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			v, err := kv.For[string](nine{inner}).Compute(t.Context(), "a", func(context.Context) (string, error) {
				calls.Add(1)
				<-release
				return "v", nil
			})
			assert.NoError(t, err)
			assert.Equal(t, "v", v)
		})
	}
	time.Sleep(200 * time.Millisecond) // Who comes later reads what was stored.
	close(release)
	wg.Wait()
	require.EqualValues(t, 1, calls.Load())
}
