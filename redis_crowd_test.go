package kv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// crowd is how many callers there are. The race detector knows 8,128 goroutines.
func crowd() int { return 10_000 / testkit.Stride() }

const (
	crowdPool   = 50
	crowdMemory = 32 << 10 // bytes a caller, at most: its stack, its command, its share of the buffers
)

// Ten thousand callers at once on a pool of fifty: none fails, no more than
// fifty connections are made, the memory for each is bounded, and nothing is
// left of them afterwards.
func TestCrowd(t *testing.T) {
	server := redistest.Start(t, redistest.Arg("--maxclients", fmt.Sprint(crowdPool+2))) // And the test's own.
	for name, opts := range map[string][]kv.Option{"shared": nil, "alone": {kv.WithoutAutoPipelining()}} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			connections := testkit.Received(t, server)
			cfg := redisCfg(server.URL())
			cfg.Redis.MaxConnections = crowdPool
			f, err := kv.NewFactory(cfg, opts...)
			require.NoError(t, err)
			for _, cancellable := range []bool{false, true} {
				opened, err := f.Open(t.Context(), fmt.Sprintf("%s-%t", name, cancellable))
				require.NoError(t, err)
				s := opened.(builtin)
				require.NoError(t, s.Upsert(t.Context(), testkit.Numbered(crowd())))
				for op, call := range crowdCalls {
					peak := rush(t, cancellable, func(ctx context.Context, i int) error { return call(ctx, s, i) })
					t.Logf("%s, cancellable %t: %d bytes a caller", op, cancellable, peak/int64(crowd()))
					require.Less(t, peak/int64(crowd()), int64(crowdMemory), op)
				}
				require.Len(t, listed(t, s), 2*crowd(), "what was there, and what was inserted")
			}
			require.LessOrEqual(t, testkit.TCPClients(t, server), crowdPool)
			require.LessOrEqual(t, testkit.Received(t, server)-connections, crowdPool, "connections made")
			require.NoError(t, f.Close())
			require.NoError(t, testkit.Await(func() bool { return testkit.TCPClients(t, server) == 0 }))
			goleak.VerifyNone(t, before)
		})
	}
	require.Contains(t, server.Client().Info(t.Context(), "stats").Val(), "rejected_connections:0\r\n")
}

// crowdCalls are what the i-th caller does.
var crowdCalls = map[string]func(ctx context.Context, s builtin, i int) error{
	"get": func(ctx context.Context, s builtin, i int) error {
		id := fmt.Sprintf("id-%d", i)
		value, err := s.Get(ctx, id)
		if err == nil && string(value) != fmt.Sprintf(`{"id":%q}`, id) {
			err = fmt.Errorf("%s is %s", id, value)
		}
		return err
	},
	"upsert": func(ctx context.Context, s builtin, i int) error {
		id := fmt.Sprintf("id-%d", i)
		return s.Upsert(ctx, map[string]json.RawMessage{id: json.RawMessage(fmt.Sprintf(`{"id":%q}`, id))})
	},
	"insert": func(ctx context.Context, s builtin, i int) error {
		n, err := s.Insert(ctx, map[string]json.RawMessage{fmt.Sprintf("new-%d", i): json.RawMessage(`1`)})
		if err == nil && n != 1 {
			err = fmt.Errorf("inserted %d", n)
		}
		return err
	},
}

// rush lets all callers go at once, and returns by how many bytes heap and
// stacks grew.
func rush(t *testing.T, cancellable bool, call func(ctx context.Context, i int) error) int64 {
	ctx := context.Background()
	if cancellable {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
	}
	runtime.GC()
	before, peak := used(), int64(0)
	var ready, running sync.WaitGroup
	var failed atomic.Int64
	start := make(chan struct{})
	for i := range crowd() {
		ready.Add(1)
		running.Go(func() {
			ready.Done()
			<-start
			if err := call(ctx, i); err != nil && failed.Add(1) < 5 {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	ready.Wait()
	began := time.Now()
	close(start)
	for tick := time.NewTicker(time.Millisecond); ; {
		select {
		case <-tick.C:
			peak = max(peak, used()-before)
		case <-done:
			tick.Stop()
			require.Zero(t, failed.Load(), "failed")
			t.Logf("%d calls in %v", crowd(), time.Since(began).Round(time.Millisecond))
			return peak
		}
	}
}

func used() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse) //nolint:gosec // No heap overflows it.
}
