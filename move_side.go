// Package move has the work of Migrate, Verify, Export, Import and
// ImportPython: documents go from one store to another, or to a stream and
// back. What callers see of it is in kv.
package kv

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"sync"
	"time"
)

// A side is one of the two stores between which documents are moved.
type side struct {
	store   anyStore
	expirer expirer // nil: the store knows no times to live

	// What only a built-in store has; engine is nil for another.
	engine   engine
	begin    func(ctx context.Context, write bool) error                              // why a call cannot start
	fill     func(ctx context.Context, items []item, replace bool) (n int, err error) // checked and counted
	fail     func(op string, err error) error                                         // as one of the store's calls fails; nil stays nil
	ttl      time.Duration                                                            // of new documents
	maxValue int64

	namespace string                 // of a built-in store or a wrapper of one
	cause     func(err error) string // the text of an error, without the call that failed
}

// An anyStore is what is asked of a store of any kind. See kv.Store.
type anyStore interface {
	Get(ctx context.Context, id string) (json.RawMessage, error)
	GetMany(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error)
	Missing(ctx context.Context, ids []string) ([]string, error)
	Keys(ctx context.Context) iter.Seq2[string, error]
	Upsert(ctx context.Context, items map[string]json.RawMessage) error
	Delete(ctx context.Context, ids ...string) (int, error)
	Flush(ctx context.Context) error
	Close() error
}

// An expirer is what is asked of a store with times to live. See kv.Expirer.
type expirer interface {
	TTL(ctx context.Context, id string) (time.Duration, error)
	UpsertTTL(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error
}

// named says of which store an error is.
func (s *side) named(which string, err error) error {
	return veil(which+": "+s.cause(err), err)
}

// values is GetMany, which of a built-in store neither counts nor goes through
// the client-side cache: nobody asked for these documents, and so they are no
// part of a hit rate.
func (s *side) values(ctx context.Context, ids []string) ([]json.RawMessage, error) {
	if s.engine == nil {
		return s.store.GetMany(ctx, ids)
	}
	if err := s.begin(ctx, false); err != nil {
		return nil, s.fail("getmany", err)
	}
	get := s.engine.getMany
	if e, ok := s.engine.(bulkReader); ok {
		get = e.readMany
	}
	found, err := get(ctx, ids)
	return found, s.fail("getmany", err)
}

// lives returns the times to live of ids, absent for those that are not there.
func (s *side) lives(ctx context.Context, ids []string) ([]time.Duration, error) {
	if s.engine != nil {
		ttls, err := s.engine.ttls(ctx, ids)
		return ttls, s.fail("ttl", err)
	}
	ttls := make([]time.Duration, len(ids))
	if s.expirer == nil {
		return ttls, nil
	}
	var running sync.WaitGroup
	turn := make(chan struct{}, 16)
	errs := make([]error, len(ids))
	for i, id := range ids {
		turn <- struct{}{}
		running.Go(func() {
			defer func() { <-turn }()
			ttls[i], errs[i] = s.expirer.TTL(ctx, id)
			if errors.Is(errs[i], ErrNotFound) {
				ttls[i], errs[i] = absent, nil
			}
		})
	}
	running.Wait()
	return ttls, errors.Join(errs...)
}

// missing is Missing, but an id that no store accepts is not missed.
func (s *side) missing(ctx context.Context, ids []string) ([]string, error) {
	good := make([]string, 0, len(ids))
	for _, id := range ids {
		if checkID(id) == nil {
			good = append(good, id)
		}
	}
	return s.store.Missing(ctx, good)
}

// put stores items with the times to live that they have, and returns how
// many. Unless replace is set, it leaves those alone whose id is present: in
// one atomic step on the built-in backends, and between looking and writing
// on others. The built-in backends keep the order of items.
func (s *side) put(ctx context.Context, items []item, replace bool) (int, error) {
	if s.fill != nil {
		return s.fill(ctx, items, replace)
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
		if s.expirer != nil {
			err = s.expirer.UpsertTTL(ctx, group, life)
		} else {
			err = s.store.Upsert(ctx, group)
		}
		if err != nil {
			return n, err
		}
		n += len(group)
	}
	return n, nil
}

// lacks returns those of items whose id is not there.
func (s *side) lacks(ctx context.Context, items []item) ([]item, error) {
	ids := make([]string, len(items))
	for i, it := range items {
		ids[i] = it.id
	}
	missing, err := s.store.Missing(ctx, ids)
	if err != nil {
		return nil, err
	}
	free := make(map[string]bool, len(missing))
	for _, id := range missing {
		free[id] = true
	}
	kept := make([]item, 0, len(missing))
	for _, it := range items {
		if free[it.id] {
			kept = append(kept, it)
		}
	}
	return kept, nil
}

// byLife groups items by time to live, to the second, so that a page of caches
// is one call or a few.
func byLife(items []item) map[time.Duration]map[string]json.RawMessage {
	groups := make(map[time.Duration]map[string]json.RawMessage)
	for _, it := range items {
		life := it.ttl
		if life > time.Second {
			life = life.Round(time.Second)
		}
		if groups[life] == nil {
			groups[life] = make(map[string]json.RawMessage)
		}
		groups[life][it.id] = it.value
	}
	return groups
}
