package kv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// A refreshed answer is stored only where what was read is still there, byte
// for byte: what was removed meanwhile is not raised, and what was written
// stays.
func TestRefreshRaisesNothing(t *testing.T) {
	onComputeBackends(t, time.Hour, func(t *testing.T, open func() builtin) {
		if strings.Contains(t.Name(), "miniredis") {
			t.Skip("its time stands still")
		}
		testRefreshRaisesNothing(t, open)
	})
}

func testRefreshRaisesNothing(t *testing.T, open func() builtin) {
	for name, remove := range map[string]func(s builtin) error{
		"delete": func(s builtin) error { _, err := s.Delete(t.Context(), "a"); return err },
		"drop":   func(s builtin) error { return s.Drop(t.Context()) },
		"upsert": func(s builtin) error { return kv.For[string](s).Upsert(t.Context(), map[string]string{"a": "newer"}) },
		"again": func(s builtin) error { // Removed and stored again, with other bytes.
			_, err := s.Delete(t.Context(), "a")
			return errors.Join(err, s.Upsert(t.Context(), map[string]json.RawMessage{"a": json.RawMessage(`"\u0076"`)}))
		},
		"nothing": func(builtin) error { return nil },
	} {
		keep := open() // What the others share stays open with it.
		s := open()
		view := kv.For[string](s).With(kv.ComputeOptions[string]{RefreshAhead: .999999})
		require.NoError(t, view.Upsert(t.Context(), map[string]string{"a": "v"}))
		began, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		require.NoError(t, testkit.Await(func() bool {
			v, err := view.Compute(t.Context(), "a", func(context.Context) (string, error) {
				once.Do(func() { close(began); <-release })
				return "refreshed", nil
			})
			require.NoError(t, err)
			require.Equal(t, "v", v)
			select {
			case <-began:
				return true
			default:
				return false
			}
		}))
		require.NoError(t, remove(keep))
		stats := computeStats(t, s)
		close(release)
		require.NoError(t, testkit.Await(func() bool { return computeStats(t, s).Computes > stats.Computes }))
		want := map[string]string{"upsert": `"newer"`, "again": `"\u0076"`, "nothing": `"refreshed"`}[name]
		if name == "nothing" {
			require.NoError(t, testkit.Await(func() bool { v, err := keep.Get(t.Context(), "a"); return err == nil && string(v) == want }))
		}
		for range 20 {
			v, err := keep.Get(t.Context(), "a")
			require.Equal(t, want, string(v), name)
			require.Equal(t, want == "", errors.Is(err, kv.ErrNotFound), name)
			time.Sleep(5 * time.Millisecond)
		}
		require.NoError(t, s.Close())
	}
}

func TestRefreshRaisesNothingOnClusterAndSentinel(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"cluster":  redistest.StartCluster(t, 3, 0).URL(),
		"sentinel": redistest.StartSentinel(t, 1, 1).URL(),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := redisCfg(url)
			cfg.TTL = map[string]time.Duration{"docs": time.Hour}
			testRefreshRaisesNothing(t, openerOf(t, cfg, false))
		})
	}
}

// An answer that was paid for is stored where its id is still absent, though
// the lease was lost: all keys were removed, or the server stood still for
// longer than the lease.
func TestComputeKeepsWhatWasPaid(t *testing.T) {
	server := redistest.Start(t)
	s := openRedisStore(t, redisCfg(server.URL()), "docs")
	var resumed sync.WaitGroup
	defer resumed.Wait()
	for id, harm := range map[string]func(){
		"flushed": func() { assert.NoError(t, server.Client().FlushAll(t.Context()).Err()) },
		"stopped": func() { server.Pause(); resumed.Go(func() { time.Sleep(1500 * time.Millisecond); server.Resume() }) },
	} {
		v, err := kv.For[string](s).With(kv.ComputeOptions[string]{Lease: time.Second}).Compute(t.Context(), id, func(context.Context) (string, error) {
			harm()
			return "paid", nil
		})
		require.NoError(t, err)
		require.Equal(t, "paid", v)
		v, err = kv.For[string](s).Get(t.Context(), id)
		require.NoError(t, err, id)
		require.Equal(t, "paid", v)
		_, err = s.Delete(t.Context(), id)
		require.NoError(t, err)
	}
	require.Empty(t, testkit.AllKeys(t, server.Client()), "no lease is left")
}

