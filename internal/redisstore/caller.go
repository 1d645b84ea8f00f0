package redisstore

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
)

// The invariant of everything that is sent: a command whose caller has gone is
// never put on the wire. A write that was given up must not come later, over
// one that was acknowledged in between. What waits in a queue leaves it with
// its caller (combine.go), and what waits inside go-redis, for a
// connection or for its greeting, is asked when its bytes are made (single).
// So the only remainder is what was on the wire when its caller left.

// A caller is the context of a call that can be left behind, and lends it the
// values of its commands. They are the caller's own until the first command
// goes, which copies them.
type caller struct {
	context.Context
	values []valueArg

	mu     sync.Mutex
	gone   bool
	kept   bool    // values are copies
	copies *[]byte // of lenders; nil: none
}

// A valueArg is a value as an argument of a command: a pointer to it needs no
// allocation, as a slice would.
type valueArg []byte

func (v *valueArg) MarshalBinary() ([]byte, error) { return *v, nil }

// lenders keep the memory of large copies, which live for one call.
var lenders = sync.Pool{New: func() any { return new([]byte) }}

// lend returns a caller who lends the values of items.
func lend(ctx context.Context, items []engine.Item) *caller {
	c := &caller{Context: ctx, values: make([]valueArg, len(items))}
	for i, it := range items {
		c.values[i] = valueArg(it.Value)
	}
	return c
}

// callerOf returns the caller of a call, or nil for one who stays to its end.
func callerOf(ctx context.Context) *caller {
	if ctx.Done() == nil {
		return nil
	}
	if c, ok := ctx.(*caller); ok {
		return c
	}
	return &caller{Context: ctx}
}

// present reports whether the caller waits for an answer. Afterwards the
// commands can be sent without the caller's memory.
func (c *caller) present() bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.Err() != nil {
		return false
	}
	if !c.kept {
		c.kept = true
		c.keep()
	}
	return true
}

// keep copies the values.
func (c *caller) keep() {
	size := 0
	for _, value := range c.values {
		size += len(value)
	}
	var all []byte
	if size > sharedBytes {
		c.copies = lenders.Get().(*[]byte)
		*c.copies = slices.Grow((*c.copies)[:0], size)
		all = *c.copies
	} else {
		all = make([]byte, 0, size)
	}
	for i, value := range c.values {
		at := len(all)
		all = append(all, value...)
		c.values[i] = all[at:]
	}
}

// leave is what a caller does who returns before the call.
func (c *caller) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	if !c.kept {
		clear(c.values)
	}
}

// end is called when nothing reads the values any more, so that other calls
// may have the memory. Without it the memory is the collector's.
func (c *caller) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.copies != nil && cap(*c.copies) <= 2*perChunk.Bytes {
		clear(c.values)
		lenders.Put(c.copies)
		c.copies = nil
	}
}

// A waiter is who waits for a command.
type waiter interface {
	present() bool
}

// A single command is sent once by go-redis, whose ClusterClient repeats
// others when their reply is lost, whatever MaxRetries says. Redirections are
// still followed.
type single struct {
	redis.Cmder
	by waiter // nil: somebody, to the end
}

func (single) NoRetry() bool { return true }

// withdrawn is sent in the place of a command whose caller has gone. Every
// server refuses it, for it lacks a key, and so neither the connection nor the
// others of a pipeline suffer.
var withdrawn = []any{"get"}

// Args is what go-redis calls when it writes the command to a connection, and
// before, when it looks for a Cluster's node.
func (s single) Args() []any {
	if s.by != nil && !s.by.present() {
		return withdrawn
	}
	return s.Cmder.Args()
}
