package kv

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/lease"
	"github.com/ngraf/kv/internal/once"
)

// Defaults of [ComputeOptions].
const (
	defaultLease = 10 * time.Second
	defaultLimit = 10 * time.Minute
	leastLease   = 100 * time.Millisecond
)

// ComputeOptions say how Compute and ComputeMany of a view work. The zero
// value is what most want. Times are kept to the millisecond; a negative one
// is [ErrInvalid].
type ComputeOptions[T any] struct {
	// Accept reports whether a computed value is worth keeping; nil accepts
	// all. A refused value is returned all the same, also to those who waited
	// for it in this process, and not stored. Other processes compute anew.
	Accept func(T) bool

	// TTL is the time to live of what is stored. 0 is the namespace's.
	TTL time.Duration

	// Lease is how long a process that computes is believed to be alive
	// without a sign of life; it gives one three times as often. It bounds
	// how long others wait for one that died. 0 is 10 s; at least 100 ms.
	Lease time.Duration

	// Limit bounds the context that fn gets, which does not end with that of
	// the caller. 0 is 10 min. An fn that does not heed its context is not
	// stopped, but other processes stop waiting for it.
	Limit time.Duration

	// Wait bounds how long a caller waits for what another computes, after
	// which it gets an error that matches [ErrUnavailable]. 0 leaves it to
	// the caller's context.
	Wait time.Duration

	// Unshared makes fn run without a lease, and its answer be returned
	// without being stored, where otherwise the call would fail because the
	// backend is away. Every process then computes for itself.
	Unshared bool

	// RefreshAhead is a fraction between 0 and 1. When less than that is left
	// of a document's time to live, a call that reads it has it computed anew
	// in the background, by one process, and returns the present value at
	// once. An error there is dropped. 0 is off.
	RefreshAhead float64

	// Negative is how long to remember that fn found no such document: that
	// it returned an error that matches [ErrNotFound], or left the id out of
	// its map. Until then calls get such an error without calling fn. Nothing
	// is stored under the id, and a document that is stored counts. 0 is off.
	Negative time.Duration
}

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

// With returns a view of the same store whose Compute and ComputeMany work by
// these options.
func (t Typed[T]) With(o ComputeOptions[T]) Typed[T] {
	t.options = o
	return t
}

// Compute returns the document with this id. If there is none, it calls fn,
// stores what it returns with the namespace's time to live, and returns it.
//
// Of all callers who ask for an absent id at the same time, in all goroutines,
// processes and hosts that share the store, one runs fn, and the others wait
// for its answer, each until its own context is done. (The json backend has
// one process, and a backend that is not built in is taken to have one: there,
// callers of one view and its copies share.) The lease that this takes ends
// with the process that holds it; see [ComputeOptions].Lease. In rare cases fn
// runs again: when that process dies or is held up for longer than the lease,
// or when Redis loses the lease, in a failover or a restart without an append-
// only file. An answer is stored only while its lease is held, and only if the
// id is still absent: a write that came in between stays, and is what Compute
// returns.
//
// The context of fn has the values of the caller's, not its end: fn goes on,
// and its answer is stored, when the caller has given up. It ends with
// ComputeOptions.Limit, and when the last store of the namespace is closed,
// which waits until fn has returned. An fn that calls Compute with the same id
// waits for itself.
//
// The errors beside those of Get:
//
//   - The error of fn, as it is, which those in this process who waited for it
//     get too. It is not stored, so that the next caller tries again.
//   - One that matches [ErrUnavailable] if the backend is away; see
//     ComputeOptions.Unshared.
//   - One that says why the answer could not be stored, or that matches
//     [ErrOutcomeUnknown] if it may or may not have been. The answer is then
//     returned beside it.
//
// If fn panics, so does the call that it was given to, with a value whose text
// has the original's and its stack; the others get an error.
//
// What Compute stores does not go through wrappers around a built-in store.
func (t Typed[T]) Compute(ctx context.Context, id string, fn func(context.Context) (T, error)) (T, error) {
	for {
		v, err := t.Get(ctx, id)
		if err == nil {
			t.hit(ctx, id, fn)
			return v, nil
		}
		var zero T
		away := t.options.Unshared && lease.IsAway(err)
		if !errors.Is(err, ErrNotFound) && !away {
			return zero, err
		}
		c := t.computing()
		p, err := t.plan(c, forOne(id, fn))
		if err != nil {
			return zero, c.fail(id, err)
		}
		p.Away = away
		if r := c.flights.Answers(ctx, []string{id}, p, t.options.Wait)[0]; r != nil {
			return answerOf[T](c, id, *r)
		}
	}
}

