package kv

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Bounds of the writes that share a WAIT.
const (
	groupCommands  = 128
	groupsInFlight = 2
)

// A writeGroup lets the small writes of many callers share round trips and
// WAITs: those that come while some are under way make the next group.
type writeGroup struct {
	client *redisClient

	mu      sync.Mutex
	queue   []*grouped
	running int // goroutines that take groups from the queue
}

type grouped struct {
	cmd  redis.Cmder
	done chan struct{}
}

// submit sends a command. A caller that gives up leaves it behind.
func (g *writeGroup) submit(ctx context.Context, cmd redis.Cmder) error {
	it := &grouped{cmd, make(chan struct{})}
	g.mu.Lock()
	lead := g.running < groupsInFlight
	if lead && !g.client.calls.begin() {
		g.mu.Unlock()
		return redis.ErrClosed
	}
	g.queue = append(g.queue, it)
	if lead {
		g.running++
		go g.run()
	}
	g.mu.Unlock()
	select {
	case <-it.done:
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run sends groups until nobody waits.
func (g *writeGroup) run() {
	defer g.client.calls.running.Done()
	for {
		g.mu.Lock()
		n := min(len(g.queue), groupCommands)
		group := g.queue[:n:n]
		g.queue = g.queue[n:]
		if n == 0 {
			g.queue = nil
			g.running--
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		cmds := make([]redis.Cmder, n)
		for i, it := range group {
			cmds[i] = it.cmd
		}
		g.client.confirm.send(context.Background(), g.client, cmds)
		for _, it := range group {
			close(it.done)
		}
	}
}
