package redisstore

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/lease"
)

// notifierLinger is how long a subscription outlives its last watch, so that
// a busy process does not subscribe again for each wait.
const notifierLinger = 5 * time.Second

// A notifier tells watches that leases have ended. All of a namespace share one
// subscription, which is made for the first of them. Where it cannot be made,
// or breaks, those who wait go on without it.
type notifier struct {
	client  redis.UniversalClient
	channel string

	mu      sync.Mutex
	closed  bool
	steady  bool // the subscription is made
	watches map[*watch]struct{}
	end     context.CancelFunc // of the subscription; nil: there is none
	linger  *time.Timer
	running sync.WaitGroup
}

func newNotifier(client redis.UniversalClient, channel string) *notifier {
	return &notifier{client: client, channel: channel, watches: make(map[*watch]struct{})}
}

// A watch is what one of those who wait has yet to hear.
type watch struct {
	notes *notifier
	wake  chan struct{}

	// Guarded by notifier.mu.
	ids  map[string]bool // that it waits for: whether there is news
	news []string
	all  bool // there may be news of any
}

func (n *notifier) watch(ids []string) *watch {
	w := &watch{notes: n, wake: make(chan struct{}, 1), ids: make(map[string]bool, len(ids))}
	for _, id := range ids {
		w.ids[id] = false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.watches[w] = struct{}{}
	if n.steady {
		w.tell(nil) // Since they were claimed.
	}
	if n.linger != nil {
		n.linger.Stop()
		n.linger = nil
	}
	if n.end == nil && !n.closed {
		ctx, cancel := context.WithCancel(context.Background())
		n.end = cancel
		n.running.Go(func() { n.listen(ctx) })
	}
	return w
}

// tell takes note of ids; nil stands for all.
func (w *watch) tell(ids []string) {
	w.all = w.all || ids == nil
	for _, id := range ids {
		if told, ok := w.ids[id]; ok && !told {
			w.ids[id] = true
			w.news = append(w.news, id)
		}
	}
	if !w.all && len(w.news) == 0 {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default: // It has a token already.
	}
}

func (w *watch) Wake() <-chan struct{} { return w.wake }

func (w *watch) News() (ids []string, all, steady bool) {
	w.notes.mu.Lock()
	defer w.notes.mu.Unlock()
	ids, all = w.news, w.all
	w.news, w.all = nil, false
	for _, id := range ids {
		w.ids[id] = false
	}
	return ids, all, w.notes.steady
}

func (w *watch) Stop() {
	n := w.notes
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.watches, w)
	if len(n.watches) == 0 && !n.closed {
		n.linger = time.AfterFunc(notifierLinger, n.rest)
	}
}

// rest ends the subscription if nobody has come to need it.
func (n *notifier) rest() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.watches) == 0 {
		n.unsubscribe()
	}
}

func (n *notifier) unsubscribe() {
	if n.end != nil {
		n.end()
		n.end, n.steady = nil, false
	}
}

func (n *notifier) close() {
	n.mu.Lock()
	n.closed = true
	if n.linger != nil {
		n.linger.Stop()
	}
	n.unsubscribe()
	n.mu.Unlock()
	n.running.Wait()
}

// listen holds the subscription. Closing it is the only thing that ends a read
// that is under way.
func (n *notifier) listen(ctx context.Context) {
	sub := n.client.Subscribe(ctx)
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() })
	defer func() {
		if stop() {
			_ = sub.Close()
		}
	}()
	for subscribed := false; ctx.Err() == nil; {
		var got any
		var err error
		if !subscribed {
			err = sub.Subscribe(ctx, n.channel)
			subscribed = err == nil
		} else if got, err = sub.Receive(ctx); err == nil {
			n.hear(ctx, got)
		}
		if err == nil {
			continue
		}
		n.hear(ctx, nil)
		_ = engine.Pause(ctx, lease.PollMost/2+rand.N(lease.PollMost/2))
	}
}

// hear deals with what the subscription says; nil: it broke. go-redis makes
// it anew with the next read. What happened until it stands was missed.
func (n *notifier) hear(ctx context.Context, got any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ctx.Err() != nil {
		return // Another may have been made since.
	}
	var ids []string
	switch m := got.(type) {
	case *redis.Subscription:
		n.steady = true
	case *redis.Message:
		if json.Unmarshal([]byte(m.Payload), &ids) != nil {
			return // It is not ours.
		}
	default:
		n.steady = false
		return
	}
	for w := range n.watches {
		w.tell(ids)
	}
}