// ComputeMany returns the documents with these ids, as Compute does for each:
// it reads them together, and calls fn once with those that are absent and
// that nobody else computes, without repeats, and waits for the others. (Ids
// whose computing process died in the meantime make it call fn again.)
//
// An id that fn leaves out of its map, without an error, is left out of the
// result. If fn returns an error, the values that it returned beside it are
// stored and in the result, and the error stands for the others. The result
// has all documents that could be had, whatever the error; it is the first
// that was met.
func (t Typed[T]) ComputeMany(ctx context.Context, ids []string, fn func(ctx context.Context, missing []string) (map[string]T, error)) (map[string]T, error) {
	c := t.computing()
	p, unplanned := t.plan(c, fn)
	var err error
	all := make(map[string]T)
	for {
		found, bad := t.GetMany(ctx, ids...)
		p.Away = t.options.Unshared && lease.IsAway(bad)
		if found == nil && !p.Away {
			return all, cmp.Or(err, bad)
		}
		if !p.Away && err == nil {
			err = bad // Some are corrupt.
		}
		for id, v := range found {
			all[id] = v
			c.flights.Hit()
			t.ahead(ctx, c, id, p)
		}
		absent := absentOf(ids, found)
		if unplanned != nil && len(absent) > 0 {
			return all, c.fail("", unplanned)
		}
		ids = nil
		for i, r := range c.flights.Answers(ctx, absent, p, t.options.Wait) {
			if r == nil {
				ids = append(ids, absent[i])
				continue
			}
			v, bad := answerOf[T](c, absent[i], *r)
			if r.Value != nil && !errors.Is(bad, ErrCorrupt) {
				all[absent[i]] = v
			}
			if err == nil && (!r.Ours || !errors.Is(bad, ErrNotFound)) {
				err = bad
			}
		}
		if len(ids) == 0 {
			return all, err
		}
	}
}

// absentOf returns the ids that were not found, without repeats. One whose
// value is corrupt is among them: its lease is refused then, and says so.
func absentOf[T any](ids []string, found map[string]T) []string {
	seen := make(map[string]bool, len(ids))
	var absent []string
	for _, id := range ids {
		if _, ok := found[id]; !ok && !seen[id] {
			absent = append(absent, id)
			seen[id] = true
		}
	}
	return absent
}

// hit counts a document that was there, and sees to its refreshing.
func (t Typed[T]) hit(ctx context.Context, id string, fn func(context.Context) (T, error)) {
	c := t.computing()
	c.flights.Hit()
	if t.options.RefreshAhead == 0 || !c.flights.IsDue(id) {
		return
	}
	if p, err := t.plan(c, forOne(id, fn)); err == nil {
		t.refresh(ctx, c, id, p)
	}
}

// ahead is hit for one of many.
func (t Typed[T]) ahead(ctx context.Context, c computing, id string, p once.Plan) {
	if t.options.RefreshAhead > 0 && c.flights.IsDue(id) {
		t.refresh(ctx, c, id, p)
	}
}

func (t Typed[T]) refresh(ctx context.Context, c computing, id string, p once.Plan) {
	if e, ok := As[Expirer](t.store); ok {
		c.flights.Refresh(ctx, id, p, t.options.RefreshAhead, e.TTL, t.store.Get)
	}
}

// computing is what a view computes with.
type computing struct {
	flights *once.Flights
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
	return c.store.fail(methodCompute.String(), fault.WithID(id, err))
}

