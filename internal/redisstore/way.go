package redisstore

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// A way is how commands go to the servers: to which of them, along with those
// of others or not, and with what said of it. It is small, and one that
// differs in something is a copy; what must not differ is in the pool.
type way struct {
	*pool
	to      redis.UniversalClient // the pool's client, or that of one node
	circuit *circuit              // nil: the servers are asked in any case

	// together executes a command along with those of other callers, and
	// returns its error. nil: every command goes by itself. The combiner is
	// what does it; in a Cluster each master has one.
	together func(ctx context.Context, cmd redis.Cmder) error
	combiner *combiner

	confirm *confirmer // waits for replicas; nil: the master's word is enough
}

// share lets single commands share round trips.
func (w *way) share(execute func(context.Context, []single), lane *lane) {
	if cluster := w.cluster(); cluster != nil {
		queues := newNodeQueues(cluster, func() *combiner { return newCombiner(execute, w.calls, nil, w.most) })
		w.together = queues.do
		return
	}
	w.combiner = newCombiner(execute, w.calls, lane, w.most)
	w.together = w.combiner.do
}

// cluster returns the client of a Cluster, or nil.
func (w *way) cluster() *redis.ClusterClient {
	cluster, _ := w.to.(*redis.ClusterClient)
	return cluster
}

// refresh has a Cluster's topology read again after a failure that a failover
// explains. go-redis does so in its own retries, which are off.
func (w *way) refresh(ctx context.Context, f fate) {
	if cluster := w.cluster(); cluster != nil && f != refused {
		cluster.ReloadState(ctx)
	}
}

// masters returns a client for each server that holds a part of the keys.
// SCAN on a ClusterClient itself would visit one of them.
func (w *way) masters(ctx context.Context) ([]redis.UniversalClient, error) {
	cluster := w.cluster()
	if cluster == nil {
		return []redis.UniversalClient{w.to}, nil
	}
	if w.circuit.open() {
		return nil, w.circuit.refusal()
	}
	var mu sync.Mutex
	var nodes []redis.UniversalClient
	err := w.await(ctx, func(*caller) error { // Of a node that says where the slots are.
		return cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			nodes = append(nodes, node)
			return nil
		})
	})
	if _, err = w.classify(ctx, err); err != nil { // The call may still be running.
		return nil, err
	}
	return nodes, nil
}

// on is the way to one of the masters.
func (w *way) on(node redis.UniversalClient) *way {
	return &way{pool: w.pool, to: node, circuit: w.circuit}
}

// unguarded asks the server even if the circuit is open, which hears nothing.
func (w *way) unguarded() *way {
	direct := *w
	direct.circuit = nil
	return &direct
}

// carrying is the way for items: by themselves if others would have to wait
// for them.
func (w *way) carrying(items []engine.Item) *way {
	if len(items) == 1 && items[0].Size() <= sharedBytes {
		return w
	}
	alone := *w
	alone.together = nil
	return &alone
}

// await runs call and returns with it, or as soon as ctx is done: go-redis
// sees a deadline, but not that a context was cancelled while it waits for a
// reply. A call that is left behind ends within the socket's timeout, reads
// the reply that it is owed, and so gives back a connection that the next
// user can trust. It must not use memory of the caller, whom its commands ask
// before they go.
func (w *way) await(ctx context.Context, call func(by *caller) error) error {
	by := callerOf(ctx)
	if by == nil {
		return call(nil)
	}
	done := make(chan error, 1)
	if !w.calls.begin() {
		return fault.ErrClosed
	}
	go func() {
		defer w.calls.running.Done()
		err := call(by)
		by.end()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		by.leave()
		return ctx.Err()
	}
}
