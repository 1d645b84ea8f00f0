package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// A result is what a flight brings its callers.
type result struct {
	value json.RawMessage // nil: there is none; it may stand beside an error
	err   error
	ours  bool // the error is the library's and not fn's
	crash *crash

	// step is that of the look at the store that the result comes from. A
	// caller who came after it began may have seen a later state, such as the
	// removal of the value, and must not be given an older one.
	step int
}

// A plan is how to compute. That of the caller who started a flight counts.
type plan struct {
	// fn returns an element for each id.
	fn       func(ctx context.Context, ids []string) []computed
	life     time.Duration // of a lease
	limit    time.Duration // of fn
	ttl      time.Duration // of documents
	none     time.Duration // of the knowledge that there is no such document
	unshared bool          // compute without a lease if the backend is away
	away     bool          // it is known to be
}

// computed is what fn gave for one id.
type computed struct {
	value  json.RawMessage
	keep   bool // the value is to be stored
	err    error
	absent bool // there is no such document
	ours   bool // the error is the library's and not fn's
}

// A crash is a panic of fn, carried to the goroutine of the caller who gave it.
type crash struct {
	value any
	stack []byte
}

func (c *crash) Error() string { return fmt.Sprintf("%v\n\n%s", c.value, c.stack) }

func (c *crash) Unwrap() error {
	err, _ := c.value.(error)
	return err
}

// errCrashed is for the others who waited for it.
var errCrashed = errors.New("the function that computes the value panicked")

// outcomeOf makes a result of what fn gave and what became of it.
func outcomeOf(a computed, s settled, p plan) result {
	switch {
	case a.absent && a.err == nil:
		return result{err: ErrNotFound, ours: true}
	case a.err != nil:
		return result{value: a.value, err: a.err, ours: a.ours}
	case !a.keep:
		return result{value: a.value}
	case s.err != nil && p.unshared && isAway(s.err):
		return result{value: a.value}
	case s.err != nil:
		return result{value: a.value, err: s.err, ours: true}
	case s.value != nil: // Another came first; all shall have the same.
		return result{value: s.value}
	}
	return result{value: a.value}
}

// call runs fn, and turns a panic into a value.
func call(ctx context.Context, p plan, ids []string) (answers []computed, c *crash) {
	returned := false
	defer func() {
		if returned {
			return
		}
		c = &crash{value: recover(), stack: debug.Stack()} // nil of a Goexit.
	}()
	answers = p.fn(ctx, ids)
	returned = true
	return answers, nil
}

// flightFigures count what flights do, see ComputeStats.
type flightFigures struct {
	Hits, Misses, Waits, Computes, LeaseLosses int64
	TimeSaved                                  time.Duration
}

func (g *flights) figures() flightFigures {
	s := flightFigures{
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
