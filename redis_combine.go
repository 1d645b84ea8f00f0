package kv

import (
	"context"
	"encoding/json"
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

	mu        sync.Mutex
	next      *group // the one that can be joined, or nil
	lastCmds  int    // how large the last one was
	lastReads int
	lastBytes int
}

// A group is one pipeline in the making. Its reads become one command: to read
// keys with MGET takes a server and a client half the time of a GET for each.
type group struct {
	callers int
	cmds    []single
	keys    []byte           // to read, one behind the other
	ends    []int            // of each
	one     *redis.StringCmd // what reads the keys, once departed
	many    *valuesCmd
	done    chan struct{} // nil if nobody waits for the sender
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
		sendAll(ctx, pipe)
	}
}

// do executes a command, whose error it returns, or leaves it behind when ctx
// is done: it ends with its group.
func (c *combiner) do(ctx context.Context, cmd redis.Cmder) error {
	if !c.alone(ctx, func() redis.Cmder { return cmd }) {
		seat := c.join(ctx, func(g *group) { g.cmds = append(g.cmds, single{cmd}) })
		if err := c.ride(ctx, seat); err != nil {
			return err
		}
	}
	return cmd.Err()
}

// alone makes and executes a command by itself, in the caller's own goroutine,
// unless enough groups are on their way. It reports whether it did.
func (c *combiner) alone(ctx context.Context, build func() redis.Cmder) bool {
	leaves := ctx.Done() != nil
	if leaves && c.lane == nil {
		return false
	}
	select {
	case c.turn <- struct{}{}:
	default:
		return false
	}
	defer func() { <-c.turn }()
	if leaves {
		return c.lane.process(ctx, build)
	}
	c.execute(ctx, []single{{build()}})
	return true
}

// A readResult is what became of a read.
type readResult struct {
	value json.RawMessage // nil: none
	sure  bool            // else the key has to be asked for by itself
}

// read returns what is stored under a key, or leaves the read behind when ctx
// is done. It is not sure of what MGET has no value for: the key may not be
// there, or be of another type, or the user may not use MGET.
func (c *combiner) read(ctx context.Context, prefix, id string) (readResult, error) {
	var get *redis.StringCmd
	if c.alone(ctx, func() redis.Cmder {
		get = redis.NewStringCmd(ctx, "get", prefix+id)
		return get
	}) {
		return readOne(get)
	}
	at := 0
	seat := c.join(ctx, func(g *group) {
		at = len(g.ends)
		g.keys = append(append(g.keys, prefix...), id...)
		g.ends = append(g.ends, len(g.keys))
	})
	if err := c.ride(ctx, seat); err != nil {
		return readResult{}, err
	}
	if one := seat.group.one; one != nil {
		return readOne(one)
	}
	many := seat.group.many
	if err := many.Err(); err != nil && many.reply.err == nil {
		return readResult{}, err
	}
	value := many.reply.values[at]
	return readResult{value, value != nil}, nil
}

// readOne returns what a GET was answered with. An empty string is a value,
// though no JSON.
func readOne(get *redis.StringCmd) (readResult, error) {
	value, err := get.Bytes()
	if err == nil && value == nil {
		value = []byte{}
	}
	return readResult{value, true}, notNil(err)
}

// A seat is a caller's place in a group.
type seat struct {
	group *group
	sends bool // the caller sends the group
}

// join lets add put something into the next group. The first who comes is the
// one that sends it.
func (c *combiner) join(ctx context.Context, add func(g *group)) seat {
	c.mu.Lock()
	defer c.mu.Unlock()
	sends := c.next == nil
	if sends {
		c.next = c.newGroup()
	}
	g := c.next
	add(g)
	g.callers++
	if g.done == nil && (!sends || ctx.Done() != nil) {
		g.done = make(chan struct{})
	}
	if g.callers == chunkCommands {
		c.next = nil
	}
	return seat{g, sends}
}

// newGroup makes one that has room for what the last one had.
func (c *combiner) newGroup() *group {
	g := new(group)
	if c.lastCmds > 0 {
		g.cmds = make([]single, 0, c.lastCmds)
	}
	if c.lastReads > 0 {
		g.keys, g.ends = make([]byte, 0, c.lastBytes), make([]int, 0, c.lastReads)
	}
	return g
}

// ride returns when the group is back, or ctx is done.
func (c *combiner) ride(ctx context.Context, s seat) error {
	if s.sends && c.dispatch(ctx, s.group) {
		return nil
	}
	if ctx.Done() == nil {
		<-s.group.done
		return nil
	}
	select {
	case <-s.group.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// depart lets nobody else join.
func (c *combiner) depart(g *group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == g {
		c.next = nil
	}
	if len(g.ends) > 0 {
		g.cmds = append(g.cmds, single{g.reading()})
	}
	c.lastCmds, c.lastReads, c.lastBytes = len(g.cmds), len(g.ends), len(g.keys)
}

// reading makes the command that reads the group's keys.
func (g *group) reading() redis.Cmder {
	all, at := string(g.keys), 0
	if len(g.ends) == 1 {
		g.one = redis.NewStringCmd(context.Background(), "get", all)
		return g.one
	}
	keys := make([]string, len(g.ends))
	for i, end := range g.ends {
		keys[i], at = all[at:end], end
	}
	g.many = newValuesCmd(context.Background(), make([]json.RawMessage, len(keys)), command("mget", keys)...)
	return g.many
}

// dispatch sends a group, and reports whether it is back. A sender who may
// leave has it sent by a goroutine of its own, and is back at once.
func (c *combiner) dispatch(ctx context.Context, g *group) bool {
	if ctx.Done() == nil || !c.calls.begin() { // A closed client says so.
		c.send(g)
		return true
	}
	go func() {
		defer c.calls.running.Done()
		c.send(g)
	}()
	return false
}

// send executes a group when it has its turn. No context of one of the callers
// counts for all of them: the socket's timeout bounds it.
func (c *combiner) send(g *group) {
	c.turn <- struct{}{}
	c.depart(g)
	answered := false
	defer func() {
		<-c.turn
		for i := range g.cmds {
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
// but not that a context was cancelled while it waits for a reply. To wait for
// another goroutine would take almost as long again as the round trip.
type lane struct {
	open  func() *redis.Client // of one connection
	calls *calls

	busy   sync.Mutex
	client atomic.Pointer[redis.Client] // nil: not opened
}

// process makes and executes a command, or reports that the lane is not to be
// had.
func (l *lane) process(ctx context.Context, build func() redis.Cmder) bool {
	if !l.busy.TryLock() {
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
	err := client.Process(ctx, build())
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
