package once

import (
	"context"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/lease"
)

// compute calls fn for the flights, and lands them. If shared, their leases
// are held: they are renewed while fn runs, and the answers are stored.
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
	finished := false
	defer func() { // Of a Goexit in fn there is no other way to hear.
		cancel()
		if !finished {
			held.stop()
			g.look(list)
			g.release(ctx, list)
			g.crashed(list, &crash{value: "runtime.Goexit"})
		}
	}()
	answers, c := call(limited, p, idsOf(list))
	cancel()
	g.look(list)
	finished = true
	g.computes.Add(int64(len(list)))
	g.spent.Add(int64(time.Since(began)))
	if c != nil {
		held.stop()
		if shared {
			g.release(ctx, list)
		}
		g.crashed(list, c)
		return
	}
	var outcome []lease.Settled
	if shared {
		outcome = g.store(ctx, list, answers, p)
		held.stop()
	}
	for i, f := range list {
		s := lease.Settled{}
		if shared {
			s = outcome[i]
			if s.Lost {
				g.losses.Add(1)
			}
		}
		g.land(f, outcomeOf(answers[i], s, p))
	}
}

func (g *Flights) crashed(list []*flight, c *crash) {
	for _, f := range list {
		g.land(f, Result{Err: errCrashed, Ours: true, crash: c})
	}
}

// store settles the answers. While the backend is away it goes on trying for
// the life of a lease, since an answer has been paid for.
func (g *Flights) store(ctx context.Context, list []*flight, got []Computed, p Plan) []lease.Settled {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.Life)
	defer cancel()
	answers := make([]lease.Answer, len(list))
	todo := make([]int, len(list))
	for i, f := range list {
		answers[i] = lease.Answer{Lease: f.Lease, TTL: p.TTL}
		todo[i] = i
		if got[i].Keep && got[i].Err == nil {
			answers[i].Value = got[i].Value
		}
		if got[i].Absent {
			answers[i].None = p.None
		}
	}
	outcome := make([]lease.Settled, len(list))
	for {
		part := make([]lease.Answer, len(todo))
		for i, at := range todo {
			part[i] = answers[at]
		}
		var again []int
		for i, s := range g.Leases.Settle(ctx, part) {
			at := todo[i]
			if lease.IsAway(outcome[at].Err) {
				s = s.Doubt(part[i])
			}
			if outcome[at] = s; lease.IsAway(s.Err) {
				again = append(again, at)
			}
		}
		if todo = again; len(todo) == 0 || g.ctx.Err() != nil || engine.Pause(ctx, lease.PollMost) != nil {
			return outcome
		}
	}
}

// A heart renews leases until it is stopped. A nil heart does nothing.
type heart struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	lost   []bool // of its goroutine
}

// beat renews the leases of the flights three times a life, for as long as fn
// may take and its answers may need to be stored.
func (g *Flights) beat(ctx context.Context, list []*flight, p Plan) *heart {
	h := &heart{lost: make([]bool, len(list))}
	ctx, h.cancel = context.WithTimeout(ctx, p.Limit+p.Life)
	h.done.Go(func() {
		for engine.Pause(ctx, max(p.Life/3, time.Millisecond)) == nil {
			g.renew(ctx, h, list, p)
		}
	})
	return h
}

// renew notes the leases that are no longer held. They are not taken again:
// who has one in the meantime may have stored a newer answer.
func (g *Flights) renew(ctx context.Context, h *heart, list []*flight, p Plan) {
	var held []lease.Lease
	var at []int
	for i, f := range list {
		if !h.lost[i] {
			held = append(held, f.Lease)
			at = append(at, i)
		}
	}
	if len(held) == 0 {
		return
	}
	still, err := g.Leases.Renew(ctx, held, p.Life)
	if err != nil {
		return // The next beat may come in time.
	}
	for i, ok := range still {
		if !ok {
			h.lost[at[i]] = true
		}
	}
}

func (h *heart) stop() {
	if h != nil {
		h.cancel()
		h.done.Wait()
	}
}
