package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

const (
	crowd       = 10_000 / testkit.Stride // The race detector knows 8,128 goroutines.
	crowdPool   = 50
	crowdMemory = 32 << 10 // bytes a caller, at most: its stack, its command, its share of the buffers
)

// Ten thousand callers at once on a pool of fifty: none fails, no more than
// fifty connections are made, the memory for each is bounded, and nothing is
// left of them afterwards.
func TestCrowd(t *testing.T) {
	server := redistest.Start(t, redistest.Arg("--maxclients", fmt.Sprint(crowdPool+2))) // And the test's own.
	for name, opts := range map[string][]Option{"shared": nil, "alone": {WithoutAutoPipelining()}} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			connections := received(t, server)
			cfg := redisCfg(server.URL())
			cfg.Redis.MaxConnections = crowdPool
			f, err := NewFactory(cfg, opts...)
			require.NoError(t, err)
			for _, cancellable := range []bool{false, true} {
				opened, err := f.Open(t.Context(), fmt.Sprintf("%s-%t", name, cancellable))
				require.NoError(t, err)
				s := opened.(*store)
				require.NoError(t, s.Upsert(t.Context(), testkit.Numbered(crowd)))
				for op, call := range crowdCalls {
					peak := rush(t, cancellable, func(ctx context.Context, i int) error { return call(ctx, s, i) })
					t.Logf("%s, cancellable %t: %d bytes a caller", op, cancellable, peak/crowd)
					require.Less(t, peak/crowd, int64(crowdMemory), op)
				}
				require.Len(t, listed(t, s), 2*crowd, "what was there, and what was inserted")
			}
			require.LessOrEqual(t, testkit.TcpClients(t, server), crowdPool)
			require.LessOrEqual(t, received(t, server)-connections, crowdPool, "connections made")
			require.NoError(t, f.Close())
			require.NoError(t, testkit.Await(func() bool { return testkit.TcpClients(t, server) == 0 }))
			goleak.VerifyNone(t, before)
		})
	}
	require.Contains(t, server.Client().Info(t.Context(), "stats").Val(), "rejected_connections:0\r\n")
}

// crowdCalls are what the i-th caller does.
var crowdCalls = map[string]func(ctx context.Context, s *store, i int) error{
	"get": func(ctx context.Context, s *store, i int) error {
		id := fmt.Sprintf("id-%d", i)
		value, err := s.Get(ctx, id)
		if err == nil && string(value) != fmt.Sprintf(`{"id":%q}`, id) {
			err = fmt.Errorf("%s is %s", id, value)
		}
		return err
	},
	"upsert": func(ctx context.Context, s *store, i int) error {
		id := fmt.Sprintf("id-%d", i)
		return s.Upsert(ctx, map[string]json.RawMessage{id: json.RawMessage(fmt.Sprintf(`{"id":%q}`, id))})
	},
	"insert": func(ctx context.Context, s *store, i int) error {
		n, err := s.Insert(ctx, map[string]json.RawMessage{fmt.Sprintf("new-%d", i): json.RawMessage(`1`)})
		if err == nil && n != 1 {
			err = fmt.Errorf("inserted %d", n)
		}
		return err
	},
}

// received returns how many connections the server has accepted so far.
func received(t *testing.T, server *redistest.Server) int {
	t.Helper()
	var n int
	_, after, ok := strings.Cut(server.Client().Info(t.Context(), "stats").Val(), "total_connections_received:")
	require.True(t, ok)
	_, err := fmt.Sscan(after, &n)
	require.NoError(t, err)
	return n
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
	for i := range crowd {
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
			t.Logf("%d calls in %v", crowd, time.Since(began).Round(time.Millisecond))
			return peak
		}
	}
}

func used() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse) //nolint:gosec // No heap overflows it.
}

// impatientHeap bounds what callers can make the heap grow by, whatever they do.
const impatientHeap = 64 << 20

var thirtyKB = json.RawMessage(`"` + strings.Repeat("x", 30<<10) + `"`)

// Callers with little patience who write and write again, while the servers are
// stopped: what they leave behind is bounded, on every kind of server.
func TestCrowdLeaves(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (*store, []*redistest.Server){
		"shared":     goneKinds["shared"],
		"not shared": goneKinds["not shared"],
		"Sentinel":   goneKinds["Sentinel"],
		"Cluster":    goneKinds["Cluster, all stopped"],
	} {
		t.Run(name, func(t *testing.T) {
			s, servers := open(t)
			for _, callers := range []int{200, crowd} {
				stopped(servers, func() {
					items := make([]map[string]json.RawMessage, callers)
					for i := range items {
						items[i] = map[string]json.RawMessage{fmt.Sprintf("id-%d", i): thirtyKB}
					}
					grown := impatience(t, callers, func(ctx context.Context, i int) error { return s.Upsert(ctx, items[i]) })
					t.Logf("%d callers: %d MiB", callers, grown>>20)
					require.Less(t, grown, int64(impatientHeap))
				})
				leftBehind(s)
			}
		})
	}
}

// impatience lets callers call and give up for a while, and returns by how many
// bytes the heap grew.
func impatience(t *testing.T, callers int, call func(ctx context.Context, i int) error) int64 {
	const patience, while = 20 * time.Millisecond, 800 * time.Millisecond
	runtime.GC()
	before, peak := heap(), int64(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		end := time.Now().Add(while)
		together(t, callers, func(i int) {
			for time.Now().Before(end) {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				if err := call(ctx, i); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
				cancel()
			}
		})
	}()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-tick.C:
			runtime.GC() // Whose pace else depends on the callers' stacks.
			peak = max(peak, heap()-before)
		case <-done:
			tick.Stop()
			return peak
		}
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // No heap overflows it.
}
