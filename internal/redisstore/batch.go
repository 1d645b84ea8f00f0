package redisstore

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// perChunk bounds one pipeline. Larger ones are hardly faster, and the commands
// and replies of one are in memory together.
var perChunk = engine.Limits{Count: chunkCommands, Bytes: 1 << 20}

const (
	chunkCommands = 500
	scanCount     = 1000
)

// chunks cuts a list into parts for a pipeline each.
func chunks[T any](list []T, size func(T) int) iter.Seq2[int, []T] {
	return engine.ChunksBy(perChunk, list, size)
}

// inFlight is how many chunks of one call are under way at a time: the server
// works on one, the next is on its way, and the last one's replies are read.
const inFlight = 3

// sharedBytes is the size up to which an item travels with the commands of
// other callers, who have to wait for all of it.
const sharedBytes = 32 << 10

// carrying returns the client for sending items.
func (c *Client) carrying(items []engine.Item) *Client {
	if len(items) == 1 && items[0].Size() <= sharedBytes {
		return c
	}
	alone := *c
	alone.together = nil
	return &alone
}

// When a command may be sent again.
var (
	repeatable = []fate{passing, lost} // a read, or a write that may run twice
	once       = []fate{passing}       // a write whose answer depends on running first
	never      = []fate{}
)

// run sends one command and, by the rule again, repeats it. The command is
// made anew for each attempt. Its error is translated, and comes with the fate
// of the command over all attempts; redis.Nil is none, and is left in the
// command.
func run[C redis.Cmder](ctx context.Context, c *Client, again []fate, build func() C) (C, fate, error) {
	var last C
	worst := refused
	err := c.await(ctx, func(by *caller) (err error) {
		last, err = retry(ctx, c, again, func() (C, fate, error) {
			cmd := build()
			f, err := c.attempt(ctx, func() error { return c.do(ctx, single{cmd, by}) })
			worst = max(worst, f) // Once lost, it may have been executed.
			return cmd, f, err
		})
		return err
	})
	if err != nil && ctx.Err() != nil { // The call may still be running, and last its own.
		var none C
		return none, lost, err
	}
	return last, worst, err
}

// share is run for a small command, which travels together with those of other
// callers where the client can do that. A caller that gives up leaves a
// command behind that ends with its fellows.
func share[C redis.Cmder](ctx context.Context, c *Client, again []fate, build func() C) (C, fate, error) {
	if c.together == nil {
		return run(ctx, c, again, build)
	}
	worst := refused
	cmd, err := retry(ctx, c, again, func() (C, fate, error) {
		cmd := build()
		f, err := c.attempt(ctx, func() error { return c.together(ctx, cmd) })
		worst = max(worst, f)
		return cmd, f, err
	})
	return cmd, worst, err
}

// attempt sends one command, unless the circuit is open.
func (c *Client) attempt(ctx context.Context, send func() error) (fate, error) {
	turn, err := c.circuit.enter()
	if err != nil {
		return refused, err
	}
	return c.attempted(ctx, turn, send())
}

// attempted says what came of an attempt.
func (c *Client) attempted(ctx context.Context, turn pass, err error) (fate, error) {
	f, err := c.classify(ctx, notNil(err))
	if c.circuit != nil {
		c.circuit.leave(turn, judge(ctx, f, err), err)
	}
	c.refresh(ctx, f)
	return f, err
}

// notNil drops redis.Nil, which says that there is no such key. Within another
// error it is the answer of a Sentinel that does not know the master, and the
// command was not sent.
func notNil(err error) error {
	if err == redis.Nil { //nolint:errorlint // See above.
		return nil
	}
	return err
}

// A reply is what came of one command of a pipeline.
type reply[C redis.Cmder] struct {
	cmd  C
	fate fate // of the failed command, over all its attempts
	err  error
}

