// Package strangers has many callers at one Redis while all goes wrong: they
// leave, connections are killed, servers stop, the link is slow. Each value
// names its id and its version, and each owner of documents knows by a Ledger
// what a read may return. So nobody gets a stranger's value, and nothing that
// was acknowledged is undone.
package strangers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

const (
	perNamespace = 10 // owners, who share what Drop removes
	perOwner     = 4  // documents

	// disturbed is how long faults go on in a round, in the end of which
	// servers are stopped for so long that all who call give up, and settled
	// how long is read after it.
	disturbed = 300 * time.Millisecond
	stopped   = 60 * time.Millisecond
	settled   = 200 * time.Millisecond

	// patience is what callers have at most who have little.
	patience = 20 * time.Millisecond

	// Lease is how long the lease of a computation has to be: less than a round
	// takes. See Ledger.Settle.
	Lease = 200 * time.Millisecond
)

// A Store is a namespace.
type Store interface {
	Get(ctx context.Context, id string) (json.RawMessage, error)
	Upsert(ctx context.Context, items map[string]json.RawMessage) error
	Delete(ctx context.Context, ids ...string) (int, error)
	Drop(ctx context.Context) error
}

// A Namespace is one, and what stores spell in different ways.
type Namespace struct {
	Store
	GetMany func(ctx context.Context, ids []string) ([]json.RawMessage, error)
	// Compute returns a document, or what the function returns, stored. nil:
	// nobody computes.
	Compute func(ctx context.Context, id string, fn func() json.RawMessage) (json.RawMessage, error)
}

// A Run is what is to be done.
type Run struct {
	Owners   int
	Patience time.Duration // of who stays longest; 0: to the end
	Open     func(namespace string) Namespace
	Servers  []*redistest.Server
	Link     *testkit.Link // on the way to the servers; nil: none
	// Go says, after that many rounds and what has come of them, whether there
	// is to be another one.
	Go func(rounds int, r *Report) bool
}

// A Report is what has come of it.
type Report struct {
	Calls, Acknowledged, GaveUp, Failed, Reads atomic.Int64
	Kills, Stops, Spells, Cuts                 atomic.Int64

	mu           sync.Mutex
	wrong, older []string
}

// Wrong returns the values that nobody had written there, and answers that are
// none.
func (r *Report) Wrong() []string { return r.list(&r.wrong) }

// Older returns what was undone.
func (r *Report) Older() []string { return r.list(&r.older) }

func (r *Report) list(which *[]string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), *which...)
}

// note keeps the first finds of a kind.
func (r *Report) note(err error, format string, args ...any) {
	list := &r.wrong
	if errors.Is(err, ErrOlder) {
		list = &r.older
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(*list) < 100 {
		*list = append(*list, fmt.Sprintf(format, args...)+": "+err.Error())
	}
}

func (r *Report) String() string {
	return fmt.Sprintf("%d calls, %d acknowledged, %d gave up, %d failed; %d values read, %d wrong, %d older; %d kills, %d stops, %d slow spells, %d cuts",
		r.Calls.Load(), r.Acknowledged.Load(), r.GaveUp.Load(), r.Failed.Load(), r.Reads.Load(), len(r.Wrong()), len(r.Older()),
		r.Kills.Load(), r.Stops.Load(), r.Spells.Load(), r.Cuts.Load())
}

// answered counts what became of a call, and reports whether it was answered.
// A document that is not there is an answer.
func (r *Report) answered(what string, err error) bool {
	r.Calls.Add(1)
	switch {
	case err == nil, errors.Is(err, fault.ErrNotFound):
		r.Acknowledged.Add(1)
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		r.GaveUp.Add(1)
	case errors.Is(err, fault.ErrUnavailable), errors.Is(err, fault.ErrOutcomeUnknown):
		r.Failed.Add(1)
	default:
		r.note(err, "%s", what)
	}
	return false
}

// Do goes round after round: faults, and callers who may leave; then a barrier,
// behind which nothing that was given up is on the wire; then each owner has one
// write acknowledged, and reads it for a while.
func (run Run) Do(t *testing.T) *Report {
	t.Helper()
	r := new(Report)
	var owners []*owner
	for i := 0; i*perNamespace < run.Owners; i++ {
		owners = append(owners, newGroup(run.Open(fmt.Sprintf("strangers_%d", i)), r, i)...)
	}
	for round := 0; run.Go(round, r); round++ {
		run.disturb(t, r, owners)
		run.clear(t)
		settle(t, owners)
	}
	return r
}

// disturb has the owners call while faults come, and returns when no call is
// under way any more. All who called last gave up, and the servers are stopped.
func (run Run) disturb(t *testing.T, r *Report, owners []*owner) {
	p := &phase{patience: run.Patience, patient: make(chan struct{}), over: make(chan struct{})}
	var calling sync.WaitGroup
	for _, o := range owners {
		calling.Go(func() {
			for !p.isOver() {
				o.call(p)
			}
		})
	}
	run.inject(t, r, time.Now().Add(disturbed-stopped))
	p.leaveSoon()
	for _, s := range run.Servers {
		s.Pause()
	}
	r.Stops.Add(1)
	time.Sleep(stopped) // Who calls now gives up.
	close(p.over)
	calling.Wait()
}

// clear has the servers go on, and takes all that was given up off the wire.
func (run Run) clear(t *testing.T) {
	for _, s := range run.Servers {
		s.Resume()
	}
	if run.Link != nil {
		run.Link.Cut()
		run.Link.SetRate(0)
	}
	for _, s := range run.Servers {
		if err := testkit.KillTCP(t.Context(), s); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// settle has each owner write all that is his, and read it.
func settle(t *testing.T, owners []*owner) {
	var written, reading sync.WaitGroup
	written.Add(len(owners))
	for _, o := range owners {
		reading.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			err := o.settle(ctx)
			written.Done()
			if err != nil {
				t.Errorf("%v", err)
				return
			}
			written.Wait()
			for end := time.Now().Add(settled); time.Now().Before(end); {
				o.readOwn(ctx)
			}
		})
	}
	reading.Wait()
}

// A phase is the disturbed part of a round.
type phase struct {
	patience time.Duration
	patient  chan struct{} // closed when all have little patience
	over     chan struct{}

	mu      sync.Mutex
	staying sync.WaitGroup // calls of those who stay to the end
}

func (p *phase) isOver() bool { return isClosed(p.over) }

// stay reports whether a caller may stay to the end of his call, and then call
// left.
func (p *phase) stay() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if isClosed(p.patient) {
		return false
	}
	p.staying.Add(1)
	return true
}

func (p *phase) left() { p.staying.Done() }

// leaveSoon lets nobody stay from now on, and waits for those who do.
func (p *phase) leaveSoon() {
	p.mu.Lock()
	close(p.patient)
	p.mu.Unlock()
	p.staying.Wait()
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
