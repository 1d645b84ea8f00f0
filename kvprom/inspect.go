package kvprom

import (
	"context"
	"sync"
	"time"

	"github.com/ngraf/kv"
)

// An inspector looks into namespaces from time to time. Its goroutine is owned
// by the collector, whose Close ends it.
type inspector struct {
	every  time.Duration // 0 or less: never
	sample int

	cancel context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	found map[string]finding
}

// A finding is what an inspection found, and when it ended.
type finding struct {
	kv.Inspection
	at time.Time
}

func (i *inspector) start(stores func() map[string]kv.Store) {
	if i.every <= 0 {
		return
	}
	i.found = make(map[string]finding)
	var ctx context.Context
	ctx, i.cancel = context.WithCancel(context.Background())
	i.done.Go(func() {
		turns := time.NewTicker(i.every)
		defer turns.Stop()
		for {
			for namespace, s := range stores() {
				i.inspect(ctx, namespace, s)
			}
			select {
			case <-turns.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// inspect keeps what was found before if the namespace cannot be read now: the
// time of the last inspection tells.
func (i *inspector) inspect(ctx context.Context, namespace string, s kv.Store) {
	found, err := kv.Inspect(ctx, s, kv.InspectOptions{Sample: i.sample, Biggest: 1})
	if err != nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.found[namespace] = finding{found, time.Now()}
}

func (i *inspector) last(namespace string) (finding, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f, ok := i.found[namespace]
	return f, ok
}

func (i *inspector) stop() {
	if i.cancel != nil {
		i.cancel()
		i.done.Wait()
	}
}
