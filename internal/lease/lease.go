// Package lease says who may compute a document, or do anything else that one
// of many is to do: the leases that processes share, and those of a process
// that has its store for itself.
package lease

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// Leases are how the users of a backend agree on which of them computes a
// document. A lease belongs to the one who knows its token, and ends by
// itself when its holder does not renew it.
type Leases interface {
	// Claim asks for each lease, which is held for the time life then. It is
	// refused if the document is not what it was, see Lease.Seen. A failure is
	// in the element that it concerns, whose lease may be held.
	Claim(ctx context.Context, asked []Lease, life time.Duration) []Claim
	// Settle does for each answer, in one atomic step: it stores the value if
	// the document is what it was, and makes of the lease what the answer
	// says if it is still held. A lease that is not held keeps an answer from
	// being stored only if it may have been before. A failure is in the
	// element that it concerns.
	Settle(ctx context.Context, answers []Answer) []Settled
	// Look reports for each lease that another holds whether to claim it: it
	// has ended, or the document is there.
	Look(ctx context.Context, waiting []Lease) ([]bool, error)
	// Watch tells of leases that end, until it is stopped.
	Watch(ids []string) Watch
	Close()
}

// A Watch tells who waits that leases have ended.
type Watch interface {
	// Wake gets a token when there is something new.
	Wake() <-chan struct{}
	// News returns the ids whose leases have ended since the last call. If all
	// is set, any may have. While it is steady, none is missed but by
	// a connection that hangs.
	News() (ids []string, all, steady bool)
	Stop()
}

// PollMost is the longest pause of who waits for a lease without being told, or
// for a backend that keeps them.
const PollMost = 250 * time.Millisecond

// A Lender is an engine that keeps leases for all who share it.
type Lender interface{ Leases() Leases }

// Of returns the leases of an engine, which serves one process alone unless it
// is a Lender.
func Of(e engine.Engine) Leases {
	if l, ok := e.(Lender); ok {
		return l.Leases()
	}
	return localOf(e)
}

// A Lease is the right to compute one document.
type Lease struct {
	ID    string
	Token string          // nobody else has it
	Seen  json.RawMessage // the document to be replaced; nil: there is none

	// Of who waits.
	Holder string // what the holder was when it was refused
	Most   int    // failures in a row after which it is granted beside that of another; 0: never
}

// A Claim is what came of asking for a lease.
type Claim struct {
	State  State
	Value  json.RawMessage // There: the document, nil if it is gone
	Holder string          // Busy
	Left   time.Duration   // Busy: until the lease ends, if it is not renewed
	Fails  int             // Busy: how many have failed in a row
	Err    error           // Failed
}

// A State is an answer to who asks for a lease.
type State int

const (
	Failed  State = iota // see Claim.Err
	Granted              // it is held now
	Beside               // another holds it, and so many have failed that nobody shall wait for it
	Busy                 // another holds it
	There                // the document is there, or is not what it was
	Barren               // somebody found lately that there is no such document
)

// An Answer is what a computation has to say about a document.
type Answer struct {
	Lease
	Value  json.RawMessage // nil: there is nothing to store
	TTL    time.Duration   // of the document
	Then   After           // what becomes of the lease
	For    time.Duration   // how long it is that
	Unsure bool            // an attempt to settle this may have done it already
}

// An After is what a lease becomes.
type After string

const (
	Released After = ""       // there is none
	Told     After = "failed" // there is none, and those who wait are told of a failure
	None     After = "none"   // the knowledge that there is no such document
	Held     After = "held"   // renewed
)

// Size returns how many bytes the id and the value have.
func (a Answer) Size() int { return len(a.ID) + len(a.Value) }

// Settled is what became of an answer.
type Settled struct {
	Stored bool
	Lost   bool            // the lease was no longer held
	Value  json.RawMessage // the document that was there instead; nil: none
	Err    error
	Unsure bool // with Err: it may have been done
}

// Doubt is for what came of settling an answer that was Unsure. The first
// attempt may have stored it and released the lease.
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

// IsAway reports whether a backend cannot serve now.
func IsAway(err error) bool { return errors.Is(err, fault.ErrUnavailable) }
