package leaktest

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/ngraf/kv"
)

// A watched store tells its watch of each id and value, and of each error.
type watched struct {
	kv.Store
	kv.Inserter
	kv.Expirer
	w       *Watch
	closing func()
}

// Wrap returns a store that tells w of each id, value and error. s has the
// optional methods of a built-in store. Before it is closed, closing is called,
// unless it is nil.
func (w *Watch) Wrap(s kv.Store, closing func()) kv.Store {
	if closing == nil {
		closing = func() {}
	}
	return watched{s, s.(kv.Inserter), s.(kv.Expirer), w, closing}
}

func (s watched) Close() error {
	s.closing()
	return s.failed(s.Store.Close())
}
func (s watched) Unwrap() kv.Store { return s.Store }

func (s watched) failed(err error) error {
	if err != nil {
		s.w.Say(err.Error())
		s.w.Say(fmt.Sprintf("%+v %#v", err, err))
	}
	return err
}

func (s watched) Get(ctx context.Context, id string) (json.RawMessage, error) {
	s.w.Hide(id)
	v, err := s.Store.Get(ctx, id)
	return v, s.failed(err)
}

func (s watched) GetMany(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
	for _, id := range ids {
		s.w.Hide(id)
	}
	v, err := s.Store.GetMany(ctx, ids, fields...)
	return v, s.failed(err)
}

func (s watched) Missing(ctx context.Context, ids []string) ([]string, error) {
	for _, id := range ids {
		s.w.Hide(id)
	}
	v, err := s.Store.Missing(ctx, ids)
	return v, s.failed(err)
}

func (s watched) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for id, err := range s.Store.Keys(ctx) {
			if !yield(id, s.failed(err)) {
				return
			}
		}
	}
}

func (s watched) Upsert(ctx context.Context, items map[string]json.RawMessage) error {
	s.w.HideItems(items)
	return s.failed(s.Store.Upsert(ctx, items))
}

func (s watched) Delete(ctx context.Context, ids ...string) (int, error) {
	for _, id := range ids {
		s.w.Hide(id)
	}
	n, err := s.Store.Delete(ctx, ids...)
	return n, s.failed(err)
}

func (s watched) Insert(ctx context.Context, items map[string]json.RawMessage) (int, error) {
	s.w.HideItems(items)
	n, err := s.Inserter.Insert(ctx, items)
	return n, s.failed(err)
}

func (s watched) TTL(ctx context.Context, id string) (time.Duration, error) {
	s.w.Hide(id)
	ttl, err := s.Expirer.TTL(ctx, id)
	return ttl, s.failed(err)
}

func (s watched) UpsertTTL(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
	s.w.HideItems(items)
	return s.failed(s.Expirer.UpsertTTL(ctx, items, ttl))
}
