// Package enginetest makes a store of an engine, for tests of engines.
package kv

import (
	"context"
	"encoding/json"
	"iter"
	"sync/atomic"
	"time"
)

// A testStore has the methods of kv's stores over an engine: the checks that
// come before it, and no counters, errors or defaults.
type testStore struct {
	Engine engine
	TTLs   time.Duration // of what Upsert and Insert store
	closed atomic.Bool
}

// wrapEngine makes a store of an engine, which Close closes.
func wrapEngine(e engine) *testStore { return &testStore{Engine: e} }

func (s *testStore) begin(ctx context.Context) error {
	if s.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// Get returns a document.
func (s *testStore) Get(ctx context.Context, id string) (json.RawMessage, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	return s.Engine.get(ctx, id)
}

// GetMany returns documents, nil for those that are not there.
func (s *testStore) GetMany(ctx context.Context, ids []string) ([]json.RawMessage, error) {
	if err := s.begin(ctx); err != nil || len(ids) == 0 {
		return nil, err
	}
	return s.Engine.getMany(ctx, ids)
}

// Missing returns the ids that are absent.
func (s *testStore) Missing(ctx context.Context, ids []string) (missing []string, err error) {
	if err := s.begin(ctx); err != nil || len(ids) == 0 {
		return nil, err
	}
	present, err := s.Engine.present(ctx, ids)
	for i, there := range present {
		if !there {
			missing = append(missing, ids[i])
		}
	}
	return missing, err
}

// Keys lists the ids.
func (s *testStore) Keys(ctx context.Context) iter.Seq2[string, error] {
	if err := s.begin(ctx); err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return s.Engine.keys(ctx)
}

// Upsert stores documents.
func (s *testStore) Upsert(ctx context.Context, byID map[string]json.RawMessage) error {
	return s.UpsertTTL(ctx, byID, s.TTLs)
}

// UpsertTTL stores documents with a time to live.
func (s *testStore) UpsertTTL(ctx context.Context, byID map[string]json.RawMessage, ttl time.Duration) error {
	items := itemsIn(byID, ttl)
	if err := s.check(ctx, items); err != nil || len(byID) == 0 {
		return err
	}
	return s.Engine.upsert(ctx, items)
}

// Insert stores those that are absent, and returns how many.
func (s *testStore) Insert(ctx context.Context, byID map[string]json.RawMessage) (int, error) {
	items := itemsIn(byID, s.TTLs)
	if err := s.check(ctx, items); err != nil || len(byID) == 0 {
		return 0, err
	}
	return s.Engine.insert(ctx, items)
}

func (s *testStore) check(ctx context.Context, items items) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	_, err := checkAll(items, defaultMaxValueBytes)
	return err
}

// Delete removes documents, and returns how many there were.
func (s *testStore) Delete(ctx context.Context, ids ...string) (int, error) {
	if err := s.begin(ctx); err != nil || len(ids) == 0 {
		return 0, err
	}
	return s.Engine.delete(ctx, ids)
}

// Drop removes all.
func (s *testStore) Drop(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	return s.Engine.drop(ctx)
}

// TTL returns how long a document has to live.
func (s *testStore) TTL(ctx context.Context, id string) (time.Duration, error) {
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	ttls, err := s.Engine.ttls(ctx, []string{id})
	if err == nil && ttls[0] == absent {
		err = ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return ttls[0], nil
}

// Flush flushes.
func (s *testStore) Flush(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	return s.Engine.flush(ctx)
}

// Ping asks whether the engine works.
func (s *testStore) Ping(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	return s.Engine.ping(ctx)
}

// Close closes the engine, once.
func (s *testStore) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.Engine.close()
}