// An error is that of its id: other ids are computed, and nobody has to wait
// for their leases.
func TestComputeErrorsArePerID(t *testing.T) {
	server := redistest.Start(t)
	first, second := openRedisStore(t, redisCfg(server.URL()), "docs"), openRedisStore(t, redisCfg(server.URL()), "docs")
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprint("id-", i))
	}
	require.NoError(t, server.Client().SAdd(t.Context(), "nano_graphrag:docs:id-7", "foreign").Err())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // Half of what a lease lasts by itself.
	defer cancel()
	for i, s := range []builtin{first, second} {
		var calls atomic.Int64
		got, err := kv.For[string](s).ComputeMany(ctx, ids, upper(&calls, nil))
		require.ErrorIs(t, err, kv.ErrCorrupt)
		require.Len(t, got, 19)
		require.EqualValues(t, 1-i, calls.Load())
		_, err = kv.For[string](s).Compute(ctx, "id-7", giving(&calls, "", nil))
		require.ErrorIs(t, err, kv.ErrCorrupt)
	}
}

// Those who wait in other processes are told that fn has failed, or that its
// value was refused. They call theirs side by side, and wait for nobody else.
func TestComputeFailureIsTold(t *testing.T) {
	for _, cause := range []error{errors.New("the model is away"), fmt.Errorf("no page: %w", kv.ErrNotFound), nil} {
		server := redistest.Start(t)
		const processes = 8
		first := openRedisStore(t, redisCfg(server.URL()), "docs")
		o := kv.ComputeOptions[string]{Lease: time.Minute, Accept: func(v string) bool { return v != "refused" }}
		began, release := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := kv.For[string](first).With(o).Compute(t.Context(), "a", func(context.Context) (string, error) {
				close(began)
				<-release
				return "refused", cause
			})
			assert.ErrorIs(t, err, cause)
		})
		<-began
		var failing atomic.Int64
		together := make(chan struct{})
		for i := range processes - 1 {
			s := openRedisStore(t, redisCfg(server.URL()), "docs")
			wg.Go(func() {
				v, err := kv.For[string](s).With(o).Compute(t.Context(), "a", func(context.Context) (string, error) {
					if failing.Add(1) == processes-1 {
						close(together)
					}
					select {
					case <-together:
					case <-time.After(60 * time.Second):
						return "", errors.New("they call fn one after the other")
					}
					return fmt.Sprint("own ", i), cause
				})
				assert.ErrorIs(t, err, cause)
				if cause == nil {
					assert.NotEqual(t, "refused", v)
				}
			})
		}
		asked := func() int {
			return testkit.ServerCalls(t, server.Client(), "eval") + testkit.ServerCalls(t, server.Client(), "evalsha")
		}
		require.NoError(t, testkit.Await(func() bool { return asked() == processes }), "all have asked for the lease")
		close(release)
		wg.Wait()
		if cause == nil {
			require.Equal(t, []string{"a"}, listed(t, first), "the first good one is stored")
		}
	}
}

// How many computations in a row may fail while a caller waits is an option.
func TestComputeTries(t *testing.T) {
	server := redistest.Start(t)
	const processes = 6
	var running, calls, most atomic.Int64
	var wg sync.WaitGroup
	for range processes {
		s := openRedisStore(t, redisCfg(server.URL()), "docs")
		wg.Go(func() {
			_, err := kv.For[string](s).With(kv.ComputeOptions[string]{Tries: processes}).Compute(t.Context(), "a", func(context.Context) (string, error) {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				calls.Add(1)
				time.Sleep(100 * time.Millisecond)
				return "", errors.New("broken")
			})
			assert.EqualError(t, err, "broken")
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, most.Load())
	require.EqualValues(t, processes, calls.Load())
	_, err := kv.For[string](openRedisStore(t, redisCfg(server.URL()), "docs")).With(kv.ComputeOptions[string]{Tries: -1}).Compute(t.Context(), "a", nil)
	require.ErrorIs(t, err, kv.ErrInvalid)
}

// One process computes 5,000 ids for five seconds, and eight wait for them:
// what all of them send is counted.
func TestComputeLoad(t *testing.T) {
	t.Parallel()
	const processes, most = 8, 2000
	takes := 5 * time.Second
	if testing.Short() {
		takes = time.Second
	}
	server := redistest.Start(t)
	var sent atomic.Int64
	byName := make(map[string]int)
	var mu sync.Mutex
	count := testkit.Hook(func(cmd redis.Cmder) {
		sent.Add(1)
		mu.Lock()
		byName[cmd.Name()]++
		mu.Unlock()
	})
	open := func() builtin {
		client := redis.NewClient(&redis.Options{Network: "tcp", Addr: server.Addr, ContextTimeoutEnabled: true, MaxRetries: -1, ReadTimeout: time.Minute})
		t.Cleanup(func() { _ = client.Close() })
		client.AddHook(count)
		return openRedisStore(t, kv.Config{Backend: "redis"}, "docs", kv.WithRedisClient(client))
	}
	ids := make([]string, 5000)
	for i := range ids {
		ids[i] = fmt.Sprint("id-", i)
	}
	var stores []builtin
	for range processes + 1 {
		stores = append(stores, open())
	}
	sent.Store(0)
	clear(byName)
	o := kv.ComputeOptions[string]{Lease: time.Minute} // However slow the machine is.
	var calls atomic.Int64
	began := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		got, err := kv.For[string](stores[0]).With(o).ComputeMany(t.Context(), ids, func(ctx context.Context, missing []string) (map[string]string, error) {
			close(began)
			time.Sleep(takes)
			return upper(&calls, nil)(ctx, missing)
		})
		assert.NoError(t, err)
		assert.Len(t, got, len(ids))
	})
	<-began
	for _, s := range stores[1:] {
		wg.Go(func() {
			got, err := kv.For[string](s).With(o).ComputeMany(t.Context(), ids, upper(&calls, nil))
			assert.NoError(t, err)
			assert.Len(t, got, len(ids))
		})
	}
	wg.Wait()
	require.Zero(t, computeStats(t, stores[0]).LeaseLosses)
	require.EqualValues(t, 1, calls.Load())
	t.Logf("%d commands: %v", sent.Load(), byName)
	require.LessOrEqual(t, sent.Load(), int64(most))
}

