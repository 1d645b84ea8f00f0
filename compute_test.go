package kv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// computeBackends open one namespace as often as asked, each time as another
// process would where the backend allows for it.
var computeBackends = map[string]func(t *testing.T, ttl time.Duration) (open func() builtin){
	"json": func(t *testing.T, ttl time.Duration) func() builtin {
		return openerOf(t, kv.Config{WorkingDir: t.TempDir(), TTL: map[string]time.Duration{"docs": ttl}}, true)
	},
	"miniredis": func(t *testing.T, ttl time.Duration) func() builtin {
		m := miniredis.RunT(t)
		// A script that publishes may block miniredis for good, and so those
		// that wait are not told here, but ask.
		m.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
			if cmd != "SUBSCRIBE" {
				return false
			}
			c.WriteError("NOPERM this user has no permissions to access one of the channels used as arguments")
			return true
		})
		cfg := redisCfg("redis://" + m.Addr())
		cfg.TTL = map[string]time.Duration{"docs": ttl}
		return openerOf(t, cfg, false)
	},
	"redis": func(t *testing.T, ttl time.Duration) func() builtin {
		cfg := redisCfg(redistest.Start(t).URL())
		cfg.TTL = map[string]time.Duration{"docs": ttl}
		return openerOf(t, cfg, false)
	},
}

func openerOf(t *testing.T, cfg kv.Config, together bool) func() builtin {
	var f *kv.Factory
	return func() builtin {
		if f == nil || !together {
			var err error
			f, err = kv.NewFactory(cfg, kv.WithLogger(slog.New(slog.DiscardHandler)))
			require.NoError(t, err)
			opened := f
			t.Cleanup(func() { require.NoError(t, opened.Close()) })
		}
		s, err := f.Open(t.Context(), "docs")
		require.NoError(t, err)
		return s.(builtin)
	}
}

func onComputeBackends(t *testing.T, ttl time.Duration, test func(t *testing.T, open func() builtin)) {
	for name, backend := range computeBackends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, backend(t, ttl))
		})
	}
}

// The same on a Cluster, where documents and leases are spread over masters.
func TestComputeOnCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	for name, test := range map[string]func(t *testing.T, open func() builtin){
		"stores": testComputeStores, "once": testComputeOnce, "many": testComputeManyShares,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := redisCfg(cluster.URL())
			cfg.Redis.KeyPrefix = name
			cfg.TTL = map[string]time.Duration{"docs": time.Hour}
			test(t, openerOf(t, cfg, false))
		})
	}
}

// apart says whether each store has figures of its own. Those of files are
// opened by one factory, and share them.
func apart(t *testing.T, s builtin) bool { return figures(t, s).Backend != "json" }

func computeStats(t *testing.T, s builtin) kv.ComputeStats {
	t.Helper()
	return figures(t, s).Compute
}

// giving is an fn that counts its calls.
func giving[T any](calls *atomic.Int64, v T, err error) func(context.Context) (T, error) {
	return func(context.Context) (T, error) {
		calls.Add(1)
		return v, err
	}
}

// The stored value if there is one; otherwise fn runs, and its value is stored
// with the namespace's time to live and returned.
func TestComputeStores(t *testing.T) { onComputeBackends(t, time.Hour, testComputeStores) }

func testComputeStores(t *testing.T, open func() builtin) {
	s := open()
	view := kv.For[[]string](passThrough{s})
	var calls atomic.Int64
	for _, id := range []string{"a", "", "{x}", "a}b", "{}", "x{y", "ü*?[\x00]", strings.Repeat("l", engine.MaxIDBytes)} {
		calls.Store(0)
		want := []string{id, "v"}
		for range 3 {
			got, err := view.Compute(t.Context(), id, giving(&calls, want, nil))
			require.NoError(t, err)
			require.Equal(t, want, got)
			got[0] = "the caller's to change"
		}
		require.EqualValues(t, 1, calls.Load())
		left, err := s.TTL(t.Context(), id)
		require.NoError(t, err)
		require.Greater(t, left, 59*time.Minute)
	}
	stats := computeStats(t, s)
	require.Equal(t, kv.ComputeStats{Hits: 16, Misses: 8, Computes: 8, TimeSaved: stats.TimeSaved}, stats)
	require.Positive(t, stats.TimeSaved)

	_, err := view.With(kv.ComputeOptions[[]string]{TTL: time.Minute}).Compute(t.Context(), "b", giving[[]string](&calls, nil, nil))
	require.NoError(t, err)
	left, err := s.TTL(t.Context(), "b")
	require.NoError(t, err)
	require.InDelta(t, time.Minute, left, float64(testkit.Slack))
	require.Len(t, listed(t, s), 9, "a lease is not a document")
}

// Exactly one caller runs fn, across goroutines and processes; the others get
// its value.
func TestComputeOnce(t *testing.T) { onComputeBackends(t, 0, testComputeOnce) }

