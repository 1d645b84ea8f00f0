package once

import (
	"context"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/lease"
)

// compute calls the function for the flights, and lands them. If shared, their
// leases are held: they are renewed while it runs, and the answers are stored.
// When Close waits no longer, the leases are given back, and what the function
// returns goes to its callers alone.
func (g *Flights) compute(ctx context.Context, list []*flight, p Plan, shared bool) {
	for _, f := range list {
		f.leading.Store(true)
	}
	var held *heart
	if shared {
		held = g.beat(ctx, list, p)
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, p.Limit)
	var answers []Computed
	var c *crash
	returned := make(chan struct{})
	go call(limited, p, idsOf(list), func(a []Computed, crashed *crash) {
		answers, c = a, crashed
		close(returned)
	})
	select {
	case <-returned:
	case <-g.over:
		held.stop()
		g.release(ctx, list)
		go func() {
			<-returned
			cancel()
			g.finish(list, answers, c, make([]lease.Settled, len(list)), p, fault.ErrClosed)
		}()
		return
	}
	cancel()
	g.computes.Add(int64(len(list)))
	g.spent.Add(int64(time.Since(began)))
	held.stop() // From now on the lease is given back, or ends.
	outcome := make([]lease.Settled, len(list))
	g.look(list)
	if shared {
		outcome = g.store(ctx, list, answers, p)
	}
	g.finish(list, answers, c, outcome, p, nil)
}

// finish lands the flights.
func (g *Flights) finish(list []*flight, answers []Computed, c *crash, outcome []lease.Settled, p Plan, err error) {
	for i, f := range list {
		if outcome[i].Lost && !f.beside {
			g.losses.Add(1)
		}
		if c != nil {
			g.land(f, Result{Err: errCrashed, Ours: true, crash: c})
			continue
		}
		if err != nil {
			outcome[i].Err = err
		}
		g.land(f, outcomeOf(answers[i], outcome[i], p))
	}
}

const (
	// toldFor is how long a failure is remembered, so that those hear of it who
	// wait and were not notified.
	toldFor = 10 * time.Second

	// storeLeast is how long to try to store an answer, since it has been paid
	// for, if the life of its lease is shorter.
	storeLeast = 5 * time.Second
)

// store settles the answers; there are none of a function that crashed. While
// the backend is away it goes on trying.
func (g *Flights) store(ctx context.Context, list []*flight, got []Computed, p Plan) []lease.Settled {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(p.Life, storeLeast))
	defer cancel()
	answers := make([]lease.Answer, len(list))
	todo := make([]int, len(list))
	for i, f := range list {
		todo[i] = i
		a := lease.Answer{Lease: f.Lease, TTL: p.TTL, Then: lease.Told, For: toldFor}
		switch {
		case got != nil && got[i].Keep && got[i].Err == nil:
			a.Value, a.Then = got[i].Value, lease.Released
		case g.ctx.Err() != nil: // It was interrupted, and another shall go on.
			a.Then = lease.Released
		case got != nil && got[i].Absent && p.None > 0:
			a.Then, a.For = lease.None, p.None
		}
		answers[i] = a
	}
	outcome := make([]lease.Settled, len(list))
	for pause := pollFirst; ; pause = min(2*pause, lease.PollMost) {
		part := make([]lease.Answer, len(todo))
		for i, at := range todo {
			part[i] = answers[at]
		}
		var again []int
		for i, s := range g.leases.Settle(ctx, part) {
			at := todo[i]
			answers[at].Unsure = s.Unsure
			if s.Err != nil && ctx.Err() != nil {
				s.Err = fault.Unknown(fault.Unavailablef("the backend did not answer in time"))
			}
			if outcome[at] = s; lease.IsAway(s.Err) {
				again = append(again, at)
			}
		}
		if todo = again; len(todo) == 0 || g.ctx.Err() != nil || engine.Pause(ctx, jitter(pause)) != nil {
			return outcome
		}
	}
}

// release gives leases back, if they are held.
func (g *Flights) release(ctx context.Context, list []*flight) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	answers := make([]lease.Answer, len(list))
	for i, f := range list {
		answers[i].Lease = f.Lease
	}
	g.leases.Settle(ctx, answers)
}

// A heart renews leases until it is stopped. A nil heart does nothing.
type heart struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// beat renews the leases of the flights three times a life, for as long as the
// function may take. One that is no longer held is not taken again: who has it
// in the meantime may have stored a newer answer.
func (g *Flights) beat(ctx context.Context, list []*flight, p Plan) *heart {
	var held []lease.Answer
	for _, f := range list {
		if !f.beside {
			held = append(held, lease.Answer{Lease: f.Lease, Then: lease.Held, For: p.Life})
		}
	}
	h := new(heart)
	ctx, h.cancel = context.WithTimeout(ctx, p.Limit)
	h.done.Go(func() {
		for len(held) > 0 && engine.Pause(ctx, p.Life/3) == nil {
			var still []lease.Answer
			for i, s := range g.leases.Settle(ctx, held) {
				if !s.Lost { // After an error the next beat may come in time.
					still = append(still, held[i])
				}
			}
			held = still
		}
	})
	return h
}

func (h *heart) stop() {
	if h != nil {
		h.cancel()
		h.done.Wait()
	}
}
