package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// groupsInFlight is how many groups are on their way at a time. With one,
	// the commands that come while it is would wait for a whole round trip
	// before their own; with many, groups are small.
	groupsInFlight = 2

	// overdue is the age from which a group does not count as one of these:
	// nobody waits behind a large reply or a server that hangs.
	overdue = 10 * time.Millisecond

	// groupBytes bounds the values of a group.
	groupBytes = 128 << 10

	// sharedReply is what the reads of a group should bring at most: those who
	// read little do not wait for all that others do.
	sharedReply = 1 << 20
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
//   - A turn is taken for each group on its way, and given back by endTurn,
//     also after a panic. Fewer than groupsInFlight of them are young whenever
//     one is taken, and there are at most most of them.
//   - While somebody waits in the queue there is a turn that will end, or the
//     look at overdue groups (watching) is to come: nobody waits for nothing.
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

// A group is one pipeline in the making. Its reads become one command: to read
// keys with MGET takes a server and a client half the time of a GET for each.
type group struct {
	callers  int // who are in it
	seats    int // that were ever taken
	bytes    int
	cmds     []single   // empty: withdrawn
	keys     []byte     // to read, one behind the other
	reads    []int      // where each ends, ^end of one withdrawn; once sent, its place in the reply
	read     *valuesCmd // what reads the keys, once sent: GET or MGET
	departed bool
	turn     int
	readers  atomic.Int64  // who wait for a read, once departed
	start    chan struct{} // nil: a goroutine of its own sends it; else the first of its callers, when this closes
	done     chan struct{}
}

// present is asked when the reads are sent.
func (g *group) present() bool { return g.readers.Load() > 0 }

// newCombiner makes a combiner whose groups execute sends, at most that many
// at a time. Each command has its own error then.
func newCombiner(execute func(context.Context, []single), calls *calls, lane *lane, most int) *combiner {
	return &combiner{execute: execute, calls: calls, lane: lane, most: max(most, groupsInFlight), pace: newPace(sharedReply)}
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
		sendAll(ctx, pipe)
	}
}

// do executes a command, whose error it returns, or gives up when ctx is done.
func (c *combiner) do(ctx context.Context, cmd redis.Cmder) error {
	if c.alone(ctx, func() redis.Cmder { return cmd }) {
		return cmd.Err()
	}
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
	by.leave()
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
	leaves := ctx.Done() != nil
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
	read := s.group.read
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
	if fresh {
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

// full reports whether a command with values of that size has to wait for the
// next group, so many reads being enough for one.
func (g *group) full(bytes, reads int) bool {
	return g.seats == chunkCommands || len(g.reads) >= reads || g.bytes > 0 && g.bytes+bytes > groupBytes
}

// newGroup makes one that has room for what the last one had.
func (c *combiner) newGroup() *group {
	g := &group{done: make(chan struct{})}
	if c.lastCmds > 0 {
		g.cmds = make([]single, 0, c.lastCmds)
	}
	if c.lastReads > 0 {
		g.keys, g.reads = make([]byte, 0, c.lastBytes), make([]int, 0, c.lastReads)
	}
	return g
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
	if g.callers--; g.callers == 0 {
		at := slices.Index(c.queue, g)
		c.queue = slices.Delete(c.queue, at, at+1)
	}
	return true
}

// takeTurn is for one who is not in the queue, and goes behind it.
func (c *combiner) takeTurn() (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > 0 {
		return 0, false
	}
	return c.freeTurn()
}

// freeTurn returns a turn, unless there are enough groups on their way.
func (c *combiner) freeTurn() (int, bool) {
	now, free, young := time.Now(), -1, 0
	for i, departed := range c.turns {
		switch {
		case departed.IsZero():
			free = i
		case now.Sub(departed) < overdue:
			young++
		}
	}
	if young >= groupsInFlight {
		return 0, false
	}
	if free < 0 {
		if free = len(c.turns); free == c.most {
			return 0, false
		}
		c.turns = append(c.turns, time.Time{})
	}
	c.turns[free] = now
	return free, true
}

// endTurn lets the next group depart.
func (c *combiner) endTurn(turn int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns[turn] = time.Time{}
	for n := len(c.turns); n > 0 && c.turns[n-1].IsZero(); n-- {
		c.turns = c.turns[:n-1]
	}
	c.dispatch()
}

// idle reports whether nothing is on its way or waits.
func (c *combiner) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.turns) == 0 && len(c.queue) == 0
}

// dispatch lets groups depart while there are turns. Otherwise it looks again
// when a group may be overdue.
func (c *combiner) dispatch() {
	for len(c.queue) > 0 {
		turn, ok := c.freeTurn()
		if !ok {
			c.watch()
			return
		}
		g := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		g.departed, g.turn = true, turn
		c.lastCmds, c.lastReads, c.lastBytes = len(g.cmds), len(g.reads), len(g.keys)
		if g.start != nil {
			close(g.start)
			continue
		}
		counted := c.calls.begin() // A closed client says so.
		go func() {
			if counted {
				defer c.calls.running.Done()
			}
			c.send(g)
		}()
	}
}

func (c *combiner) watch() {
	if c.watching {
		return
	}
	c.watching = true
	time.AfterFunc(overdue, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.watching = false
		c.dispatch()
	})
}

// send executes a group that has departed. No context of one of the callers
// counts for all of them: the socket's timeout bounds it.
func (c *combiner) send(g *group) {
	answered := false
	g.cmds = slices.DeleteFunc(g.cmds, func(s single) bool { return s.Cmder == nil })
	if reading := g.reading(); reading != nil {
		g.cmds = append(g.cmds, single{reading, g})
	}
	defer func() {
		c.endTurn(g.turn)
		for i := range g.cmds {
			if !answered { // A panic must not look like an acknowledgement.
				g.cmds[i].SetErr(errNoAnswer)
			}
		}
		close(g.done)
	}()
	c.execute(context.Background(), g.cmds)
	answered = true
	if read := g.read; read != nil && read.reply.err == nil && read.reply.seen > 0 { // Else a server that hangs.
		c.pace.came(len(read.reply.values), read.reply.values[:read.reply.seen])
	}
}

// reading makes the command that reads the group's keys.
func (g *group) reading() redis.Cmder {
	all, at := string(g.keys), 0
	keys := make([]string, 0, len(g.reads))
	for i, end := range g.reads {
		if end < 0 {
			at = ^end
			continue
		}
		g.reads[i] = len(keys)
		keys, at = append(keys, all[at:end]), end
	}
	g.readers.Add(int64(len(keys)))
	switch len(keys) {
	case 0:
		return nil
	case 1:
		g.read = newGet(context.Background(), keys[0])
	default:
		g.read = newValuesCmd(context.Background(), make([]json.RawMessage, len(keys)), command("mget", keys)...)
	}
	return g.read
}

var errNoAnswer = errors.New("the command was not answered")