// An fn may close its store: Close does not wait for it for ever, and what it
// returns reaches its caller, with the reason why it was not stored.
func TestComputeCloseInside(t *testing.T) {
	onComputeBackends(t, 0, func(t *testing.T, open func() builtin) {
		s := open()
		done := make(chan struct{})
		go func() {
			defer close(done)
			v, err := kv.For[string](s).Compute(t.Context(), "a", func(context.Context) (string, error) {
				assert.NoError(t, s.Close())
				return "paid", nil
			})
			assert.ErrorIs(t, err, kv.ErrClosed)
			assert.Equal(t, "paid", v)
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("it hangs")
		}
		var calls atomic.Int64
		again, cancel := context.WithTimeout(t.Context(), 5*time.Second) // Half of what a lease lasts by itself.
		defer cancel()
		v, err := kv.For[string](open()).Compute(again, "a", giving(&calls, "v", nil))
		require.NoError(t, err, "its lease was released")
		require.Equal(t, "v", v)
	})
}

// A panic of fn whose caller has given up is logged, with its stack and
// without what it says.
func TestComputePanicIsSeen(t *testing.T) {
	for name, cfg := range map[string]kv.Config{"json": {WorkingDir: t.TempDir()}, "redis": redisCfg(redistest.Start(t).URL())} {
		t.Run(name, func(t *testing.T) {
			book := new(testkit.LogBook)
			s, err := kv.Open(t.Context(), cfg, "docs", kv.WithLogger(book.Logger()))
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			began, release := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := kv.For[string](s).Compute(ctx, "a", func(context.Context) (string, error) {
					close(began)
					<-release
					panic("secret of fn")
				})
				assert.ErrorIs(t, err, context.Canceled)
			})
			<-began
			cancel()
			wg.Wait()
			close(release)
			require.NoError(t, s.Close())
			require.Contains(t, book.Text(), "level=ERROR")
			require.Contains(t, book.Text(), "TestComputePanicIsSeen")
			require.NotContains(t, book.Text(), "secret")
		})
	}
}

// The rights that docs/configuration.md lists are enough to compute, to renew
// and to wait; without them the error says where they are listed.
func TestComputeRights(t *testing.T) {
	doc := readFile(t, "docs/configuration.md")
	base := regexp.MustCompile(`ACL SETUSER kv on >password (.*)\n`).FindStringSubmatch(doc)
	more := regexp.MustCompile("needs `(~kv-lease:[^`]*)`, too").FindStringSubmatch(doc)
	require.NotNil(t, base)
	require.NotNil(t, more)
	server := redistest.Start(t)
	server.ACL("least", "pw", append([]string{"resetchannels"}, strings.Fields(base[1])...)...)
	server.ACL("computing", "pw", append([]string{"resetchannels"}, strings.Fields(base[1]+" "+more[1])...)...)
	open := func(user string) builtin {
		cfg := redisCfg(server.URL())
		cfg.Redis.Username, cfg.Redis.Password = user, "pw"
		return openRedisStore(t, cfg, "docs")
	}
	var calls atomic.Int64
	_, err := kv.For[string](open("least")).Compute(t.Context(), "a", giving(&calls, "v", nil))
	require.ErrorContains(t, err, "docs/configuration.md")
	require.Zero(t, calls.Load())
	o := kv.ComputeOptions[string]{Lease: quick}
	var wg sync.WaitGroup
	for range 3 {
		s := open("computing")
		wg.Go(func() {
			for _, id := range []string{"a", "b"} {
				v, err := kv.For[string](s).With(o).Compute(t.Context(), id, func(context.Context) (string, error) {
					calls.Add(1)
					time.Sleep(2 * quick)
					return "v", nil
				})
				assert.NoError(t, err)
				assert.Equal(t, "v", v)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 2, calls.Load())
}