func testComputeOnce(t *testing.T, open func() builtin) {
	const processes, goroutines, ids = 4, 8, 20
	stores := make([]builtin, processes)
	for i := range stores {
		stores[i] = open()
	}
	var calls atomic.Int64
	var wg sync.WaitGroup
	for _, s := range stores {
		for range goroutines {
			wg.Go(func() {
				for i := range ids {
					want := fmt.Sprint("value of ", i)
					got, err := kv.For[string](s).Compute(t.Context(), fmt.Sprint(i), func(context.Context) (string, error) {
						calls.Add(1)
						time.Sleep(5 * time.Millisecond)
						return want, nil
					})
					assert.NoError(t, err)
					assert.Equal(t, want, got)
				}
			})
		}
	}
	wg.Wait()
	require.EqualValues(t, ids, calls.Load())
	var sum kv.ComputeStats
	for i, s := range stores {
		if i == 0 || apart(t, s) {
			c := computeStats(t, s)
			sum.Hits, sum.Waits, sum.Computes = sum.Hits+c.Hits, sum.Waits+c.Waits, sum.Computes+c.Computes
		}
	}
	require.EqualValues(t, ids, sum.Computes)
	require.EqualValues(t, processes*goroutines*ids, sum.Hits+sum.Waits+sum.Computes)
}

// Errors are not stored, and come back as they are; what Accept refuses is
// returned and not stored.
func TestComputeStoresNoErrors(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		s := open()
		broken := errors.New("broken")
		var calls atomic.Int64
		for range 2 {
			_, err := kv.For[string](s).Compute(t.Context(), "a", giving(&calls, "half", broken))
			require.Same(t, broken, err)
		}
		require.EqualValues(t, 2, calls.Load())
		polite := kv.For[string](s).With(kv.ComputeOptions[string]{Accept: func(v string) bool { return v != "I am sorry" }})
		for range 2 {
			v, err := polite.Compute(t.Context(), "a", giving(&calls, "I am sorry", nil))
			require.NoError(t, err)
			require.Equal(t, "I am sorry", v)
		}
		require.EqualValues(t, 4, calls.Load())
		require.Empty(t, listed(t, s))
		v, err := polite.Compute(t.Context(), "a", giving(&calls, "42", nil))
		require.NoError(t, err)
		require.Equal(t, "42", v)
		require.Len(t, listed(t, s), 1)
	})
}

// Sharers in a process get what the leader got, refused values and errors
// included; other processes compute for themselves.
func TestComputeShares(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		s := open()
		view := kv.For[string](s).With(kv.ComputeOptions[string]{Accept: func(string) bool { return false }})
		for i, broken := range []error{nil, errors.New("broken")} {
			var calls atomic.Int64
			release := make(chan struct{})
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					v, err := view.Compute(t.Context(), "a", func(context.Context) (string, error) {
						calls.Add(1)
						<-release
						return "refused", broken
					})
					assert.Equal(t, broken, err)
					assert.True(t, v == "refused" || err != nil)
				})
			}
			require.NoError(t, testkit.Await(func() bool { return waiting(t, s) == 8*int64(i+1) }))
			close(release)
			wg.Wait()
			require.EqualValues(t, 1, calls.Load())
		}
		require.Empty(t, listed(t, s))
	})
}

// waiting is how many callers have come to wait for a flight. They all count
// as misses as soon as they do.
func waiting(t *testing.T, s builtin) int64 { return computeStats(t, s).Misses }

// A waiter that gives up does not disturb the rest, nor does the leader's
// caller; fn goes on and its answer is stored. Each is bounded by its own
// context, and by ComputeOptions.Wait.
func TestComputeGivingUp(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		type key struct{}
		first, second := open(), open()
		began, release := make(chan struct{}), make(chan struct{})
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "kept"))
		gaveUp := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(gaveUp)
			_, err := kv.For[string](first).Compute(ctx, "a", func(ctx context.Context) (string, error) {
				close(began)
				<-release
				_, bounded := ctx.Deadline()
				return fmt.Sprint(ctx.Value(key{}), ctx.Err(), bounded), nil
			})
			assert.ErrorIs(t, err, context.Canceled)
			assert.NotErrorIs(t, err, kv.ErrUnavailable)
		})
		<-began
		never := func(context.Context) (string, error) { return "", errors.New("called twice") }
		wg.Go(func() {
			v, err := kv.For[string](second).Compute(t.Context(), "a", never)
			assert.NoError(t, err)
			assert.Equal(t, "kept<nil> true", v)
		})
		short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer stop()
		for _, s := range []builtin{first, second} {
			_, err := kv.For[string](s).Compute(short, "a", never)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			_, err = kv.For[string](s).With(kv.ComputeOptions[string]{Wait: 20 * time.Millisecond}).Compute(t.Context(), "a", never)
			require.ErrorIs(t, err, kv.ErrUnavailable)
			var e *kv.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "compute a docs", e.Op+" "+e.ID+" "+e.Namespace)
		}
		cancel()
		<-gaveUp
		close(release)
		wg.Wait()
		v, err := kv.For[string](second).Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, "kept<nil> true", v)
	})
}

