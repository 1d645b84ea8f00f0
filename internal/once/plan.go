package once

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/lease"
)

// A Result is what a flight brings its callers.
type Result struct {
	Value json.RawMessage // nil: there is none; it may stand beside an error
	Err   error
	Ours  bool // the error is the library's and not Fn's
	crash *crash

	// step is that of the look at the store that the result comes from. A
	// caller who came after it began may have seen a later state, such as the
	// removal of the value, and must not be given an older one.
	step int
}

// A Plan is how to compute. That of the caller who started a flight counts.
type Plan struct {
	// Fn returns an element for each id.
	Fn       func(ctx context.Context, ids []string) []Computed
	Life     time.Duration // of a lease
	Limit    time.Duration // of Fn
	TTL      time.Duration // of documents
	None     time.Duration // of the knowledge that there is no such document
	Tries    int           // failures of others in a row that a flight waits for
	Unshared bool          // compute without a lease if the backend is away
	Away     bool          // it is known to be
}

// Computed is what Fn gave for one id.
type Computed struct {
	Value  json.RawMessage
	Keep   bool // the value is to be stored
	Err    error
	Absent bool // there is no such document
	Ours   bool // the error is the library's and not Fn's
}

// A crash is a panic of fn, carried to the goroutine of the caller who gave it.
type crash struct {
	value any
	stack []byte
	seen  bool // by somebody; guarded by Flights.mu
}

func (c *crash) Error() string { return fmt.Sprintf("%v\n\n%s", c.value, c.stack) }

func (c *crash) Unwrap() error {
	err, _ := c.value.(error)
	return err
}

// errCrashed is for the others who waited for it.
var errCrashed = errors.New("the function that computes the value panicked")

// outcomeOf makes a result of what fn gave and what became of it.
func outcomeOf(a Computed, s lease.Settled, p Plan) Result {
	switch {
	case a.Absent && a.Err == nil:
		return Result{Err: fault.ErrNotFound, Ours: true}
	case a.Err != nil:
		return Result{Value: a.Value, Err: a.Err, Ours: a.Ours}
	case !a.Keep:
		return Result{Value: a.Value}
	case s.Err != nil && p.Unshared && lease.IsAway(s.Err):
		return Result{Value: a.Value}
	case s.Err != nil:
		return Result{Value: a.Value, Err: s.Err, Ours: true}
	case s.Value != nil: // Another came first; all shall have the same.
		return Result{Value: s.Value}
	}
	return Result{Value: a.Value}
}

// call runs fn, and turns a panic into a value.
func call(ctx context.Context, p Plan, ids []string, done func([]Computed, *crash)) {
	var answers []Computed
	c := &crash{value: "runtime.Goexit"} // Of which there is no other way to hear.
	defer func() {
		if c != nil {
			if value := recover(); value != nil {
				c.value = value
			}
			c.stack = debug.Stack()
		}
		done(answers, c)
	}()
	answers = p.Fn(ctx, ids)
	c = nil
}

// Figures count what flights do, see ComputeStats.
type Figures struct {
	Hits, Misses, Waits, Computes, LeaseLosses int64
	TimeSaved                                  time.Duration
}

// Figures returns what was counted so far.
func (g *Flights) Figures() Figures {
	s := Figures{
		Hits:        g.hits.Load(),
		Misses:      g.misses.Load(),
		Waits:       g.waits.Load(),
		Computes:    g.computes.Load(),
		LeaseLosses: g.losses.Load(),
	}
	if s.Computes > 0 {
		s.TimeSaved = time.Duration(float64(g.spent.Load()) / float64(s.Computes) * float64(s.Hits+s.Waits))
	}
	return s
}
