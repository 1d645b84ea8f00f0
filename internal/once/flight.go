// Package once computes what is not stored, one time for all who ask: callers
// of a process share a flight, and processes a lease.
package once

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/lease"
)

// closeWait is how long Close waits for functions to return whose context it
// has cancelled. One may be waiting for Close itself.
const closeWait = 2 * time.Second

// Flights are the computations of a process on one namespace. All callers who
// ask for the same id share one flight, which claims the lease and computes,
// or waits for another process that does. A flight runs apart from its
// callers: one who gives up leaves the others alone.
type Flights struct {
	leases lease.Leases
	engine engine.Engine // nil: nothing is refreshed
	logger *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	over   chan struct{} // closed when Close waits for no function any more

	mu      sync.Mutex
	closed  bool
	inAir   map[string]*flight
	due     map[string]time.Time // when to look whether a document wants refreshing
	running sync.WaitGroup

	hits, misses, waits, computes, losses atomic.Int64
	spent                                 atomic.Int64 // nanoseconds in functions
}

// New returns flights that agree with those of other processes by leases, which
// Close closes. The engine is that of the documents; nil if it is not known.
func New(l lease.Leases, e engine.Engine, logger *slog.Logger) *Flights {
	g := &Flights{
		leases: l, engine: e, logger: logger, over: make(chan struct{}),
		inAir: make(map[string]*flight), due: make(map[string]time.Time),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// Close cancels the contexts of the computations under way and waits for them.
// It waits closeWait for functions; what one returns later is not stored.
func (g *Flights) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	patience := time.AfterFunc(closeWait, func() { close(g.over) })
	g.running.Wait()
	patience.Stop()
	g.leases.Close()
}

// A flight is one id on its way to an answer.
type flight struct {
	lease.Lease
	done    chan struct{}
	result  Result      // when done is closed
	leading atomic.Bool // its function runs here
	beside  bool        // without a lease, since others have failed
	until   time.Time   // when to claim the lease again that another holds

	// Guarded by Flights.mu.
	callers    int  // who still want it
	owned      bool // the one who gave the function is among them
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
			f = g.start(id, nil)
			f.owned = true
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

func (g *Flights) start(id string, seen json.RawMessage) *flight {
	f := &flight{Lease: lease.Lease{ID: id, Token: rand.Text(), Seen: seen}, done: make(chan struct{})}
	f.background = seen != nil
	g.inAir[id] = f
	return f
}

// look is called before flights look at the store. What was to be refreshed
// and has callers by now was absent for them, and is computed for them.
func (g *Flights) look(list []*flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range list {
		f.step++
		if f.callers > 0 {
			f.Seen = nil
		}
	}
}

// leave is for a caller who wants no more of a flight, and knows of the crash
// that it was told.
func (g *Flights) leave(t ticket, told *crash) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.callers--
	if !t.mine {
		return
	}
	t.owned = false
	if told != nil {
		told.seen = true
	}
	g.report(t.result.crash)
}

// land ends a flight. Who asks for its id from now on starts another.
func (g *Flights) land(f *flight, r Result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.inAir, f.ID)
	r.step = f.step
	f.result = r
	close(f.done)
	if !f.owned {
		g.report(r.crash)
	}
}

// report logs a crash that nobody has seen. What was said may be a secret.
func (g *Flights) report(c *crash) {
	if c != nil && !c.seen {
		c.seen = true
		g.logger.Error("kv: a function given to Compute panicked when its caller had gone", "value", fmt.Sprintf("%T", c.value), "stack", string(c.stack))
	}
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
			g.leave(t, nil)
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
		g.leave(t, r.crash)
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
// stops no caller whose own function is running.
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
