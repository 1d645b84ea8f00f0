package kv

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// groupsInFlight is how many groups are on their way at a time. With one, the
// commands that come while it is would wait for a whole round trip before
// their own; with many, groups are small.
const groupsInFlight = 2

// A combiner lets the commands of many callers share round trips: those that
// come while groups are on their way make the next group. The first of a
// group sends it, so that a command that is alone takes the way it would take
// without a combiner, and no goroutine but its own.
type combiner struct {
	execute func(ctx context.Context, cmds []single)
	calls   *calls
	lane    *lane // nil: none
	turn    chan struct{}

	mu   sync.Mutex
	next *group // the one that can be joined, or nil
	last int    // the size of the last
}

// A group is one pipeline in the making.
type group struct {
	cmds []single
	done chan struct{} // nil if nobody waits for the sender
}

// newCombiner makes a combiner whose groups execute sends. Each command has its
// own error then.
func newCombiner(execute func(context.Context, []single), calls *calls, lane *lane) *combiner {
	return &combiner{execute: execute, calls: calls, lane: lane, turn: make(chan struct{}, groupsInFlight)}
}

// sendTo sends the commands of a group to a server, in one pipeline.
func sendTo(client redis.UniversalClient) func(context.Context, []single) {
	return func(ctx context.Context, cmds []single) {
		if len(cmds) == 1 {
			_ = client.Process(ctx, &cmds[0])
			return
		}
		pipe := client.Pipeline()
		for i := range cmds {
			_ = pipe.Process(ctx, &cmds[i]) // Only queues it.
		}
		_, _ = pipe.Exec(ctx) // The first error of all; each has its own.
	}
}

// do executes a command, whose error it returns, or leaves it behind when ctx
// is done: it ends with its group.
func (c *combiner) do(ctx context.Context, cmd redis.Cmder) error {
	g, sends := c.join(ctx, cmd)
	if sends && c.dispatch(ctx, g) {
		return cmd.Err()
	}
	select {
	case <-g.done:
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join adds a command to the next group. The first of its commands is the one
// that sends it.
func (c *combiner) join(ctx context.Context, cmd redis.Cmder) (g *group, sends bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sends = c.next == nil; sends {
		c.next = &group{cmds: make([]single, 0, max(c.last, 1))}
	}
	g = c.next
	g.cmds = append(g.cmds, single{cmd})
	if g.done == nil && (!sends || ctx.Done() != nil) {
		g.done = make(chan struct{})
	}
	if len(g.cmds) == chunkCommands {
		c.next = nil
	}
	return g, sends
}

// depart lets nobody else join, and returns the number of commands.
func (c *combiner) depart(g *group) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == g {
		c.next = nil
	}
	c.last = len(g.cmds)
	return c.last
}

// dispatch sends a group, and reports whether it is back. A sender who may
// leave has it sent by a goroutine of its own, and is back at once. To wait
// for that one takes a single command almost as long again as its round trip;
// so one that is alone has the lane.
func (c *combiner) dispatch(ctx context.Context, g *group) bool {
	if ctx.Done() == nil {
		c.turn <- struct{}{}
		c.send(g)
		return true
	}
	hasTurn := false
	select {
	case c.turn <- struct{}{}:
		hasTurn = true
		if c.depart(g) == 1 && c.lane.process(ctx, &g.cmds[0]) {
			<-c.turn
			return true
		}
	default:
	}
	send := func() {
		if !hasTurn {
			c.turn <- struct{}{}
		}
		c.send(g)
	}
	if !c.calls.begin() { // The client is closed, and says so.
		send()
		return true
	}
	go func() {
		defer c.calls.running.Done()
		send()
	}()
	return false
}

// send executes a group that has its turn. No context of one of the callers
// counts for all of them: the socket's timeout bounds it.
func (c *combiner) send(g *group) {
	n, answered := c.depart(g), false
	defer func() {
		<-c.turn
		for i := range n {
			if !answered { // A panic must not look like an acknowledgement.
				g.cmds[i].SetErr(errNoAnswer)
			}
		}
		if g.done != nil {
			close(g.done)
		}
	}()
	c.execute(context.Background(), g.cmds)
	answered = true
}

var errNoAnswer = errors.New("the command was not answered")

// A lane is a connection apart from the pool, for one command at a time of a
// caller who may give up. The command runs in the caller's own goroutine, and
// closing the lane's client cuts it short: go-redis itself sees a deadline,
// but not that a context was cancelled while it waits for a reply.
type lane struct {
	open  func() *redis.Client // of one connection
	calls *calls

	busy   sync.Mutex
	client atomic.Pointer[redis.Client] // nil: not opened
}

// process executes a command, or reports that the lane is not to be had.
func (l *lane) process(ctx context.Context, cmd redis.Cmder) bool {
	if l == nil || !l.busy.TryLock() {
		return false
	}
	defer l.busy.Unlock()
	if !l.calls.begin() {
		return false
	}
	defer l.calls.running.Done()
	client := l.client.Load()
	if client == nil {
		client = l.open()
		l.client.Store(client)
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		_ = l.close()
	})
	err := client.Process(ctx, cmd)
	if !stop() {
		<-cut // Else it would cut the next one.
	}
	// A client whose pool is full of failures repeats the last one for a
	// second, and a pool of one connection is full soon.
	if server := redis.Error(nil); err != nil && !errors.As(err, &server) {
		_ = l.close()
	}
	return true
}

// close ends the command that is under way. The next one opens a client anew.
func (l *lane) close() error {
	if l == nil {
		return nil
	}
	if client := l.client.Swap(nil); client != nil {
		return client.Close()
	}
	return nil
}

// count adds the lane's connection to the figures of the pool.
func (l *lane) count(s *RedisStats) {
	if l == nil {
		return
	}
	if client := l.client.Load(); client != nil {
		own := client.PoolStats()
		s.Connections += int(own.TotalConns)
		s.IdleConnections += int(own.IdleConns)
	}
}
