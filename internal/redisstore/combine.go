package redisstore

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A combiner lets the commands of many callers share round trips: those that
// come while groups are on their way make the next group. A command leaves the
// queue with its caller.
//
// mu guards all that is below it, and the groups in the queue. Whenever it is
// free:
//
//   - A group is in the queue as long as it has not departed and has a caller.
//     Only the last one is joined; one that has departed belongs to its sender.
//   - A command is in one group, and sent once or not at all: it is withdrawn
//     under mu while its group waits, and later asks for its caller (single).
//   - While somebody waits in the queue there is a turn that will end, or the
//     look at overdue groups is to come (turn.go): nobody waits for nothing.
//   - done closes once, when each command of the group has its reply or error.
type combiner struct {
	execute func(ctx context.Context, cmds []single)
	calls   *calls
	lane    *lane // nil: none
	most    int   // groups on their way

	mu        sync.Mutex
	queue     []*group
	turns     []time.Time // when the groups on their way departed; zero: a free turn
	watching  bool        // for a group that is overdue
	lastCmds  int         // how large the last one was
	lastReads int
	lastBytes int
	pace      *pace // of the reads of a group
}

// newCombiner makes a combiner whose groups execute sends, at most that many
// at a time. Each command has its own error then.
func newCombiner(execute func(context.Context, []single), calls *calls, lane *lane, most int) *combiner {
	return &combiner{execute: execute, calls: calls, lane: lane, most: max(most, groupsInFlight), pace: newPace(sharedReply)}
}

// do executes a command, whose error it returns, or gives up when ctx is done.
func (c *combiner) do(ctx context.Context, cmd redis.Cmder) error {
	if c.alone(ctx, func() redis.Cmder { return cmd }) {
		return cmd.Err()
	}
	// Whatever sends the command later asks by whether its caller is still there.
	by, bytes := callerOf(ctx), valueBytes(cmd)
	s := c.join(ctx, bytes, func(g *group) int {
		g.cmds = append(g.cmds, single{cmd, by})
		return len(g.cmds) - 1
	})
	if c.ride(ctx, s) {
		return cmd.Err()
	}
	c.withdraw(s, func(g *group) {
		g.cmds[s.at] = single{}
		g.bytes -= bytes
	})
	by.leave() // Where it was too late to withdraw it.
	return ctx.Err()
}

// valueBytes is the size of the values that a command carries.
func valueBytes(cmd redis.Cmder) (n int) {
	for _, arg := range cmd.Args() {
		if value, ok := arg.(*valueArg); ok {
			n += len(*value)
		}
	}
	return n
}

// alone makes and executes a command by itself, in the caller's own goroutine,
// unless enough groups are on their way. It reports whether it did.
func (c *combiner) alone(ctx context.Context, build func() redis.Cmder) bool {
	leaves := ctx.Done() != nil // Then only a connection that can be cut will do.
	if leaves && c.lane == nil {
		return false
	}
	turn, ok := c.takeTurn()
	if !ok {
		return false
	}
	defer c.endTurn(turn)
	if leaves {
		return c.lane.process(ctx, build)
	}
	c.execute(ctx, []single{{build(), nil}})
	return true
}

// A readResult is what became of a read.
type readResult struct {
	value json.RawMessage // nil: none
	sure  bool            // else the key has to be asked for by itself
}

// Read returns what is stored under a key, or gives up when ctx is done. It is
// not sure of what MGET has no value for: the key may not be there, or be of
// another type, or the user may not use MGET.
func (c *combiner) read(ctx context.Context, prefix, id string) (readResult, error) {
	var get *valuesCmd
	if c.alone(ctx, func() redis.Cmder {
		get = newGet(ctx, prefix+id)
		return get
	}) {
		return readOne(get)
	}
	s := c.join(ctx, 0, func(g *group) int {
		g.keys = append(append(g.keys, prefix...), id...)
		g.reads = append(g.reads, len(g.keys))
		return len(g.reads) - 1
	})
	if !c.ride(ctx, s) {
		if !c.withdraw(s, func(g *group) { g.reads[s.at] = ^g.reads[s.at] }) {
			s.group.readers.Add(-1)
		}
		return readResult{}, ctx.Err()
	}
	read := s.group.read // Written before done closed.
	if len(read.reply.values) == 1 {
		return readOne(read)
	}
	if err := read.Err(); err != nil && read.reply.err == nil {
		return readResult{}, err
	}
	value := read.reply.values[s.group.reads[s.at]]
	return readResult{value, value != nil}, nil
}

// readOne returns what a GET was answered with.
func readOne(get *valuesCmd) (readResult, error) {
	if err := get.Err(); err != nil {
		return readResult{}, err
	}
	return readResult{get.reply.values[0], true}, nil
}

// A seat is a caller's place in a group.
type seat struct {
	group *group
	at    int  // which of its commands or reads
	sends bool // the caller sends the group
}

// join lets add put something into the last group of the queue.
func (c *combiner) join(ctx context.Context, bytes int, add func(g *group) int) seat {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := seat{}
	if n := len(c.queue); n > 0 {
		s.group = c.queue[n-1]
	}
	fresh := s.group == nil || s.group.full(bytes, c.pace.next())
	if fresh { // A caller who may leave does not send for others.
		s.group, s.sends = c.newGroup(), ctx.Done() == nil
		if s.sends {
			s.group.start = make(chan struct{})
		}
		c.queue = append(c.queue, s.group)
	}
	s.at = add(s.group)
	s.group.callers++
	s.group.seats++
	s.group.bytes += bytes
	if fresh { // Else somebody sees to it that the group departs.
		c.dispatch()
	}
	return s
}

// ride returns when the group is back, or ctx is done. It reports which.
func (c *combiner) ride(ctx context.Context, s seat) bool {
	switch {
	case s.sends:
		<-s.group.start
		c.send(s.group)
		return true
	case ctx.Done() == nil:
		<-s.group.done
		return true
	}
	select {
	case <-s.group.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// withdraw takes a caller's command out of a group that has not departed. It
// reports whether it could.
func (c *combiner) withdraw(s seat, remove func(g *group)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := s.group
	if g.departed {
		return false
	}
	remove(g)
	if g.callers--; g.callers == 0 { // A group without commands is not sent.
		at := slices.Index(c.queue, g)
		c.queue = slices.Delete(c.queue, at, at+1)
	}
	return true
}
