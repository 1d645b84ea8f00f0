package once

import (
	"context"
	"time"
)

const (
	dueMost  = 10_000      // ids of which flights remember when to look
	dueLeast = time.Second // between two looks at one document's time to live
)

// Hit counts a document that was there.
func (g *Flights) Hit() { g.hits.Add(1) }

// IsDue reports whether to look at a document's time to live now, and puts
// off the next look.
func (g *Flights) IsDue(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.engine == nil || now.Before(g.due[id]) {
		return false
	}
	if len(g.due) >= dueMost {
		clear(g.due)
	}
	g.due[id] = now.Add(dueLeast)
	return true
}

func (g *Flights) putOff(id string, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.due[id] = time.Now().Add(max(d, dueLeast))
}

// Refresh computes a document anew, in the background, if less than a fraction
// is left of its time to live and nobody else does. What comes of it is stored
// only where what was read is still there.
func (g *Flights) Refresh(ctx context.Context, id string, p Plan, fraction float64) {
	if p.TTL == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.inAir[id] != nil {
		return
	}
	p.Unshared = false
	ctx = context.WithoutCancel(ctx)
	g.running.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(g.ctx, cancel)()
		ttls, err := g.engine.TTLs(ctx, []string{id})
		threshold := time.Duration(fraction * float64(p.TTL))
		if err != nil || ttls[0] <= 0 || ttls[0] > threshold { // It is for ever, or gone.
			if err == nil {
				g.putOff(id, ttls[0]-threshold)
			}
			return
		}
		value, err := g.engine.Get(ctx, id)
		if err != nil {
			return
		}
		g.mu.Lock()
		var f *flight
		if !g.closed && g.inAir[id] == nil {
			f = g.start(id, value)
		}
		g.mu.Unlock()
		if f != nil {
			g.fly(ctx, []*flight{f}, p)
		}
	})
}
