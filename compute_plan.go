package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ComputeStats count what Compute and ComputeMany of this process do with a
// namespace, while one of its stores is open.
type ComputeStats struct {
	Hits        int64 // ids whose document was there
	Misses      int64 // ids whose document was not
	Waits       int64 // of these, answered by what another goroutine or process computed
	Computes    int64 // ids that fn was called with, refreshing included
	LeaseLosses int64 // leases that ended before their answer was stored

	// TimeSaved is what fn would have taken for Hits and Waits, by the mean of
	// Computes. It is 0 while there are none.
	TimeSaved time.Duration
}

func (g *flights) stats() ComputeStats {
	s := ComputeStats{
		Hits:        g.hits.Load(),
		Misses:      g.misses.Load(),
		Waits:       g.waits.Load(),
		Computes:    g.computes.Load(),
		LeaseLosses: g.losses.Load(),
	}
	if s.Computes > 0 {
		s.TimeSaved = time.Duration(float64(g.spent.Load()) / float64(s.Computes) * float64(s.Hits+s.Waits))
	}
	return s
}

// flightsOf returns the flights of an engine for one more store.
func (f *Factory) flightsOf(e engine) *flights {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.flights[e]
	if g == nil {
		var l leases
		if r, ok := e.(*redisEngine); ok {
			l = newRedisLeases(r)
		} else {
			l = localLeasesOf(e)
		}
		g = newFlights(l)
		f.flights[e] = g
	}
	g.stores++
	return g
}

// endFlights closes the flights of a store if it is the last that uses them.
func (f *Factory) endFlights(s *store) {
	f.mu.Lock()
	s.flights.stores--
	last := s.flights.stores == 0
	if last {
		delete(f.flights, s.engine)
	}
	f.mu.Unlock()
	if last {
		s.flights.close()
	}
}

// foreignFlights are for a store that is not built in; nil for one that is.
func foreignFlights(s Store) *flights {
	if built, ok := As[*store](s); ok && built.flights != nil || s == nil {
		return nil
	}
	upsert := func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) error {
		items := map[string]json.RawMessage{id: value}
		if ttl == 0 {
			return s.Upsert(ctx, items)
		}
		if e, ok := As[Expirer](s); ok {
			return e.UpsertTTL(ctx, items, ttl)
		}
		return invalidf("the backend has no times to live")
	}
	return newFlights(&localLeases{get: s.Get, upsert: upsert, insert: func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) (bool, error) {
		if i, ok := As[Inserter](s); ok && ttl == 0 {
			n, err := i.Insert(ctx, map[string]json.RawMessage{id: value})
			return n > 0, err
		}
		err := upsert(ctx, id, value, ttl)
		return err == nil, err
	}})
}

// computing is what a view computes with.
type computing struct {
	flights *flights
	store   *store // nil if it is not built in
}

func (t Typed[T]) computing() computing {
	if t.own != nil {
		return computing{flights: t.own}
	}
	s, _ := As[*store](t.store)
	return computing{s.flights, s}
}

// fail makes an *Error of a failure of the library.
func (c computing) fail(id string, err error) error {
	if c.store == nil {
		return &Error{Op: "compute", ID: id, Err: err}
	}
	c.store.counters.end(begun(methodCompute), err)
	return c.store.fail(methodCompute.String(), &withID{id, err})
}

