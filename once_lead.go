package kv

import (
	"context"
	"sync"
	"time"
)

// compute calls fn for the flights, and lands them. If shared, their leases
// are held: they are renewed while fn runs, and the answers are stored.
func (g *flights) compute(ctx context.Context, list []*flight, p plan, shared bool) {
	for _, f := range list {
		f.leading.Store(true)
	}
	var held *heart
	if shared {
		held = g.beat(ctx, list, p)
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, p.limit)
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
	var outcome []settled
	if shared {
		outcome = g.store(ctx, list, answers, p)
		held.stop()
	}
	for i, f := range list {
		s := settled{}
		if shared {
			s = outcome[i]
			if s.lost {
				g.losses.Add(1)
			}
		}
		g.land(f, outcomeOf(answers[i], s, p))
	}
}

func (g *flights) crashed(list []*flight, c *crash) {
	for _, f := range list {
		g.land(f, result{err: errCrashed, ours: true, crash: c})
	}
}

// store settles the answers. While the backend is away it goes on trying for
// the life of a lease, since an answer has been paid for.
func (g *flights) store(ctx context.Context, list []*flight, got []computed, p plan) []settled {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.life)
	defer cancel()
	answers := make([]answer, len(list))
	todo := make([]int, len(list))
	for i, f := range list {
		answers[i] = answer{lease: f.lease, ttl: p.ttl}
		todo[i] = i
		if got[i].keep && got[i].err == nil {
			answers[i].value = got[i].value
		}
		if got[i].absent {
			answers[i].none = p.none
		}
	}
	outcome := make([]settled, len(list))
	for {
		part := make([]answer, len(todo))
		for i, at := range todo {
			part[i] = answers[at]
		}
		var again []int
		for i, s := range g.leases.settle(ctx, part) {
			at := todo[i]
			if isAway(outcome[at].err) {
				s = s.doubt(part[i])
			}
			if outcome[at] = s; isAway(s.err) {
				again = append(again, at)
			}
		}
		if todo = again; len(todo) == 0 || g.ctx.Err() != nil || pauseFor(ctx, pollMost) != nil {
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
func (g *flights) beat(ctx context.Context, list []*flight, p plan) *heart {
	h := &heart{lost: make([]bool, len(list))}
	ctx, h.cancel = context.WithTimeout(ctx, p.limit+p.life)
	h.done.Go(func() {
		for pauseFor(ctx, max(p.life/3, time.Millisecond)) == nil {
			g.renew(ctx, h, list, p)
		}
	})
	return h
}

// renew notes the leases that are no longer held. They are not taken again:
// who has one in the meantime may have stored a newer answer.
func (g *flights) renew(ctx context.Context, h *heart, list []*flight, p plan) {
	var held []lease
	var at []int
	for i, f := range list {
		if !h.lost[i] {
			held = append(held, f.lease)
			at = append(at, i)
		}
	}
	if len(held) == 0 {
		return
	}
	still, err := g.leases.renew(ctx, held, p.life)
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
