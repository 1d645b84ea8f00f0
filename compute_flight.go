package kv

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// A waiting computation looks again after pauses that grow between these, and
// earlier when it is notified or the lease that it waits for ends.
const (
	pollFirst = 10 * time.Millisecond
	pollMost  = 250 * time.Millisecond
)

// flights are the computations of a process on one namespace. All callers who
// ask for the same id share one flight, which claims the lease and computes,
// or waits for another process that does. A flight runs apart from its
// callers: one who gives up leaves the others alone.
type flights struct {
	leases leases
	ctx    context.Context // ends with close
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	stores  int // that use it, see Factory.flightsOf
	inAir   map[string]*flight
	due     map[string]time.Time // when to look whether a document wants refreshing
	running sync.WaitGroup

	hits, misses, waits, computes, losses atomic.Int64
	spent                                 atomic.Int64 // nanoseconds in fn
}

func newFlights(l leases) *flights {
	g := &flights{leases: l, inAir: make(map[string]*flight), due: make(map[string]time.Time)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// close cancels the contexts of the computations under way and waits for them.
func (g *flights) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.running.Wait()
	g.leases.close()
}

// A flight is one id on its way to an answer.
type flight struct {
	lease
	done    chan struct{}
	result  result // when done is closed
	leading atomic.Bool

	// Guarded by flights.mu.
	callers    int  // who still want it
	background bool // it goes on without callers
	step       int  // counts the looks at the store, see result.step
}

// A ticket is a caller's part in a flight.
type ticket struct {
	*flight
	mine bool // the caller started it
	step int  // of the flight when the caller came
}

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

// board makes the caller wait for a flight of each id, and starts those that
// there are not yet.
func (g *flights) board(ctx context.Context, ids []string, p plan) ([]ticket, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, ErrClosed
	}
	tickets := make([]ticket, len(ids))
	var started []*flight
	for i, id := range ids {
		f := g.inAir[id]
		if f == nil {
			f = g.start(id)
			started = append(started, f)
			tickets[i].mine = true
		}
		f.callers++
		tickets[i].flight, tickets[i].step = f, f.step
	}
	if len(started) > 0 {
		ctx = context.WithoutCancel(ctx)
		g.running.Go(func() { g.fly(ctx, started, p) })
	}
	return tickets, nil
}

// look is called before flights look at the store.
func (g *flights) look(list []*flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range list {
		f.step++
	}
}

func (g *flights) start(id string) *flight {
	f := &flight{lease: lease{id: id, token: rand.Text()}, done: make(chan struct{})}
	g.inAir[id] = f
	return f
}

// leave is for a caller who gives up.
func (g *flights) leave(f *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.callers--
}

// land ends a flight. Who asks for its id from now on starts another.
func (g *flights) land(f *flight, r result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.inAir, f.id)
	r.step = f.step
	f.result = r
	close(f.done)
}

// wanted ends the flights that nobody waits for, and returns the others.
func (g *flights) wanted(list []*flight) []*flight {
	g.mu.Lock()
	defer g.mu.Unlock()
	var left []*flight
	for _, f := range list {
		if f.callers > 0 || f.background {
			left = append(left, f)
			continue
		}
		delete(g.inAir, f.id)
		f.result = result{err: context.Canceled, ours: true}
		close(f.done)
	}
	return left
}

// fly brings all of todo to an answer. Those whose lease it gets are computed
// by one call of fn, while it waits for the rest.
func (g *flights) fly(ctx context.Context, todo []*flight, p plan) {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(g.ctx, cancel)()
	defer cancel()
	var computing sync.WaitGroup
	defer computing.Wait()
	var changed <-chan struct{}
	stop := func() {}
	defer func() { stop() }()
	answered := time.Time{}
	for pause := pollFirst; ; pause = min(2*pause, pollMost) {
		if todo = g.wanted(todo); len(todo) == 0 {
			return
		}
		won, rest, left, err := g.claim(ctx, todo, p)
		if err == nil {
			answered = time.Now()
		}
		if isAway(err) && !p.unshared && time.Since(answered) < p.life && ctx.Err() == nil {
			wait(ctx, nil, pollMost/2+mrand.N(pollMost/2), pollMost)
			continue // It is still believed that somebody computes.
		}
		if err != nil {
			if p.unshared && isAway(err) {
				g.compute(ctx, todo, p, false)
				return
			}
			g.fail(todo, err)
			return
		}
		if len(won) > 0 {
			computing.Go(func() { g.compute(ctx, won, p, true) })
		}
		if todo = rest; len(todo) == 0 {
			return
		}
		if changed == nil {
			changed, stop = g.leases.watch(idsOf(todo))
		}
		wait(ctx, changed, pause/2+mrand.N(pause/2), left)
	}
}

// wait returns after the pause, or with a notification, or when a lease that
// is left so long ends.
func wait(ctx context.Context, changed <-chan struct{}, pause, left time.Duration) {
	timer := time.NewTimer(min(pause, max(left, 0)+time.Millisecond))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer.C:
	}
}

func idsOf(list []*flight) []string {
	ids := make([]string, len(list))
	for i, f := range list {
		ids[i] = f.id
	}
	return ids
}

func leasesOf(list []*flight) []lease {
	asked := make([]lease, len(list))
	for i, f := range list {
		asked[i] = f.lease
	}
	return asked
}

// claim asks for the leases. It lands those whose answer is there, and returns
// the flights that got theirs, those that have to wait, and for how long the
// first of the leases that they wait for is held.
func (g *flights) claim(ctx context.Context, todo []*flight, p plan) (won, rest []*flight, left time.Duration, err error) {
	if p.away {
		g.look(todo)
		return nil, nil, 0, ErrUnavailable
	}
	g.look(todo)
	claims, err := g.leases.claim(ctx, leasesOf(todo), p.life)
	left = pollMost
	for i, c := range claims {
		f := todo[i]
		switch {
		case c.state == granted:
			won = append(won, f)
		case c.state == busy || c.state == there && c.value == nil && c.err == nil:
			g.downgrade(f)
			rest = append(rest, f)
			left = min(left, c.left)
		case err != nil: // Those that have an answer fail with the others.
		case c.state == barren:
			g.land(f, result{err: ErrNotFound, ours: true})
		default:
			g.land(f, result{value: c.value, err: c.err, ours: true})
		}
	}
	if err != nil && len(won) > 0 {
		g.release(ctx, won)
	}
	return won, rest, left, err
}

// downgrade makes a flight that was to refresh a document one of those that
// wait, if there are callers who joined it.
func (g *flights) downgrade(f *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.background = false
	f.seen = ""
}

func (g *flights) release(ctx context.Context, list []*flight) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	answers := make([]answer, len(list))
	for i, f := range list {
		answers[i].lease = f.lease
	}
	g.leases.settle(ctx, answers)
}

// fail ends flights for a reason that is not fn's.
func (g *flights) fail(list []*flight, err error) {
	if g.ctx.Err() != nil {
		err = ErrClosed
	}
	for _, f := range list {
		g.land(f, result{err: err, ours: true})
	}
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
