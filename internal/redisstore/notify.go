package redisstore

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/lease"
)

// notifierLinger is how long a subscription outlives its last waiter, so that
// a busy process does not subscribe again for each wait.
const notifierLinger = 5 * time.Second

// A notifier tells waiters that a lease was released. All of a namespace
// share one subscription, which is made for the first of them. Where it cannot
// be made, or breaks, their polling goes on without it.
type notifier struct {
	client  redis.UniversalClient
	channel string

	mu      sync.Mutex
	closed  bool
	waiting map[string]map[chan struct{}]struct{} // by id
	watches int
	end     context.CancelFunc // of the subscription; nil: there is none
	linger  *time.Timer
	running sync.WaitGroup
}

func newNotifier(client redis.UniversalClient, channel string) *notifier {
	return &notifier{client: client, channel: channel, waiting: make(map[string]map[chan struct{}]struct{})}
}

// watch returns a channel that gets a token when the lease of one of ids is
// released, until stop is called.
func (n *notifier) watch(ids []string) (<-chan struct{}, func()) {
	changed := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range ids {
		if n.waiting[id] == nil {
			n.waiting[id] = make(map[chan struct{}]struct{})
		}
		n.waiting[id][changed] = struct{}{}
	}
	n.watches++
	if n.linger != nil {
		n.linger.Stop()
		n.linger = nil
	}
	if n.end == nil && !n.closed {
		ctx, cancel := context.WithCancel(context.Background())
		n.end = cancel
		n.running.Go(func() { n.listen(ctx) })
	}
	return changed, func() { n.unwatch(ids, changed) }
}

func (n *notifier) unwatch(ids []string, changed chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range ids {
		delete(n.waiting[id], changed)
		if len(n.waiting[id]) == 0 {
			delete(n.waiting, id)
		}
	}
	n.watches--
	if n.watches == 0 && !n.closed {
		n.linger = time.AfterFunc(notifierLinger, n.rest)
	}
}

// rest ends the subscription if nobody has come to need it.
func (n *notifier) rest() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watches == 0 && n.end != nil {
		n.end()
		n.end = nil
	}
}

func (n *notifier) close() {
	n.mu.Lock()
	n.closed = true
	if n.linger != nil {
		n.linger.Stop()
	}
	if n.end != nil {
		n.end()
		n.end = nil
	}
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
		var message *redis.Message
		var err error
		if !subscribed {
			err = sub.Subscribe(ctx, n.channel)
			subscribed = err == nil
		} else if message, err = sub.ReceiveMessage(ctx); err == nil {
			n.announce(message.Payload)
		}
		if err == nil {
			continue
		}
		_ = engine.Pause(ctx, lease.PollMost/2+rand.N(lease.PollMost/2))
	}
}

func (n *notifier) announce(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for changed := range n.waiting[id] {
		select {
		case changed <- struct{}{}:
		default: // It has a token already.
		}
	}
}
