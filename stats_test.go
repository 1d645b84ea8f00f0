package kv_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/move"
	"github.com/ngraf/kv/internal/testkit"
)

// Stats say how often each method was called, how it ended, how long it took,
// on how many ids, and how many bytes went in and out.
func TestStatsOfCalls(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir, "ns")
	ctx := t.Context()
	require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"a": json.RawMessage(`"12345678"`), "b": json.RawMessage(`1`)}))
	_, err := s.Get(ctx, "a")
	require.NoError(t, err)
	_, err = s.Get(ctx, "absent")
	require.ErrorIs(t, err, kv.ErrNotFound)
	_, err = s.Get(ctx, "\xff")
	require.ErrorIs(t, err, kv.ErrInvalid)
	_, err = s.GetMany(ctx, []string{"a", "b", "c"})
	require.NoError(t, err)
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, err = s.Missing(done, []string{"a"})
	require.ErrorIs(t, err, context.Canceled)
	for range s.Keys(ctx) {
		break
	}
	stats, err := s.(kv.Statser).Stats(ctx)
	require.NoError(t, err)
	results := make(map[string]map[string]int64)
	for name, c := range stats.Calls {
		results[name] = c.Results
		if c.Latency.Count == 0 || c.Latency.Sum < 0 {
			t.Errorf("%s has no latency", name)
		}
	}
	assert.Equal(t, map[string]map[string]int64{
		"upsert":  {"ok": 1},
		"get":     {"ok": 1, "not_found": 1, "invalid": 1},
		"getmany": {"ok": 1},
		"missing": {"canceled": 1},
		"keys":    {"ok": 1},
	}, results)
	assert.Equal(t, float64(2), stats.Calls["upsert"].Batch.Sum)
	assert.Equal(t, float64(3), stats.Calls["getmany"].Batch.Sum)
	assert.Equal(t, int64(2), stats.Errors)
	assert.Equal(t, []int64{5, 3, 2}, []int64{stats.Gets, stats.Hits, stats.Misses})
	assert.Equal(t, int64(11), stats.BytesWritten)
	assert.Equal(t, int64(10+11), stats.BytesRead)
	assert.Zero(t, stats.LastFlush.At)

	require.NoError(t, s.Flush(ctx))
	stats, err = s.(kv.Statser).Stats(ctx)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), stats.LastFlush.At, time.Minute)
	assert.NoError(t, stats.LastFlush.Err)
}

// Each call is counted by what Result says of its error.
func TestResult(t *testing.T) {
	assert.Equal(t, "ok", kv.Result(nil))
	assert.Equal(t, "not_found", kv.Result(&kv.Error{Op: "get", Err: fault.WithID("a", kv.ErrNotFound)}))
	assert.Equal(t, "unavailable", kv.Result(fault.Unavailablef("no answer")))
	assert.Equal(t, "error", kv.Result(errors.New("else")))
}

// Inspect counts what is there, of both backends alike, and names no id
// unless asked to.
func TestInspect(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir, "ns")
	items := testkit.Numbered(2000)
	items["the biggest"] = json.RawMessage(`"0123456789012345678901234567890123456789012345678901234567890123456789"`)
	require.NoError(t, s.Upsert(t.Context(), items))
	require.NoError(t, s.(kv.Expirer).UpsertTTL(t.Context(), map[string]json.RawMessage{"brief": json.RawMessage(`1`)}, time.Hour))

	all, err := kv.Inspect(t.Context(), s, kv.InspectOptions{Expected: time.Hour, Biggest: 3})
	require.NoError(t, err)
	assert.Equal(t, 2002, all.Documents)
	assert.Equal(t, 2002, all.Sampled)
	assert.Zero(t, figures(t, s).Gets, "nobody asked for these documents")
	assert.Equal(t, 2001, all.Unexpected)
	assert.Equal(t, 2001, all.Permanent)
	assert.Equal(t, uint64(1), all.TTL.Count)
	assert.InEpsilon(t, 3600, all.TTL.Sum, 0.01)
	require.Len(t, all.Biggest, 3)
	assert.Equal(t, 83, all.Biggest[0].Bytes)
	assert.NotContains(t, all.Biggest[0].ID, "biggest")

	sample, err := kv.Inspect(t.Context(), s, kv.InspectOptions{Sample: 100, ShowIDs: true})
	require.NoError(t, err)
	assert.Equal(t, 2002, sample.Documents)
	assert.Equal(t, 100, sample.Sampled)
	assert.InEpsilon(t, all.Bytes, sample.Bytes, 0.2)

	ctx, cancel := context.WithCancel(t.Context())
	part, err := kv.Inspect(ctx, s, kv.InspectOptions{Progress: func(int) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, move.BulkPage, part.Documents)
}

// The figures of a factory are by namespace, and no counter goes back when a
// store is closed.
func TestFactoryStats(t *testing.T) {
	f, err := kv.NewFactory(kv.Config{WorkingDir: t.TempDir()})
	require.NoError(t, err)
	defer f.Close()
	for range 2 {
		one, err := f.Open(t.Context(), "a")
		require.NoError(t, err)
		two, err := f.Open(t.Context(), "a")
		require.NoError(t, err)
		other, err := f.Open(t.Context(), "b")
		require.NoError(t, err)
		for _, s := range []kv.Store{one, two, other} {
			_, err = s.Get(t.Context(), "x")
			require.ErrorIs(t, err, kv.ErrNotFound)
		}
		require.NoError(t, one.Close())
		require.NoError(t, other.Close())
	}
	all, err := f.Stats(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, "a", all[0].Namespace)
	assert.Equal(t, int64(4), all[0].Calls["get"].Results["not_found"])
	assert.Equal(t, uint64(4), all[0].Calls["get"].Latency.Count)
	assert.NotNil(t, all[0].JSON)
	assert.Equal(t, "b", all[1].Namespace)
	assert.Equal(t, int64(2), all[1].Gets)
	assert.Equal(t, "json", all[1].Backend)
}

// No figure of a factory goes back while stores are closed and opened: what
// watches it takes that for a restart.
func TestFactoryStatsNeverGoBack(t *testing.T) {
	f, err := kv.NewFactory(kv.Config{WorkingDir: t.TempDir()})
	require.NoError(t, err)
	defer f.Close()
	keeper, err := f.Open(t.Context(), "a")
	require.NoError(t, err)
	assert.Contains(t, f.Stores(), "a")
	done := make(chan error, 1)
	go func() {
		for range 300 {
			s, err := f.Open(t.Context(), "a")
			if err == nil {
				_, err = s.Missing(t.Context(), []string{"x"})
			}
			if err == nil {
				err = s.Close()
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- keeper.Close()
	}()
	last := int64(0)
	for running := true; running; {
		select {
		case err := <-done:
			require.NoError(t, err)
			running = false
		default:
		}
		all, err := f.Stats(t.Context())
		require.NoError(t, err)
		now := all[0].Calls["missing"].Results["ok"]
		require.GreaterOrEqual(t, now, last)
		last = now
	}
	assert.Equal(t, int64(300), last)
	assert.Empty(t, f.Stores())
}
