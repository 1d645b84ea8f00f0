package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// impatientHeap bounds what callers can make the heap grow by, whatever they do.
const impatientHeap = 64 << 20

var thirtyKB = json.RawMessage(`"` + strings.Repeat("x", 30<<10) + `"`)

// Callers with little patience who write and write again, while the servers are
// stopped: what they leave behind is bounded, on every kind of server. (On a
// Cluster without sharing each call that waits has a copy of its values, for it is
// routed before there is a connection: there the callers' own number is the bound.)
func TestCrowdLeaves(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (*enginetest.Store, []*redistest.Server){
		"shared":     goneKinds["shared"],
		"not shared": goneKinds["not shared"],
		"Sentinel":   goneKinds["Sentinel"],
		"Cluster":    goneKinds["Cluster, all stopped"],
	} {
		t.Run(name, func(t *testing.T) {
			s, servers := open(t)
			for _, callers := range []int{200, 10_000 / testkit.Stride()} {
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
	const patience = 20 * time.Millisecond
	while := 800 * time.Millisecond / time.Duration(min(testkit.Stride(), 2))
	// What the callers hold, not what they have dropped: a collection counts as
	// live whatever is taken while it runs, and lets that be as much as the
	// callers' stacks. A small percentage makes it stop them instead.
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	runtime.GC()
	before, peak := heap(), int64(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		end := time.Now().Add(while)
		testkit.Together(t, callers, func(i int) {
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
			runtime.GC()
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
