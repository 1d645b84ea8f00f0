package kvtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ngraf/kv"
)

// goAway makes the backend unreachable until the returned function is called,
// at the end of the case if not before.
func (e *env) goAway() (back func()) {
	e.Helper()
	if e.h.Away == nil {
		e.Skipf("the harness has no Away and Back")
	}
	if err := e.h.Away(); err != nil {
		e.Fatalf("kvtest: Away of the harness: %v", err)
	}
	returned := false
	back = func() {
		e.Helper()
		if returned {
			return
		}
		returned = true
		if err := e.h.Back(); err != nil {
			e.Errorf("kvtest: Back of the harness: %v", err)
		}
	}
	e.Cleanup(back)
	return back
}

func awayCases() []Case {
	var cases []Case
	for _, m := range methods() {
		if m.name == "Flush" || m.name == "Stats" {
			continue // They need not ask the backend.
		}
		cases = append(cases,
			Case{Name: m.name + " is ErrUnavailable", Sentence: sUnavailable, check: func(e *env) {
				s := e.open(space)
				m.skip(e, s)
				e.put(s, "a", `1`)
				e.goAway()
				e.within(m.name, func() error {
					err := m.call(e.ctx, s, "a")
					// Such a reply may have been lost.
					lost := m.name == "Insert" || m.name == "Delete"
					if errors.Is(err, kv.ErrUnavailable) || lost && errors.Is(err, kv.ErrOutcomeUnknown) {
						return nil
					}
					return fmt.Errorf("%s: error %w, want one that matches ErrUnavailable", m.name, err)
				})
			}},
			Case{Name: m.name + " ends at its deadline", Sentence: sContext, check: func(e *env) {
				s := e.open(space)
				m.skip(e, s)
				e.put(s, "a", `1`)
				e.goAway()
				e.within(m.name, func() error { return endsInTime(e, s, m) })
			}})
	}
	return append(cases,
		Case{Name: "same store works afterwards", Sentence: sUnavailable, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			back := e.goAway()
			if _, err := s.Get(e.ctx, "a"); err == nil {
				e.breach("Get of a backend that is away: nil, want an error")
			}
			back()
			e.recovered(s)
			e.put(s, "b", `2`)
			e.want(s, "a", `1`, "b", `2`)
		}},
		Case{Name: "failed Upsert can be repeated", Sentence: sRepeat, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			back := e.goAway()
			if err := s.Upsert(e.ctx, items("a", `2`, "b", `3`)); err == nil {
				e.breach("Upsert to a backend that is away: nil, want an error")
			}
			back()
			e.recovered(s)
			e.put(s, "a", `2`, "b", `3`)
			e.want(s, "a", `2`, "b", `3`)
		}})
}

// endsInTime checks that a deadline is kept while the backend is away. Whether
// the deadline or the backend is blamed is a race.
func endsInTime(e *env, s kv.Store, m method) error {
	const deadline, late = 100 * time.Millisecond, 3 * time.Second
	ctx, cancel := context.WithTimeout(e.ctx, deadline)
	defer cancel()
	start := time.Now()
	err := m.call(ctx, s, "a")
	if took := time.Since(start); took > late {
		return fmt.Errorf("%s took %v with a deadline of %v", m.name, took, deadline)
	}
	for _, target := range []error{context.DeadlineExceeded, kv.ErrUnavailable, kv.ErrOutcomeUnknown} {
		if errors.Is(err, target) {
			return nil
		}
	}
	return fmt.Errorf("%s: error %w, want the context's or one that matches ErrUnavailable", m.name, err)
}

// recovered waits until the store answers again: a client may need a moment to
// find that out.
func (e *env) recovered(s kv.Store) {
	e.Helper()
	for end := time.Now().Add(e.h.Patience); ; time.Sleep(10 * time.Millisecond) {
		_, err := s.Get(e.ctx, "a")
		if err == nil {
			return
		}
		if time.Now().After(end) {
			e.halt("Get, %v after Back: %v", e.h.Patience, err)
		}
	}
}
