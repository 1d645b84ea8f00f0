package kv

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

// leases are how the users of a backend agree on which of them computes a
// document. A lease belongs to the one who knows its token, and ends by
// itself when its holder does not renew it.
type leases interface {
	// claim asks for each lease, which is held for the time life then. It is
	// refused if the document is not what it was, see lease.seen.
	claim(ctx context.Context, asked []lease, life time.Duration) ([]claim, error)
	// renew holds the leases for another life, and reports for each whether
	// it was still held.
	renew(ctx context.Context, held []lease, life time.Duration) ([]bool, error)
	// settle stores each answer if its lease is still held and the document is
	// what it was or gone, in one atomic step, and releases the lease. A failure is in
	// the element that it concerns.
	settle(ctx context.Context, answers []answer) []settled
	// watch announces that one of the leases may have been released. It may
	// miss some: the caller looks from time to time in any case.
	watch(ids []string) (changed <-chan struct{}, stop func())
	close()
}

// pollMost is the longest pause of who waits for a lease, or for a backend
// that keeps them.
const pollMost = 250 * time.Millisecond

// A lender is an engine that keeps leases for all who share it.
type lender interface{ leases() leases }

// leasesIn returns those of an engine, which else has one process to itself.
func leasesIn(e engine) leases {
	if l, ok := e.(lender); ok {
		return l.leases()
	}
	return localLeasesOf(e)
}

// A lease is the right to compute one document.
type lease struct {
	id    string
	token string // nobody else has it
	seen  string // the digest of the document to be replaced, "" if there is none
}

// A claim is what came of asking for a lease.
type claim struct {
	state state
	value json.RawMessage // if it is there
	err   error           // the value that is there is corrupt
	left  time.Duration   // of the lease that another holds
}

type state int

const (
	granted state = iota
	busy          // another holds the lease
	there         // the document is there, or is not what it was
	barren        // somebody found lately that there is no such document
)

// An answer is what a computation has to say about a document.
type answer struct {
	lease
	value json.RawMessage // nil: there is nothing to store
	ttl   time.Duration
	none  time.Duration // how long to remember that there is no such document
}

func (a answer) size() int { return len(a.id) + len(a.value) }

// settled is what became of an answer.
type settled struct {
	stored bool
	lost   bool            // the lease was no longer held
	value  json.RawMessage // the document that was there instead; nil: none
	err    error
}

// doubt is for what came of repeating an answer whose reply was lost. The
// first attempt may have stored it and released the lease.
func (s settled) doubt(a answer) settled {
	switch {
	case !s.lost:
		return s
	case a.value == nil:
		return settled{}
	case string(s.value) == string(a.value):
		return settled{stored: true}
	}
	return settled{err: unknown(errors.New("the reply to storing the computed value was lost"))}
}

// digest tells documents apart as Redis's scripts do.
func digest(value json.RawMessage) string {
	sum := sha1.Sum(value)
	return hex.EncodeToString(sum[:])
}

// localLeases serve a backend that one process has to itself. Whoever asks
// has been singled out in the process already, so that there is nothing to
// hold.
type localLeases struct {
	get    func(ctx context.Context, id string) (json.RawMessage, error)
	insert func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) (bool, error)
	upsert func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) error

	mu   sync.Mutex
	none map[string]time.Time // until when an id is known to have no document
}

// localLeasesOf serves an engine.
func localLeasesOf(e engine) *localLeases {
	return &localLeases{
		get: e.get,
		insert: func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) (bool, error) {
			n, err := e.insert(ctx, itemsOf(item{id, value, ttl}))
			return n > 0, err
		},
		upsert: func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) error {
			return e.upsert(ctx, itemsOf(item{id, value, ttl}))
		},
	}
}

func (l *localLeases) claim(ctx context.Context, asked []lease, _ time.Duration) ([]claim, error) {
	claims := make([]claim, len(asked))
	for i, a := range asked {
		value, err := l.get(ctx, a.id)
		switch {
		case errors.Is(err, ErrNotFound):
			if a.seen != "" {
				claims[i].state = there // It is gone.
			} else if l.isBarren(a.id) {
				claims[i].state = barren
			}
		case errors.Is(err, ErrCorrupt):
			claims[i] = claim{state: there, err: err}
		case err != nil:
			return nil, err
		case a.seen == "" || digest(value) != a.seen:
			claims[i] = claim{state: there, value: value}
		}
	}
	return claims, nil
}

func (l *localLeases) renew(_ context.Context, held []lease, _ time.Duration) ([]bool, error) {
	still := make([]bool, len(held))
	for i := range still {
		still[i] = true
	}
	return still, nil
}

func (l *localLeases) settle(ctx context.Context, answers []answer) []settled {
	outcome := make([]settled, len(answers))
	for i, a := range answers {
		switch {
		case a.value == nil:
			l.remember(a.id, a.none)
		case a.seen == "":
			outcome[i] = l.add(ctx, a)
		default:
			outcome[i] = l.replace(ctx, a)
		}
	}
	return outcome
}

// add stores a document that is not there.
func (l *localLeases) add(ctx context.Context, a answer) settled {
	for {
		stored, err := l.insert(ctx, a.id, a.value, a.ttl)
		if stored || err != nil {
			return settled{stored: stored, err: err}
		}
		value, err := l.get(ctx, a.id)
		if !errors.Is(err, ErrNotFound) { // Else it was removed in between.
			return settled{value: value, err: err}
		}
	}
}

// replace stores over the document that was seen. A write of somebody else
// that falls between its two steps is lost, as it would be if it came a moment
// earlier to a plain Upsert.
func (l *localLeases) replace(ctx context.Context, a answer) settled {
	value, err := l.get(ctx, a.id)
	if errors.Is(err, ErrNotFound) { // It has expired.
		return l.add(ctx, a)
	}
	if err != nil || digest(value) != a.seen {
		return settled{value: value, err: err}
	}
	err = l.upsert(ctx, a.id, a.value, a.ttl)
	return settled{stored: err == nil, err: err}
}

// barrenMost bounds what localLeases remember.
const barrenMost = 10_000

func (l *localLeases) remember(id string, life time.Duration) {
	if life <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.none == nil || len(l.none) >= barrenMost {
		l.none = make(map[string]time.Time)
	}
	l.none[id] = time.Now().Add(life)
}

func (l *localLeases) isBarren(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.none[id]
	if ok && !time.Now().Before(until) {
		delete(l.none, id)
		return false
	}
	return ok
}

func (l *localLeases) watch([]string) (<-chan struct{}, func()) { return nil, func() {} }

func (l *localLeases) close() {}

// isAway reports whether a backend cannot serve now.
func isAway(err error) bool { return errors.Is(err, ErrUnavailable) }