// plan checks the options.
func (t Typed[T]) plan(c computing, fn func(context.Context, []string) (map[string]T, error)) (plan, error) {
	o := t.options
	p := plan{
		life:     roundTTL(orDefault(o.Lease, defaultLease)),
		limit:    orDefault(o.Limit, defaultLimit),
		ttl:      roundTTL(o.TTL),
		none:     roundTTL(o.Negative),
		unshared: o.Unshared,
	}
	for name, d := range map[string]time.Duration{"TTL": o.TTL, "Limit": o.Limit, "Wait": o.Wait, "Negative": o.Negative} {
		if d < 0 {
			return p, invalidf("ComputeOptions.%s is negative: %v", name, d)
		}
	}
	if p.life < leastLease {
		return p, invalidf("ComputeOptions.Lease is %v; at least %v is needed", o.Lease, leastLease)
	}
	if !(o.RefreshAhead >= 0 && o.RefreshAhead < 1) {
		return p, invalidf("ComputeOptions.RefreshAhead is %v; use 0 (off) or a fraction below 1", o.RefreshAhead)
	}
	check := func(string, json.RawMessage) error { return nil }
	if s := c.store; s != nil {
		if s.readonly {
			return p, s.beginWrite(context.Background())
		}
		p.ttl = orDefault(p.ttl, s.ttl)
		check = func(id string, value json.RawMessage) error { return checkValue(id, value, s.maxValue) }
	}
	p.fn = func(ctx context.Context, ids []string) []computed {
		got, err := fn(ctx, slices.Clone(ids))
		answers := make([]computed, len(ids))
		for i, id := range ids {
			if v, ok := got[id]; ok {
				answers[i] = t.computed(id, v, check)
				continue
			}
			answers[i] = computed{err: err, absent: err == nil || errors.Is(err, ErrNotFound)}
		}
		return answers
	}
	return p, nil
}

// computed is a value of fn in the form in which callers share it. A call of
// Accept counts as a part of fn.
func (t Typed[T]) computed(id string, v T, check func(string, json.RawMessage) error) computed {
	keep := t.options.Accept == nil || t.options.Accept(v)
	value, err := encode(v)
	if err == nil && keep {
		err = check(id, value)
	}
	return computed{value: value, keep: keep, err: err, ours: true}
}

// forOne is an fn of ComputeMany for a single id.
func forOne[T any](id string, fn func(context.Context) (T, error)) func(context.Context, []string) (map[string]T, error) {
	return func(ctx context.Context, _ []string) (map[string]T, error) {
		v, err := fn(ctx)
		if err != nil {
			return nil, err
		}
		return map[string]T{id: v}, nil
	}
}

// answers waits for the answers of all ids, each until ctx is done, or the
// time most, if it is not 0, has passed while others compute. It leaves nil
// where the store has to be asked again.
func (c computing) answers(ctx context.Context, ids []string, p plan, most time.Duration) []*result {
	if len(ids) == 0 {
		return nil
	}
	results := make([]*result, len(ids))
	tickets, err := c.flights.board(ctx, ids, p)
	if err != nil {
		for i := range results {
			results[i] = &result{err: err, ours: true}
		}
		return results
	}
	left := 0 // flights that we have left
	defer func() {
		for _, t := range tickets[left:] {
			c.flights.leave(t.flight)
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
		c.flights.leave(t.flight)
		left++
		switch leader := t.mine && t.leading.Load(); {
		case r.crash != nil && leader:
			panic(r.crash)
		case r.step <= t.step && r.step > 0:
			c.flights.misses.Add(-1)
			continue
		case r.value != nil && !leader:
			c.flights.waits.Add(1)
		}
		results[i] = &r
	}
	return results
}

// await waits for the flight to land. passed remembers that late has fired; it
// stops no caller whose own fn is running.
func (t ticket) await(ctx context.Context, late <-chan time.Time, passed *bool) result {
	for {
		if *passed && (!t.mine || !t.leading.Load()) {
			select {
			case <-t.done:
				return t.result
			default:
				return result{err: fmt.Errorf("%w: another computes the value, and ComputeOptions.Wait has passed", ErrUnavailable), ours: true}
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
			return result{err: ctx.Err(), ours: true}
		}
	}
}

// answerOf turns a result into what a caller gets: a copy of its own.
func answerOf[T any](c computing, id string, r result) (v T, err error) {
	if r.value != nil {
		if err := decode(r.value, &v); err != nil {
			var zero T
			return zero, c.fail(id, err)
		}
	}
	if r.err != nil && r.ours {
		return v, c.fail(id, r.err)
	}
	return v, r.err
}
