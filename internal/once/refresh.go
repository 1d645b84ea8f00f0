package once

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ngraf/kv/internal/lease"
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
	if now.Before(g.due[id]) {
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

// Refresh computes a document anew, in the background, if less than a
// fraction is left of its time to live and nobody else does. ttl and get ask
// the store for what is left, and for the document.
func (g *Flights) Refresh(ctx context.Context, id string, p Plan, fraction float64,
	ttl func(context.Context, string) (time.Duration, error), get func(context.Context, string) (json.RawMessage, error),
) {
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
		left, err := ttl(ctx, id)
		threshold := time.Duration(fraction * float64(p.TTL))
		if err != nil || left == 0 || left > threshold {
			g.putOff(id, left-threshold)
			return
		}
		value, err := get(ctx, id)
		if err != nil {
			return
		}
		if f := g.startRefresh(id, lease.Digest(value)); f != nil {
			g.fly(ctx, []*flight{f}, p)
		}
	})
}

// startRefresh starts a flight that has no callers, unless there is one.
func (g *Flights) startRefresh(id, seen string) *flight {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.inAir[id] != nil {
		return nil
	}
	f := g.start(id)
	f.background = true
	f.Seen = seen
	return f
}
