// Package lease says who may compute a document: the leases that processes
// share, and those of a process that has its store for itself.
package lease

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// leases are how the users of a backend agree on which of them computes a
// document. A lease belongs to the one who knows its token, and ends by
// itself when its holder does not renew it.
type Leases interface {
	// claim asks for each lease, which is held for the time life then. It is
	// refused if the document is not what it was, see lease.seen.
	Claim(ctx context.Context, asked []Lease, life time.Duration) ([]Claim, error)
	// renew holds the leases for another life, and reports for each whether
	// it was still held.
	Renew(ctx context.Context, held []Lease, life time.Duration) ([]bool, error)
	// settle stores each answer if its lease is still held and the document is
	// what it was or gone, in one atomic step, and releases the lease. A failure is in
	// the element that it concerns.
	Settle(ctx context.Context, answers []Answer) []Settled
	// watch announces that one of the leases may have been released. It may
	// miss some: the caller looks from time to time in any case.
	Watch(ids []string) (changed <-chan struct{}, stop func())
	Close()
}

// PollMost is the longest pause of who waits for a lease, or for a backend
// that keeps them.
const PollMost = 250 * time.Millisecond

// A Lender is an engine that keeps leases for all who share it.
type Lender interface{ Leases() Leases }

// LeasesIn returns those of an engine, which else has one process to itself.
func LeasesIn(e engine.Engine) Leases {
	if l, ok := e.(Lender); ok {
		return l.Leases()
	}
	return localLeasesOf(e)
}

// A lease is the right to compute one document.
type Lease struct {
	ID    string
	Token string // nobody else has it
	Seen  string // the digest of the document to be replaced, "" if there is none
}

// A claim is what came of asking for a lease.
type Claim struct {
	State state
	Value json.RawMessage // if it is there
	Err   error           // the value that is there is corrupt
	Left  time.Duration   // of the lease that another holds
}

type state int

const (
	Granted state = iota
	Busy          // another holds the lease
	There         // the document is there, or is not what it was
	Barren        // somebody found lately that there is no such document
)

// An answer is what a computation has to say about a document.
type Answer struct {
	Lease
	Value json.RawMessage // nil: there is nothing to store
	TTL   time.Duration
	None  time.Duration // how long to remember that there is no such document
}

func (a Answer) Size() int { return len(a.ID) + len(a.Value) }

// settled is what became of an answer.
type Settled struct {
	Stored bool
	Lost   bool            // the lease was no longer held
	Value  json.RawMessage // the document that was there instead; nil: none
	Err    error
}

// Doubt is for what came of repeating an answer whose reply was lost. The
// first attempt may have stored it and released the lease.
func (s Settled) Doubt(a Answer) Settled {
	switch {
	case !s.Lost:
		return s
	case a.Value == nil:
		return Settled{}
	case string(s.Value) == string(a.Value):
		return Settled{Stored: true}
	}
	return Settled{Err: fault.Unknown(errors.New("the reply to storing the computed value was lost"))}
}

// Digest tells documents apart as Redis's scripts do.
func Digest(value json.RawMessage) string {
	sum := sha1.Sum(value)
	return hex.EncodeToString(sum[:])
}

// LocalLeases serve a backend that one process has to itself. Whoever asks
// has been singled out in the process already, so that there is nothing to
// hold.
type LocalLeases struct {
	Get    func(ctx context.Context, id string) (json.RawMessage, error)
	Insert func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) (bool, error)
	Upsert func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) error

	mu   sync.Mutex
	none map[string]time.Time // until when an id is known to have no document
}

// localLeasesOf serves an engine.
func localLeasesOf(e engine.Engine) *LocalLeases {
	return &LocalLeases{
		Get: e.Get,
		Insert: func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) (bool, error) {
			n, err := e.Insert(ctx, engine.List(engine.Item{ID: id, Value: value, TTL: ttl}))
			return n > 0, err
		},
		Upsert: func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) error {
			return e.Upsert(ctx, engine.List(engine.Item{ID: id, Value: value, TTL: ttl}))
		},
	}
}

func (l *LocalLeases) Claim(ctx context.Context, asked []Lease, _ time.Duration) ([]Claim, error) {
	claims := make([]Claim, len(asked))
	for i, a := range asked {
		value, err := l.Get(ctx, a.ID)
		switch {
		case errors.Is(err, fault.ErrNotFound):
			if a.Seen != "" {
				claims[i].State = There // It is gone.
			} else if l.isBarren(a.ID) {
				claims[i].State = Barren
			}
		case errors.Is(err, fault.ErrCorrupt):
			claims[i] = Claim{State: There, Err: err}
		case err != nil:
			return nil, err
		case a.Seen == "" || Digest(value) != a.Seen:
			claims[i] = Claim{State: There, Value: value}
		}
	}
	return claims, nil
}

func (l *LocalLeases) Renew(_ context.Context, held []Lease, _ time.Duration) ([]bool, error) {
	still := make([]bool, len(held))
	for i := range still {
		still[i] = true
	}
	return still, nil
}

func (l *LocalLeases) Settle(ctx context.Context, answers []Answer) []Settled {
	outcome := make([]Settled, len(answers))
	for i, a := range answers {
		switch {
		case a.Value == nil:
			l.remember(a.ID, a.None)
		case a.Seen == "":
			outcome[i] = l.add(ctx, a)
		default:
			outcome[i] = l.replace(ctx, a)
		}
	}
	return outcome
}

// add stores a document that is not there.
func (l *LocalLeases) add(ctx context.Context, a Answer) Settled {
	for {
		stored, err := l.Insert(ctx, a.ID, a.Value, a.TTL)
		if stored || err != nil {
			return Settled{Stored: stored, Err: err}
		}
		value, err := l.Get(ctx, a.ID)
		if !errors.Is(err, fault.ErrNotFound) { // Else it was removed in between.
			return Settled{Value: value, Err: err}
		}
	}
}

// replace stores over the document that was seen. A write of somebody else
// that falls between its two steps is lost, as it would be if it came a moment
// earlier to a plain Upsert.
func (l *LocalLeases) replace(ctx context.Context, a Answer) Settled {
	value, err := l.Get(ctx, a.ID)
	if errors.Is(err, fault.ErrNotFound) { // It has expired.
		return l.add(ctx, a)
	}
	if err != nil || Digest(value) != a.Seen {
		return Settled{Value: value, Err: err}
	}
	err = l.Upsert(ctx, a.ID, a.Value, a.TTL)
	return Settled{Stored: err == nil, Err: err}
}

// barrenMost bounds what LocalLeases remember.
const barrenMost = 10_000

func (l *LocalLeases) remember(id string, life time.Duration) {
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

func (l *LocalLeases) isBarren(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.none[id]
	if ok && !time.Now().Before(until) {
		delete(l.none, id)
		return false
	}
	return ok
}

func (l *LocalLeases) Watch([]string) (<-chan struct{}, func()) { return nil, func() {} }

func (l *LocalLeases) Close() {}

// IsAway reports whether a backend cannot serve now.
func IsAway(err error) bool { return errors.Is(err, fault.ErrUnavailable) }