// The leader's context is bounded by an option, and ends with the store, which
// waits for fn.
func TestComputeLimitAndClose(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		s := open()
		untilDone := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		_, err := kv.For[string](s).With(kv.ComputeOptions[string]{Limit: 20 * time.Millisecond}).Compute(t.Context(), "a", untilDone)
		require.Equal(t, context.DeadlineExceeded, err)

		began := make(chan struct{})
		returned := false
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := kv.For[string](s).Compute(t.Context(), "a", func(ctx context.Context) (string, error) {
				close(began)
				<-ctx.Done()
				returned = true
				return "", ctx.Err()
			})
			assert.ErrorIs(t, err, context.Canceled)
		})
		<-began
		require.NoError(t, s.Close())
		require.True(t, returned)
		wg.Wait()
		_, err = kv.For[string](s).Compute(t.Context(), "a", untilDone)
		require.ErrorIs(t, err, kv.ErrClosed)

		var calls atomic.Int64                                           // Its lease was released.
		again, cancel := context.WithTimeout(t.Context(), 5*time.Second) // Half of what a lease lasts by itself.
		defer cancel()
		_, err = kv.For[string](open()).Compute(again, "a", giving(&calls, "v", nil))
		require.NoError(t, err)
	})
}

// A panic of fn reaches the caller who gave it, the others get an error, and
// the id can be computed again; so it is when fn ends its goroutine.
func TestComputePanic(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		s := open()
		cause := errors.New("secret of fn")
		began, release := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				err, _ := recover().(error)
				assert.ErrorIs(t, err, cause)
				assert.ErrorContains(t, err, "TestComputePanic")
			}()
			_, _ = kv.For[string](s).Compute(t.Context(), "a", func(context.Context) (string, error) {
				close(began)
				<-release
				panic(cause)
			})
			t.Error("no panic")
		})
		<-began
		wg.Go(func() {
			_, err := kv.For[string](s).Compute(t.Context(), "a", func(context.Context) (string, error) { panic("called twice") })
			assert.ErrorContains(t, err, "the function that computes the value panicked")
			assert.NotContains(t, err.Error(), "secret")
		})
		require.NoError(t, testkit.Await(func() bool { return waiting(t, s) == 2 }))
		close(release)
		wg.Wait()
		var calls atomic.Int64
		v, err := kv.For[string](open()).Compute(t.Context(), "a", giving(&calls, "v", nil))
		require.NoError(t, err)
		require.Equal(t, "v", v)
	})
}

// What cannot be stored comes back with the reason; what has no JSON, and
// options that make no sense, are ErrInvalid before or without anything stored.
func TestComputeInvalid(t *testing.T) {
	var calls atomic.Int64
	cfg := kv.Config{WorkingDir: t.TempDir(), MaxValueBytes: 100}
	s, err := kv.Open(t.Context(), cfg, "docs")
	require.NoError(t, err)
	defer s.Close()
	big := strings.Repeat("x", 200)
	v, err := kv.For[string](s).Compute(t.Context(), "a", giving(&calls, big, nil))
	require.ErrorIs(t, err, kv.ErrInvalid)
	require.Equal(t, big, v)
	require.NotContains(t, err.Error(), "xxx")
	_, err = kv.For[any](s).Compute(t.Context(), "a", giving[any](&calls, func() {}, nil))
	require.ErrorIs(t, err, kv.ErrInvalid)
	_, err = kv.For[string](s).Compute(t.Context(), "\xff", giving(&calls, "", nil))
	require.ErrorIs(t, err, kv.ErrInvalid)
	calls.Store(0)
	for _, o := range []kv.ComputeOptions[string]{{TTL: -1}, {Lease: time.Millisecond}, {Lease: -1}, {Limit: -1}, {Wait: -1},
		{Negative: -1}, {RefreshAhead: -.1}, {RefreshAhead: 1}} {
		_, err := kv.For[string](s).With(o).Compute(t.Context(), "a", giving(&calls, "", nil))
		require.ErrorIs(t, err, kv.ErrInvalid, "%+v", o)
	}
	require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{"n": json.RawMessage("1")}))
	_, err = kv.For[string](s).Compute(t.Context(), "n", giving(&calls, "", nil))
	require.ErrorIs(t, err, kv.ErrCorrupt)
	require.Zero(t, calls.Load())
	require.NoError(t, s.Close())
	looking, err := kv.Open(t.Context(), cfg, "docs", kv.WithReadOnly())
	require.NoError(t, err)
	defer looking.Close()
	_, err = kv.For[string](looking).Compute(t.Context(), "a", giving(&calls, "", nil))
	require.ErrorIs(t, err, kv.ErrInvalid)
	require.Zero(t, calls.Load())
}
