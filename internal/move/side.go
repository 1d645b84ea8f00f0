// Package move has the work of Migrate, Verify, Export, Import and
// ImportPython: documents go from one store to another, or to a stream and
// back. What callers see of it is in kvmove.
package move

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// A Side is one of the two stores between which documents are moved.
type Side struct {
	Store   Store
	Expirer Expirer // nil: the store knows no times to live

	// What only a built-in store has; Engine is nil for another.
	Engine engine.Engine
	Begin  func(ctx context.Context, write bool) error                                     // why a call cannot start
	Fill   func(ctx context.Context, items []engine.Item, replace bool) (n int, err error) // checked and counted
	Fail   func(op string, err error) error                                                // as one of the store's calls fails; nil stays nil
	TTL    time.Duration                                                                   // of new documents

	// What also a wrapper of one has.
	Namespace string
	MaxValue  int64

	Cause func(err error) string // the text of an error, without the call that failed
}

// A Sided store is a built-in one, and shows what lies behind its nine methods.
// A wrapper of one is not: what it does to a call would be passed by.
type Sided interface{ Side() *Side }

// SideOf returns a store as a side, and nil for none. S is kv.Store, through
// whose wrappers it looks for the namespace and for times to live.
func SideOf[S Store](s S) *Side {
	if any(s) == nil {
		return nil
	}
	if own, ok := any(s).(Sided); ok {
		return own.Side()
	}
	d := &Side{Store: s}
	d.Expirer, _ = within[Expirer](s)
	if inner, ok := within[Sided](s); ok {
		own := inner.Side()
		d.Namespace, d.MaxValue = own.Namespace, own.MaxValue
	}
	return d
}

// within is kv.As.
func within[T any, S Store](s S) (T, bool) {
	for {
		if t, ok := any(s).(T); ok {
			return t, true
		}
		w, ok := any(s).(interface{ Unwrap() S })
		if !ok || any(w.Unwrap()) == nil {
			var none T
			return none, false
		}
		s = w.Unwrap()
	}
}

// A Store is what is asked of a store of any kind. See kv.Store.
type Store interface {
	Get(ctx context.Context, id string) (json.RawMessage, error)
	GetMany(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error)
	Missing(ctx context.Context, ids []string) ([]string, error)
	Keys(ctx context.Context) iter.Seq2[string, error]
	Upsert(ctx context.Context, items map[string]json.RawMessage) error
	Delete(ctx context.Context, ids ...string) (int, error)
	Flush(ctx context.Context) error
	Close() error
}

// An Expirer is what is asked of a store with times to live. See kv.Expirer.
type Expirer interface {
	TTL(ctx context.Context, id string) (time.Duration, error)
	UpsertTTL(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error
}

// named says of which store an error is.
func (s *Side) named(which string, err error) error {
	return fault.Veil(which+": "+s.Cause(err), err)
}

// values is GetMany, which of a built-in store neither counts nor goes through
// the client-side cache: nobody asked for these documents, and so they are no
// part of a hit rate.
func (s *Side) values(ctx context.Context, ids []string) ([]json.RawMessage, error) {
	if s.Engine == nil {
		return s.Store.GetMany(ctx, ids)
	}
	if err := s.Begin(ctx, false); err != nil {
		return nil, s.Fail("getmany", err)
	}
	get := s.Engine.GetMany
	if e, ok := s.Engine.(engine.BulkReader); ok {
		get = e.ReadMany
	}
	found, err := get(ctx, ids)
	return found, s.Fail("getmany", err)
}

// lives returns the times to live of ids, engine.Absent for those that are not there.
func (s *Side) lives(ctx context.Context, ids []string) ([]time.Duration, error) {
	if s.Engine != nil {
		ttls, err := s.Engine.TTLs(ctx, ids)
		return ttls, s.Fail("ttl", err)
	}
	ttls := make([]time.Duration, len(ids))
	if s.Expirer == nil {
		return ttls, nil
	}
	var running sync.WaitGroup
	turn := make(chan struct{}, 16)
	errs := make([]error, len(ids))
	for i, id := range ids {
		turn <- struct{}{}
		running.Go(func() {
			defer func() { <-turn }()
			ttls[i], errs[i] = s.Expirer.TTL(ctx, id)
			if errors.Is(errs[i], fault.ErrNotFound) {
				ttls[i], errs[i] = engine.Absent, nil
			}
		})
	}
	running.Wait()
	return ttls, errors.Join(errs...)
}

// missing is Missing, but an id that no store accepts is not missed.
func (s *Side) missing(ctx context.Context, ids []string) ([]string, error) {
	good := make([]string, 0, len(ids))
	for _, id := range ids {
		if engine.CheckID(id) == nil {
			good = append(good, id)
		}
	}
	return s.Store.Missing(ctx, good)
}

// put stores items with the times to live that they have, and returns how
// many. Unless replace is set, it leaves those alone whose id is present: in
// one atomic step on the built-in backends, and between looking and writing
// on others. The built-in backends keep the order of items.
func (s *Side) put(ctx context.Context, items []engine.Item, replace bool) (int, error) {
	if s.Fill != nil {
		return s.Fill(ctx, items, replace)
	}
	if !replace {
		var err error
		if items, err = s.lacks(ctx, items); err != nil {
			return 0, err
		}
	}
	n := 0
	for life, group := range byLife(items) {
		var err error
		if s.Expirer != nil {
			err = s.Expirer.UpsertTTL(ctx, group, life)
		} else {
			err = s.Store.Upsert(ctx, group)
		}
		if err != nil {
			return n, err
		}
		n += len(group)
	}
	return n, nil
}

// lacks returns those of items whose id is not there.
func (s *Side) lacks(ctx context.Context, items []engine.Item) ([]engine.Item, error) {
	ids := make([]string, len(items))
	for i, it := range items {
		ids[i] = it.ID
	}
	missing, err := s.Store.Missing(ctx, ids)
	if err != nil {
		return nil, err
	}
	free := make(map[string]bool, len(missing))
	for _, id := range missing {
		free[id] = true
	}
	kept := make([]engine.Item, 0, len(missing))
	for _, it := range items {
		if free[it.ID] {
			kept = append(kept, it)
		}
	}
	return kept, nil
}

// byLife groups items by time to live, to the second, so that a page of caches
// is one call or a few.
func byLife(items []engine.Item) map[time.Duration]map[string]json.RawMessage {
	groups := make(map[time.Duration]map[string]json.RawMessage)
	for _, it := range items {
		life := it.TTL
		if life > time.Second {
			life = life.Round(time.Second)
		}
		if groups[life] == nil {
			groups[life] = make(map[string]json.RawMessage)
		}
		groups[life][it.ID] = it.Value
	}
	return groups
}
