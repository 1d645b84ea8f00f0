package lease

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonscan"
)

// Local are the leases of a backend that one process has to itself. Whoever asks
// has been singled out in the process already, so that there is nothing to
// hold, and nobody waits.
type Local struct {
	Get    func(ctx context.Context, id string) (json.RawMessage, error)
	Insert func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) (bool, error)
	swap   engine.Swapper // nil: no document is replaced

	mu   sync.Mutex
	none map[string]time.Time // until when an id is known to have no document
}

// localOf serves an engine.
func localOf(e engine.Engine) *Local {
	swap, _ := e.(engine.Swapper)
	return &Local{
		Get: e.Get,
		Insert: func(ctx context.Context, id string, value json.RawMessage, ttl time.Duration) (bool, error) {
			n, err := e.Insert(ctx, engine.List(engine.Item{ID: id, Value: value, TTL: ttl}))
			return n > 0, err
		},
		swap: swap,
	}
}

// Claim grants what is not there, or is what it was.
func (l *Local) Claim(ctx context.Context, asked []Lease, _ time.Duration) []Claim {
	claims := make([]Claim, len(asked))
	for i, a := range asked {
		value, err := l.Get(ctx, a.ID)
		gone := errors.Is(err, fault.ErrNotFound)
		switch {
		case err != nil && !gone:
			claims[i].Err = err
		case gone && a.Seen == nil && l.isBarren(a.ID):
			claims[i].State = Barren
		case gone == (a.Seen == nil) && (gone || same(value, a.Seen)):
			claims[i].State = Granted
		default:
			claims[i] = Claim{State: There, Value: value}
		}
	}
	return claims
}

// same reports whether two texts are the same but for insignificant white
// space, which compacting the files changes.
func same(a, b json.RawMessage) bool {
	return bytes.Equal(a, b) || bytes.Equal(jsonscan.AppendCompact(nil, a), jsonscan.AppendCompact(nil, b))
}

// Settle stores the answers, one by one.
func (l *Local) Settle(ctx context.Context, answers []Answer) []Settled {
	outcome := make([]Settled, len(answers))
	for i, a := range answers {
		switch {
		case a.Value == nil && a.Then == None:
			l.remember(a.ID, a.For)
		case a.Value == nil:
		case a.Seen == nil:
			outcome[i] = l.add(ctx, a)
		case l.swap != nil:
			it := engine.Item{ID: a.ID, Value: a.Value, TTL: a.TTL}
			stored, err := l.swap.Swap(ctx, it, func(value json.RawMessage) bool { return same(value, a.Seen) })
			outcome[i] = Settled{Stored: stored, Err: err}
		}
	}
	return outcome
}

// add stores a document that is not there.
func (l *Local) add(ctx context.Context, a Answer) Settled {
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

// barrenMost bounds what Local remembers.
const barrenMost = 10_000

func (l *Local) remember(id string, life time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.none == nil || len(l.none) >= barrenMost {
		l.none = make(map[string]time.Time)
	}
	l.none[id] = time.Now().Add(life)
}

func (l *Local) isBarren(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.none[id])
}

// Look is for those who wait.
func (l *Local) Look(_ context.Context, waiting []Lease) ([]bool, error) {
	return make([]bool, len(waiting)), nil
}

// Watch tells nothing: nobody holds a lease against another.
func (l *Local) Watch([]string) Watch { return silent{} }

type silent struct{}

func (silent) Wake() <-chan struct{}        { return nil }
func (silent) News() ([]string, bool, bool) { return nil, false, true }
func (silent) Stop()                        {}

// Close does nothing.
func (l *Local) Close() {}
