package kv

import (
	"cmp"
	"context"
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

	// Tries is how many computations of an id may fail in a row, in other
	// processes, while a caller waits for them one after the other; they count
	// as failed if Accept refused what came of them, or nothing was found,
	// too. After so many, those who wait call fn, side by side, each process
	// once. So a caller waits for Tries calls of fn at most, and for its own. 0
	// is 1.
	Tries int

	// Unshared makes fn run without a lease, and its answer be returned
	// without being stored, where otherwise the call would fail because the
	// backend is away. Every process then computes for itself.
	Unshared bool

	// RefreshAhead is a fraction between 0 and 1. When less than that is left
	// of a document's time to live, a call that reads it has it computed anew
	// in the background, by one process, and returns the present value at
	// once. The new one is stored only where the one that was read is still
	// there, byte for byte: what was removed or written meanwhile stays as it
	// is, and what expired is gone. An error there is dropped. 0 is off, and so
	// it is where Compute works on a store's methods alone.
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

// An IDMapper is a wrapper around a [Store] that leaves values as they are, and
// gives ids other names at most. Through it, and others like it, Compute works
// on the built-in store below: it takes the leases that all processes share,
// and stores there. Around any other wrapper it would pass by what that does
// to ids or values.
type IDMapper interface {
	Unwrap() Store
	// MapID returns the id that a document has in the wrapped store.
	MapID(id string) string
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
// for its answer, each until its own context is done. The lease that this
// takes ends with the process that holds it; see [ComputeOptions].Lease. In
// rare cases fn runs again: when that process dies or is held up for longer
// than the lease, or when Redis loses the lease, in a failover or a restart
// without an append-only file. An answer is stored if the id is still absent,
// in one atomic step: a write that came in between stays, and is what Compute
// returns. Only if the reply to storing it was lost, and the lease with it, it
// is not stored again.
//
// The context of fn has the values of the caller's, not its end: fn goes on,
// and its answer is stored, when the caller has given up. It ends with
// ComputeOptions.Limit, and when the last store of the namespace is closed.
// Close waits until fn has returned, but no longer than two seconds; what fn
// returns later goes to its caller, with an error that matches [ErrClosed]. So
// fn may close the store. An fn that calls Compute with the same id waits for
// itself.
//
// The errors beside those of Get:
//
//   - The error of fn, as it is, which those in this process who waited for it
//     get too. It is not stored, so that the next caller tries again. Those
//     who wait in other processes are told, and call theirs; see
//     ComputeOptions.Tries.
//   - One that matches [ErrUnavailable] if the backend is away; see
//     ComputeOptions.Unshared.
//   - One that says why the answer could not be stored, or that matches
//     [ErrOutcomeUnknown] if it may or may not have been. The answer is then
//     returned beside it.
//
// If fn panics, so does the call that it was given to, with a value whose text
// has the original's and its stack; the others get an error. If the caller has
// gone, the stack is logged.
//
// A backend that is not built in is taken to have one process, and so is a
// wrapper around a store, unless it is an [IDMapper]: there Compute works on
// the methods that it has itself, and the callers in this process share.
// Insert and UpsertTTL are used if it has them. Without Insert, a write that
// comes between looking and storing may be replaced.
func (t Typed[T]) Compute(ctx context.Context, id string, fn func(context.Context) (T, error)) (T, error) {
	for {
		v, err := t.Get(ctx, id)
		if err == nil {
			t.hit(ctx, id, func() runs { return t.callingOne(id, fn) })
			return v, nil
		}
		var zero T
		away := t.options.Unshared && lease.IsAway(err)
		if !errors.Is(err, ErrNotFound) && !away {
			return zero, err
		}
		p, err := t.plan()
		if err != nil {
			return zero, t.fail(id, err)
		}
		p.Fn, p.Away = t.callingOne(id, fn), away
		if r := t.flights.Answers(ctx, []string{t.below(id)}, p, t.options.Wait)[0]; r != nil {
			return t.answer(id, *r)
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
	p, unplanned := t.plan()
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
			t.hit(ctx, id, func() runs { return t.calling(fn, map[string]string{t.below(id): id}) })
		}
		absent := absentOf(ids, found)
		if unplanned != nil && len(absent) > 0 {
			return all, t.fail("", unplanned)
		}
		below, names := make([]string, len(absent)), make(map[string]string, len(absent))
		for i, id := range absent {
			below[i] = t.below(id)
			names[below[i]] = id
		}
		p.Fn = t.calling(fn, names)
		ids = nil
		for i, r := range t.flights.Answers(ctx, below, p, t.options.Wait) {
			if r == nil {
				ids = append(ids, absent[i])
				continue
			}
			v, bad := t.answer(absent[i], *r)
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
func (t Typed[T]) hit(ctx context.Context, id string, fn func() runs) {
	t.flights.Hit()
	if t.options.RefreshAhead == 0 || t.built == nil {
		return
	}
	below := t.below(id)
	if !t.flights.IsDue(below) {
		return
	}
	if p, err := t.plan(); err == nil {
		p.Fn = fn()
		t.flights.Refresh(ctx, below, p, t.options.RefreshAhead)
	}
}

// below returns the id that a document has in the store that flights are of.
func (t Typed[T]) below(id string) string {
	for _, m := range t.mappers {
		id = m.MapID(id)
	}
	return id
}

// fail makes an *Error of a failure of the library.
func (t Typed[T]) fail(id string, err error) error {
	if t.built == nil {
		return &Error{Op: "compute", ID: id, Err: err}
	}
	t.built.counters.end(begun(methodCompute), err)
	return t.built.fail(methodCompute.String(), fault.WithID(id, err))
}

// plan checks the options.
func (t Typed[T]) plan() (once.Plan, error) {
	o := t.options
	p := once.Plan{
		Life:     engine.RoundTTL(cmp.Or(o.Lease, defaultLease)),
		Limit:    cmp.Or(o.Limit, defaultLimit),
		TTL:      engine.RoundTTL(o.TTL),
		None:     engine.RoundTTL(o.Negative),
		Tries:    cmp.Or(o.Tries, 1),
		Unshared: o.Unshared,
	}
	for name, d := range map[string]time.Duration{"TTL": o.TTL, "Limit": o.Limit, "Wait": o.Wait, "Negative": o.Negative} {
		if d < 0 {
			return p, fault.Invalidf("ComputeOptions.%s is negative: %v", name, d)
		}
	}
	if p.Tries < 0 {
		return p, fault.Invalidf("ComputeOptions.Tries is negative: %d", o.Tries)
	}
	if p.Life < leastLease {
		return p, fault.Invalidf("ComputeOptions.Lease is %v; at least %v is needed", o.Lease, leastLease)
	}
	if !(o.RefreshAhead >= 0 && o.RefreshAhead < 1) {
		return p, fault.Invalidf("ComputeOptions.RefreshAhead is %v; use 0 (off) or a fraction below 1", o.RefreshAhead)
	}
	if s := t.built; s != nil {
		if s.readonly {
			return p, s.beginWrite(context.Background())
		}
		p.TTL = cmp.Or(p.TTL, s.ttl)
	}
	return p, nil
}

// runs is the function of a plan: ids are those of the store below.
type runs = func(ctx context.Context, ids []string) []once.Computed

// calling is fn of ComputeMany, for ids whose names it has.
func (t Typed[T]) calling(fn func(context.Context, []string) (map[string]T, error), names map[string]string) runs {
	return func(ctx context.Context, below []string) []once.Computed {
		ids := make([]string, len(below))
		for i, id := range below {
			ids[i] = names[id]
		}
		got, err := fn(ctx, slices.Clone(ids))
		answers := make([]once.Computed, len(ids))
		for i, id := range ids {
			if v, ok := got[id]; ok {
				answers[i] = t.computed(id, v)
				continue
			}
			answers[i] = once.Computed{Err: err, Absent: err == nil || errors.Is(err, ErrNotFound)}
		}
		return answers
	}
}

// callingOne is fn of Compute.
func (t Typed[T]) callingOne(id string, fn func(context.Context) (T, error)) runs {
	return func(ctx context.Context, _ []string) []once.Computed {
		v, err := fn(ctx)
		if err != nil {
			return []once.Computed{{Err: err, Absent: errors.Is(err, ErrNotFound)}}
		}
		return []once.Computed{t.computed(id, v)}
	}
}

// computed is a value of fn in the form in which callers share it. A call of
// Accept counts as a part of fn.
func (t Typed[T]) computed(id string, v T) once.Computed {
	keep := t.options.Accept == nil || t.options.Accept(v)
	value, err := encode(v)
	if err == nil && keep && t.built != nil {
		err = engine.CheckValue(id, value, t.built.maxValue)
	}
	return once.Computed{Value: value, Keep: keep, Err: err, Ours: true}
}

// answer turns a result into what a caller gets: a copy of its own.
func (t Typed[T]) answer(id string, r once.Result) (v T, err error) {
	if r.Value != nil {
		if err := decode(r.Value, &v); err != nil {
			var zero T
			return zero, t.fail(id, err)
		}
	}
	if r.Err != nil && r.Ours {
		return v, t.fail(id, r.Err)
	}
	return v, r.Err
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
		g = &sharedFlights{Flights: once.New(lease.Of(e), e, f.opts.logger)}
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
