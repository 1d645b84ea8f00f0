// Package once computes what is not stored, one time for all who ask: callers
// of a process share a flight, and processes a lease.
package once

import (
	"context"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/lease"
)

// pollFirst is the first pause of a flight that waits for a lease. They grow
// up to lease.PollMost, and end earlier when it is notified or the lease ends.
const pollFirst = 10 * time.Millisecond

// Flights are the computations of a process on one namespace. All callers who
// ask for the same id share one flight, which claims the lease and computes,
// or waits for another process that does. A flight runs apart from its
// callers: one who gives up leaves the others alone.
type Flights struct {
	Leases lease.Leases
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	inAir   map[string]*flight
	due     map[string]time.Time // when to look whether a document wants refreshing
	running sync.WaitGroup

	hits, misses, waits, computes, losses atomic.Int64
	spent                                 atomic.Int64 // nanoseconds in fn
}

// New returns flights that agree with those of other processes by leases, which
// Close closes.
func New(l lease.Leases) *Flights {
	g := &Flights{Leases: l, inAir: make(map[string]*flight), due: make(map[string]time.Time)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// Close cancels the contexts of the computations under way and waits for them.
func (g *Flights) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.running.Wait()
	g.Leases.Close()
}

// A flight is one id on its way to an answer.
type flight struct {
	lease.Lease
	done    chan struct{}
	result  Result // when done is closed
	leading atomic.Bool

	// Guarded by Flights.mu.
	callers    int  // who still want it
	background bool // it goes on without callers
	step       int  // counts the looks at the store, see Result.step
}

// A ticket is a caller's part in a flight.
type ticket struct {
	*flight
	mine bool // the caller started it
	step int  // of the flight when the caller came
}

// board makes the caller wait for a flight of each id, and starts those that
// there are not yet.
func (g *Flights) board(ctx context.Context, ids []string, p Plan) ([]ticket, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fault.ErrClosed
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
func (g *Flights) look(list []*flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range list {
		f.step++
	}
}

func (g *Flights) start(id string) *flight {
	f := &flight{Lease: lease.Lease{ID: id, Token: rand.Text()}, done: make(chan struct{})}
	g.inAir[id] = f
	return f
}

// leave is for a caller who gives up.
func (g *Flights) leave(f *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.callers--
}

// land ends a flight. Who asks for its id from now on starts another.
func (g *Flights) land(f *flight, r Result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.inAir, f.ID)
	r.step = f.step
	f.result = r
	close(f.done)
}

// wanted ends the flights that nobody waits for, and returns the others.
func (g *Flights) wanted(list []*flight) []*flight {
	g.mu.Lock()
	defer g.mu.Unlock()
	var left []*flight
	for _, f := range list {
		if f.callers > 0 || f.background {
			left = append(left, f)
			continue
		}
		delete(g.inAir, f.ID)
		f.result = Result{Err: context.Canceled, Ours: true}
		close(f.done)
	}
	return left
}

// fly brings all of todo to an answer. Those whose lease it gets are computed
// by one call of fn, while it waits for the rest.
func (g *Flights) fly(ctx context.Context, todo []*flight, p Plan) {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(g.ctx, cancel)()
	defer cancel()
	var computing sync.WaitGroup
	defer computing.Wait()
	var changed <-chan struct{}
	stop := func() {}
	defer func() { stop() }()
	answered := time.Time{}
	for pause := pollFirst; ; pause = min(2*pause, lease.PollMost) {
		if todo = g.wanted(todo); len(todo) == 0 {
			return
		}
		won, rest, left, err := g.claim(ctx, todo, p)
		if err == nil {
			answered = time.Now()
		}
		if lease.IsAway(err) && !p.Unshared && time.Since(answered) < p.Life && ctx.Err() == nil {
			_ = engine.Pause(ctx, lease.PollMost/2+mrand.N(lease.PollMost/2))
			continue // It is still believed that somebody computes.
		}
		if err != nil {
			if p.Unshared && lease.IsAway(err) {
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
			changed, stop = g.Leases.Watch(idsOf(todo))
		}
		_ = engine.Wait(ctx, min(pause/2+mrand.N(pause/2), max(left, 0)+time.Millisecond), changed)
	}
}

func idsOf(list []*flight) []string {
	ids := make([]string, len(list))
	for i, f := range list {
		ids[i] = f.ID
	}
	return ids
}

func leasesOf(list []*flight) []lease.Lease {
	asked := make([]lease.Lease, len(list))
	for i, f := range list {
		asked[i] = f.Lease
	}
	return asked
}

// claim asks for the leases. It lands those whose answer is there, and returns
// the flights that got theirs, those that have to wait, and for how long the
// first of the leases that they wait for is held.
func (g *Flights) claim(ctx context.Context, todo []*flight, p Plan) (won, rest []*flight, left time.Duration, err error) {
	if p.Away {
		g.look(todo)
		return nil, nil, 0, fault.ErrUnavailable
	}
	g.look(todo)
	claims, err := g.Leases.Claim(ctx, leasesOf(todo), p.Life)
	left = lease.PollMost
	for i, c := range claims {
		f := todo[i]
		switch {
		case c.State == lease.Granted:
			won = append(won, f)
		case c.State == lease.Busy || c.State == lease.There && c.Value == nil && c.Err == nil:
			g.downgrade(f)
			rest = append(rest, f)
			left = min(left, c.Left)
		case err != nil: // Those that have an answer fail with the others.
		case c.State == lease.Barren:
			g.land(f, Result{Err: fault.ErrNotFound, Ours: true})
		default:
			g.land(f, Result{Value: c.Value, Err: c.Err, Ours: true})
		}
	}
	if err != nil && len(won) > 0 {
		g.release(ctx, won)
	}
	return won, rest, left, err
}

// downgrade makes a flight that was to refresh a document one of those that
// wait, if there are callers who joined it.
func (g *Flights) downgrade(f *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.background = false
	f.Seen = ""
}

func (g *Flights) release(ctx context.Context, list []*flight) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	answers := make([]lease.Answer, len(list))
	for i, f := range list {
		answers[i].Lease = f.Lease
	}
	g.Leases.Settle(ctx, answers)
}

// fail ends flights for a reason that is not fn's.
func (g *Flights) fail(list []*flight, err error) {
	if g.ctx.Err() != nil {
		err = fault.ErrClosed
	}
	for _, f := range list {
		g.land(f, Result{Err: err, Ours: true})
	}
}

// Answers waits for the answers of all ids, each until ctx is done, or the
// time most, if it is not 0, has passed while others compute. It leaves nil
// where the store has to be asked again.
func (g *Flights) Answers(ctx context.Context, ids []string, p Plan, most time.Duration) []*Result {
	if len(ids) == 0 {
		return nil
	}
	results := make([]*Result, len(ids))
	tickets, err := g.board(ctx, ids, p)
	g.misses.Add(int64(len(ids))) // Who is counted is aboard.
	if err != nil {
		for i := range results {
			results[i] = &Result{Err: err, Ours: true}
		}
		return results
	}
	left := 0 // flights that we have left
	defer func() {
		for _, t := range tickets[left:] {
			g.leave(t.flight)
		}
	}()
	var late <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		late = timer.C
	}
	passed := false
	for i, t := range tickets {
		r := t.await(ctx, late, &passed)
		g.leave(t.flight)
		left++
		switch leader := t.mine && t.leading.Load(); {
		case r.crash != nil && leader:
			panic(r.crash)
		case r.step <= t.step && r.step > 0:
			g.misses.Add(-1)
			continue
		case r.Value != nil && !leader:
			g.waits.Add(1)
		}
		results[i] = &r
	}
	return results
}

// await waits for the flight to land. passed remembers that late has fired; it
// stops no caller whose own fn is running.
func (t ticket) await(ctx context.Context, late <-chan time.Time, passed *bool) Result {
	for {
		if *passed && (!t.mine || !t.leading.Load()) {
			select {
			case <-t.done:
				return t.result
			default:
				return Result{Err: fmt.Errorf("%w: another computes the value, and ComputeOptions.Wait has passed", fault.ErrUnavailable), Ours: true}
			}
		}
		select {
		case <-t.done:
			return t.result
		case <-late:
			*passed = true
			late = nil
			continue
		case <-ctx.Done():
		}
		select {
		case <-t.done: // It came in the same moment.
			return t.result
		default:
			return Result{Err: ctx.Err(), Ours: true}
		}
	}
}
