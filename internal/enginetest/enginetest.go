// Package enginetest makes a store of an engine, for tests of engines.
package enginetest

import (
	"context"
	"encoding/json"
	"iter"
	"sync/atomic"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// A Store has the methods of kv's stores over an engine: the checks that
// come before it, and no counters, errors or defaults.
type Store struct {
	Engine engine.Engine
	TTLs   time.Duration // of what Upsert and Insert store
	closed atomic.Bool
}

// Wrap makes a store of an engine, which Close closes.
func Wrap(e engine.Engine) *Store { return &Store{Engine: e} }

func (s *Store) begin(ctx context.Context) error {
	if s.closed.Load() {
		return fault.ErrClosed
	}
	return ctx.Err()
}

// Get returns a document.
func (s *Store) Get(ctx context.Context, id string) (json.RawMessage, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	return s.Engine.Get(ctx, id)
}

// GetMany returns documents, nil for those that are not there.
func (s *Store) GetMany(ctx context.Context, ids []string) ([]json.RawMessage, error) {
	if err := s.begin(ctx); err != nil || len(ids) == 0 {
		return nil, err
	}
	return s.Engine.GetMany(ctx, ids)
}

// Missing returns the ids that are absent.
func (s *Store) Missing(ctx context.Context, ids []string) (missing []string, err error) {
	if err := s.begin(ctx); err != nil || len(ids) == 0 {
		return nil, err
	}
	present, err := s.Engine.Present(ctx, ids)
	for i, there := range present {
		if !there {
			missing = append(missing, ids[i])
		}
	}
	return missing, err
}

// Keys lists the ids.
func (s *Store) Keys(ctx context.Context) iter.Seq2[string, error] {
	if err := s.begin(ctx); err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return s.Engine.Keys(ctx)
}

// Upsert stores documents.
func (s *Store) Upsert(ctx context.Context, byID map[string]json.RawMessage) error {
	return s.UpsertTTL(ctx, byID, s.TTLs)
}

// UpsertTTL stores documents with a time to live.
func (s *Store) UpsertTTL(ctx context.Context, byID map[string]json.RawMessage, ttl time.Duration) error {
	items := engine.Of(byID, ttl)
	if err := s.check(ctx, items); err != nil || len(byID) == 0 {
		return err
	}
	return s.Engine.Upsert(ctx, items)
}

// Insert stores those that are absent, and returns how many.
func (s *Store) Insert(ctx context.Context, byID map[string]json.RawMessage) (int, error) {
	items := engine.Of(byID, s.TTLs)
	if err := s.check(ctx, items); err != nil || len(byID) == 0 {
		return 0, err
	}
	return s.Engine.Insert(ctx, items)
}

func (s *Store) check(ctx context.Context, items engine.Items) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	_, err := engine.CheckAll(items, engine.DefaultMaxValueBytes)
	return err
}

// Delete removes documents, and returns how many there were.
func (s *Store) Delete(ctx context.Context, ids ...string) (int, error) {
	if err := s.begin(ctx); err != nil || len(ids) == 0 {
		return 0, err
	}
	return s.Engine.Delete(ctx, ids)
}

// Drop removes all.
func (s *Store) Drop(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	return s.Engine.Drop(ctx)
}

// TTL returns how long a document has to live.
func (s *Store) TTL(ctx context.Context, id string) (time.Duration, error) {
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	ttls, err := s.Engine.TTLs(ctx, []string{id})
	if err == nil && ttls[0] == engine.Absent {
		err = fault.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return ttls[0], nil
}

// Flush flushes.
func (s *Store) Flush(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	return s.Engine.Flush(ctx)
}

// Ping asks whether the engine works.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	return s.Engine.Ping(ctx)
}

// Close closes the engine, once.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.Engine.Close()
}