// plan checks the options.
func (t Typed[T]) plan(c computing, fn func(context.Context, []string) (map[string]T, error)) (once.Plan, error) {
	o := t.options
	p := once.Plan{
		Life:     engine.RoundTTL(cmp.Or(o.Lease, defaultLease)),
		Limit:    cmp.Or(o.Limit, defaultLimit),
		TTL:      engine.RoundTTL(o.TTL),
		None:     engine.RoundTTL(o.Negative),
		Unshared: o.Unshared,
	}
	for name, d := range map[string]time.Duration{"TTL": o.TTL, "Limit": o.Limit, "Wait": o.Wait, "Negative": o.Negative} {
		if d < 0 {
			return p, fault.Invalidf("ComputeOptions.%s is negative: %v", name, d)
		}
	}
	if p.Life < leastLease {
		return p, fault.Invalidf("ComputeOptions.Lease is %v; at least %v is needed", o.Lease, leastLease)
	}
	if !(o.RefreshAhead >= 0 && o.RefreshAhead < 1) {
		return p, fault.Invalidf("ComputeOptions.RefreshAhead is %v; use 0 (off) or a fraction below 1", o.RefreshAhead)
	}
	check := func(string, json.RawMessage) error { return nil }
	if s := c.store; s != nil {
		if s.readonly {
			return p, s.beginWrite(context.Background())
		}
		p.TTL = cmp.Or(p.TTL, s.ttl)
		check = func(id string, value json.RawMessage) error { return engine.CheckValue(id, value, s.maxValue) }
	}
	p.Fn = func(ctx context.Context, ids []string) []once.Computed {
		got, err := fn(ctx, slices.Clone(ids))
		answers := make([]once.Computed, len(ids))
		for i, id := range ids {
			if v, ok := got[id]; ok {
				answers[i] = t.computed(id, v, check)
				continue
			}
			answers[i] = once.Computed{Err: err, Absent: err == nil || errors.Is(err, ErrNotFound)}
		}
		return answers
	}
	return p, nil
}

// computed is a value of fn in the form in which callers share it. A call of
// Accept counts as a part of fn.
func (t Typed[T]) computed(id string, v T, check func(string, json.RawMessage) error) once.Computed {
	keep := t.options.Accept == nil || t.options.Accept(v)
	value, err := encode(v)
	if err == nil && keep {
		err = check(id, value)
	}
	return once.Computed{Value: value, Keep: keep, Err: err, Ours: true}
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

// answerOf turns a result into what a caller gets: a copy of its own.
func answerOf[T any](c computing, id string, r once.Result) (v T, err error) {
	if r.Value != nil {
		if err := decode(r.Value, &v); err != nil {
			var zero T
			return zero, c.fail(id, err)
		}
	}
	if r.Err != nil && r.Ours {
		return v, c.fail(id, r.Err)
	}
	return v, r.Err
}

// foreignFlights are for a store that is not built in; nil for one that is.
func foreignFlights(s Store) *once.Flights {
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
		return fault.Invalidf("the backend has no times to live")
	}
	return once.New(&lease.Local{Get: s.Get, Upsert: upsert, Insert: func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) (bool, error) {
		if i, ok := As[Inserter](s); ok && ttl == 0 {
			n, err := i.Insert(ctx, map[string]json.RawMessage{id: value})
			return n > 0, err
		}
		err := upsert(ctx, id, value, ttl)
		return err == nil, err
	}})
}

// sharedFlights are those of an engine, which so many stores use.
type sharedFlights struct {
	*once.Flights
	stores int
}

// flightsOf returns the flights of an engine for one more store.
func (f *Factory) flightsOf(e engine.Engine) *once.Flights {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.flights[e]
	if g == nil {
		g = &sharedFlights{Flights: once.New(lease.Of(e))}
		f.flights[e] = g
	}
	g.stores++
	return g.Flights
}

// endFlights closes the flights of a store if it is the last that uses them.
func (f *Factory) endFlights(s *store) {
	f.mu.Lock()
	g := f.flights[s.engine]
	g.stores--
	last := g.stores == 0
	if last {
		delete(f.flights, s.engine)
	}
	f.mu.Unlock()
	if last {
		g.Close()
	}
}