// pipeline sends n commands together and, by the rule again, repeats those
// that failed. The error of each is its own: of a pipeline that met a demoted
// master or a dead node, some commands were executed and some were not. The
// error that pipeline returns is that of a call that was cut short, of whose
// commands nothing is known.
func pipeline[C redis.Cmder](ctx context.Context, c *Client, again []fate, n int, build func(i int) C) ([]reply[C], error) {
	replies := make([]reply[C], n)
	if r := &replies[0]; n == 1 {
		r.cmd, r.fate, r.err = share(ctx, c, again, func() C { return build(0) })
		if r.err != nil && fault.ContextError(ctx) != nil {
			return nil, r.err
		}
		return replies, nil
	}
	todo := make([]int, n)
	for i := range todo {
		todo[i] = i
	}
	finished := make(chan struct{})
	err := c.await(ctx, func(by *caller) error {
		defer close(finished)
		_, err := retry(ctx, c, again, func() (struct{}, fate, error) {
			turn, err := c.circuit.enter()
			if err != nil {
				for _, i := range todo {
					replies[i].err = err
				}
				return struct{}{}, refused, err
			}
			pipe := c.pipe()
			cmds := make([]single, len(todo))
			for at, i := range todo {
				replies[i].cmd = build(i)
				cmds[at] = single{replies[i].cmd, by}
				_ = pipe.Process(ctx, &cmds[at]) // Only queues it.
			}
			sendAll(ctx, pipe)
			first := &replies[todo[0]]
			failed, f, v, err := settle(ctx, c, again, replies, todo)
			todo = failed
			c.circuit.leave(turn, v, first.err)
			c.refresh(ctx, f)
			return struct{}{}, f, err
		})
		return err
	})
	select {
	case <-finished:
		return replies, nil
	default:
		return nil, err
	}
}

// settle reads the errors of the commands todo, and returns those that the
// rule lets be sent again, with the fate and error of the first of them, and
// what all tell of the server: one that answers some answers.
func settle[C redis.Cmder](ctx context.Context, c *Client, again []fate, replies []reply[C], todo []int) ([]int, fate, evidence, error) {
	var failed []int
	var first error
	firstFate, v := refused, nothing
	for _, i := range todo {
		r := &replies[i]
		f, err := c.classify(ctx, notNil(r.cmd.Err()))
		v = max(v, judge(ctx, f, err))
		if r.err = err; err == nil {
			continue
		}
		r.fate = max(r.fate, f) // Once lost, it may have been executed.
		if slices.Contains(again, f) {
			if len(failed) == 0 {
				firstFate, first = f, err
			}
			failed = append(failed, i)
		}
	}
	return failed, firstFate, v, first
}

// A batch collects what became of the items of a write. It is safe for
// concurrent use, and remembers nothing of what went well.
type batch struct {
	items engine.Items

	mu         sync.Mutex
	err        error // the first
	notApplied []string
	unknown    []string
}

// note says what became of some items.
func (b *batch) note(part []engine.Item, f fate, err error) {
	if err == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	list := &b.notApplied
	if f >= lost {
		list = &b.unknown
	}
	for _, it := range part {
		*list = append(*list, it.ID)
	}
}

// failed returns the first error. The server is then in no state to take the
// rest, which is noted with the same error.
func (b *batch) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// result is nil, or the error of the batch, with a list of ids if it has more
// than one item.
func (b *batch) result() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		return nil
	}
	others := make(map[string]struct{}, len(b.notApplied)+len(b.unknown))
	for _, list := range [][]string{b.notApplied, b.unknown} {
		for _, id := range list {
			others[id] = struct{}{}
		}
	}
	e := &fault.Partial{Err: b.err, NotApplied: b.notApplied, Unknown: b.unknown}
	for it := range b.items.All() {
		if b.items.Len() == 1 {
			return fault.WithID(it.ID, b.err)
		}
		if _, ok := others[it.ID]; !ok {
			e.Applied = append(e.Applied, it.ID)
		}
	}
	return e
}

// lost reports whether it is unknown of some item whether it was stored.
func (b *batch) lost() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.unknown) > 0
}
