package once

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/lease"
)

// Pauses between two looks at what others compute. They grow from the first up
// to lease.PollMost, and are long while notifications come.
const (
	pollFirst  = 10 * time.Millisecond
	pollSteady = 2 * time.Second
)

// fly brings all of todo to an answer. Those whose lease it gets are computed
// by one call of the function, while it waits for the rest.
func (g *Flights) fly(ctx context.Context, todo []*flight, p Plan) {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(g.ctx, cancel)()
	defer cancel()
	var computing sync.WaitGroup
	defer computing.Wait()
	r := round{Flights: g, plan: p, pause: pollFirst}
	defer r.end()
	for len(todo) > 0 {
		won, shared := r.claim(ctx, g.wanted(todo))
		if len(won) > 0 {
			computing.Go(func() { g.compute(ctx, won, p, shared) })
		}
		todo = r.wait(ctx)
	}
}

// A round is what fly knows of the flights for which others compute.
type round struct {
	*Flights
	plan     Plan
	answered time.Time // when the backend last said something
	waiting  []*flight
	watch    lease.Watch
	pause    time.Duration
	look     time.Time // when to look at what they wait for
}

// claim asks for the leases. It lands those whose answer is there, and returns
// the flights to compute here, and whether they have to do with others.
func (r *round) claim(ctx context.Context, todo []*flight) (won []*flight, shared bool) {
	if len(todo) == 0 {
		return nil, false
	}
	r.Flights.look(todo)
	if ctx.Err() != nil {
		for _, f := range todo {
			r.land(f, Result{Err: fault.ErrClosed, Ours: true})
		}
		return nil, false
	}
	if r.plan.Away {
		return todo, false
	}
	var alone, failed []*flight
	for i, c := range r.leases.Claim(ctx, leasesOf(todo), r.plan.Life) {
		f, now := todo[i], time.Now()
		away := lease.IsAway(c.Err)
		if !away {
			r.answered = now
		}
		switch {
		case c.State == lease.Granted || c.State == lease.Beside:
			f.beside = c.State == lease.Beside
			won = append(won, f)
		case c.State == lease.Busy || c.State == lease.There && c.Value == nil:
			r.join(f)
			f.Holder, f.until = c.Holder, now.Add(c.Left+time.Millisecond)
			if c.State == lease.Busy && f.Most == 0 {
				f.Most = c.Fails + r.plan.Tries
			}
			r.waiting = append(r.waiting, f)
		case c.State == lease.There:
			r.land(f, Result{Value: c.Value, Ours: true})
		case c.State == lease.Barren:
			r.land(f, Result{Err: fault.ErrNotFound, Ours: true})
		case away && r.plan.Unshared:
			alone = append(alone, f)
		case away && now.Sub(r.answered) < r.plan.Life: // It is still believed that somebody computes.
			f.until = now.Add(jitter(lease.PollMost))
			r.waiting = append(r.waiting, f)
		default:
			failed = append(failed, f)
			if ctx.Err() != nil { // That of Close.
				c.Err = fault.ErrClosed
			}
			r.land(f, Result{Err: c.Err, Ours: true})
		}
	}
	if len(failed) > 0 { // A claim may have come through without its reply.
		r.running.Go(func() { r.release(ctx, failed) })
	}
	if len(won) == 0 {
		return alone, false
	}
	if len(alone) > 0 { // The next claim fails, too, or is granted.
		r.waiting = append(r.waiting, alone...)
	}
	return won, true
}

// join makes a flight that was to refresh a document one of those that wait, if
// there are callers who joined it.
func (g *Flights) join(f *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.background = false
	f.Seen = nil
}

// wait returns the flights whose lease is to be claimed again; none if nobody
// waits any more.
func (r *round) wait(ctx context.Context) (todo []*flight) {
	for {
		r.waiting = r.wanted(r.waiting)
		if len(r.waiting) == 0 {
			return nil
		}
		if r.watch == nil {
			r.watch = r.leases.Watch(idsOf(r.waiting))
			r.look = time.Now().Add(jitter(r.pause))
		}
		next := r.look
		for _, f := range r.waiting {
			if f.until.Before(next) {
				next = f.until
			}
		}
		_ = engine.Wait(ctx, time.Until(next), r.watch.Wake())
		if todo = r.changed(ctx); len(todo) > 0 {
			return todo
		}
	}
}

// changed takes the flights out of those that wait for which there is news, or
// whose lease should have ended.
func (r *round) changed(ctx context.Context) (todo []*flight) {
	ids, all, steady := r.watch.News()
	news := make(map[string]bool, len(ids))
	for _, id := range ids {
		news[id] = true
	}
	now := time.Now()
	split := func(is func(i int, f *flight) bool) {
		var rest []*flight
		for i, f := range r.waiting {
			if is(i, f) {
				todo = append(todo, f)
			} else {
				rest = append(rest, f)
			}
		}
		r.waiting = rest
	}
	split(func(_ int, f *flight) bool { return news[f.ID] || !now.Before(f.until) || ctx.Err() != nil })
	if len(r.waiting) == 0 || !all && now.Before(r.look) {
		return todo
	}
	differ, err := r.leases.Look(ctx, leasesOf(r.waiting))
	split(func(i int, _ *flight) bool { return err != nil || differ[i] })
	if r.pause = min(2*r.pause, lease.PollMost); steady {
		r.pause = pollSteady
	}
	r.look = now.Add(jitter(r.pause))
	return todo
}

func (r *round) end() {
	if r.watch != nil {
		r.watch.Stop()
	}
}

// jitter keeps those who wait from asking all at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }

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
