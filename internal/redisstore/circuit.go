package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"

	"github.com/ngraf/kv/internal/fault"
)

// A circuit keeps callers from waiting for a server that does not answer.
// After some failures in a row it is open: calls fail at once. When the
// cooldown has passed, one call at a time is let through as a trial; the first
// that is answered closes it. A nil circuit is always closed.
//
// Attempts that fail together count once, as one broken connection may carry
// those of many callers: a failure counts if its attempt began after the last
// one that was counted.
type circuit struct {
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]
	cooldown time.Duration
	logger   *slog.Logger

	counted atomic.Int64          // failures
	cause   atomic.Pointer[error] // the last failure
	opened  atomic.Pointer[circuitError]
	state   atomic.Int32
	logged  atomic.Int32 // the last state that was
}

// errNotCounted stands for an attempt that says nothing of the server.
var errNotCounted = errors.New("not counted")

// newCircuit returns nil if failures is 0.
func newCircuit(failures int, cooldown time.Duration, logger *slog.Logger) *circuit {
	if failures == 0 {
		return nil
	}
	c := &circuit{cooldown: cooldown, logger: logger}
	c.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       cooldown,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return int64(n.ConsecutiveFailures) >= int64(failures) },
		IsExcluded:    func(err error) bool { return errors.Is(err, errNotCounted) },
		OnStateChange: func(_ string, _, to gobreaker.State) { c.change(to) },
	})
	return c
}

// change is called while the breaker is locked.
func (c *circuit) change(to gobreaker.State) {
	if to == gobreaker.StateOpen {
		c.opened.Store(&circuitError{until: time.Now().Add(c.cooldown), cause: *c.cause.Load()})
	}
	c.state.Store(int32(to))
}

// A pass lets one attempt through.
type pass struct {
	done func(error)
	seen int64 // failures that had been counted
}

// enter returns a pass, which has to be given back with leave, or the error
// that says that the circuit is open.
func (c *circuit) enter() (pass, error) {
	if c == nil {
		return pass{}, nil
	}
	seen := c.counted.Load()
	done, err := c.breaker.Allow()
	if err != nil {
		return pass{}, c.refusal()
	}
	return pass{done, seen}, nil
}

// leave says what an attempt has told of the server.
func (c *circuit) leave(p pass, v evidence, err error) {
	if c == nil {
		return
	}
	outcome := errNotCounted
	switch {
	case v == answered:
		outcome = nil
	case v == failing && c.counted.CompareAndSwap(p.seen, p.seen+1):
		outcome = err
		c.cause.Store(&err)
	}
	p.done(outcome)
	c.log()
}

// log tells of each outage once.
func (c *circuit) log() {
	now := c.state.Load()
	if now == int32(gobreaker.StateHalfOpen) || now == c.logged.Load() || now == c.logged.Swap(now) {
		return
	}
	if now == int32(gobreaker.StateOpen) {
		c.logger.Warn("kv: the circuit to Redis is open", "cooldown", c.cooldown, "error", *c.cause.Load())
		return
	}
	c.logger.Info("kv: the circuit to Redis is closed again")
}

// open reports whether calls fail at once.
func (c *circuit) open() bool { return c != nil && c.breaker.State() == gobreaker.StateOpen }

func (c *circuit) String() string {
	if c == nil {
		return ""
	}
	return c.breaker.State().String()
}

// refusal is the error of a call that was not sent.
func (c *circuit) refusal() error {
	e := *c.opened.Load()
	e.wait = time.Until(e.until)
	return &e
}

// A circuitError is a call that was not sent because of an earlier one's
// failure, whose cause it has.
type circuitError struct {
	until time.Time
	wait  time.Duration
	cause error
}

func (e *circuitError) Error() string {
	next := "a trial is under way"
	if e.wait > 0 {
		next = "the next trial is in " + e.wait.Round(time.Millisecond).String()
	}
	return fmt.Sprintf("the circuit is open, %s; it opened after: %v", next, e.cause)
}

func (e *circuitError) Unwrap() error { return e.cause }

// evidence is what an attempt tells of the server.
type evidence int

const (
	nothing  evidence = iota // the caller gave up, or no connection was free
	failing                  // it does not answer, or cannot serve now
	answered                 // be it with a refusal
)

// judge reads evidence off what classify returned.
func judge(ctx context.Context, f fate, err error) evidence {
	reply := redis.Error(nil)
	switch {
	case err == nil, f == alone:
		return answered
	case fault.ContextError(ctx) != nil:
		return nothing
	case f != refused:
		return failing
	case errors.As(err, &reply):
		return answered
	}
	return nothing
}
