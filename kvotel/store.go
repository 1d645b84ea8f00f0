package kvotel

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/ngraf/kv"
)

// hit is the one attribute that the conventions have no name for.
const hit = attribute.Key("kv.hit")

// A store tells of the nine methods, Close apart, which has no context that
// its span could belong to.
type store struct {
	kv.Store
	*tracing
}

// Unwrap makes what the wrapped store has visible to [kv.As].
func (s *store) Unwrap() kv.Store { return s.Store }

// MapID lets Compute work on the wrapped store, see [kv.IDMapper].
func (s *store) MapID(id string) string { return id }

func (s *store) Get(ctx context.Context, id string) (value json.RawMessage, err error) {
	ctx, c := s.begin(ctx, "get", 1)
	defer func() { c.end(err) }()
	value, err = s.Store.Get(ctx, id)
	if err == nil || errors.Is(err, kv.ErrNotFound) {
		c.span.SetAttributes(hit.Bool(err == nil))
	}
	return value, err
}

func (s *store) GetMany(ctx context.Context, ids []string, fields ...string) (values []json.RawMessage, err error) {
	ctx, c := s.begin(ctx, "getmany", len(ids))
	defer func() { c.end(err) }()
	values, err = s.Store.GetMany(ctx, ids, fields...)
	found := 0
	for _, v := range values {
		if v != nil {
			found++
		}
	}
	c.returned(found)
	return values, err
}

func (s *store) Missing(ctx context.Context, ids []string) (missing []string, err error) {
	ctx, c := s.begin(ctx, "missing", len(ids))
	defer func() { c.end(err) }()
	missing, err = s.Store.Missing(ctx, ids)
	c.returned(len(missing))
	return missing, err
}

// Keys has a span for each time that the sequence is run, with the loop's body
// in it.
func (s *store) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		ctx, c := s.begin(ctx, "keys", 1)
		n, failed := 0, error(nil)
		defer func() {
			c.returned(n)
			c.end(failed)
		}()
		for id, err := range s.Store.Keys(ctx) {
			if failed = err; err == nil {
				n++
			}
			if !yield(id, err) {
				return
			}
		}
	}
}

func (s *store) Upsert(ctx context.Context, items map[string]json.RawMessage) (err error) {
	ctx, c := s.begin(ctx, "upsert", len(items))
	defer func() { c.end(err) }()
	return s.Store.Upsert(ctx, items)
}

func (s *store) Delete(ctx context.Context, ids ...string) (n int, err error) {
	ctx, c := s.begin(ctx, "delete", len(ids))
	defer func() { c.end(err) }()
	return s.Store.Delete(ctx, ids...)
}

func (s *store) Drop(ctx context.Context) (err error) {
	ctx, c := s.begin(ctx, "drop", 1)
	defer func() { c.end(err) }()
	return s.Store.Drop(ctx)
}

func (s *store) Flush(ctx context.Context) (err error) {
	ctx, c := s.begin(ctx, "flush", 1)
	defer func() { c.end(err) }()
	return s.Store.Flush(ctx)
}

type inserter struct {
	inner   kv.Inserter
	tracing *tracing
}

func (i inserter) Insert(ctx context.Context, items map[string]json.RawMessage) (n int, err error) {
	ctx, c := i.tracing.begin(ctx, "insert", len(items))
	defer func() { c.end(err) }()
	return i.inner.Insert(ctx, items)
}

type expirer struct {
	inner   kv.Expirer
	tracing *tracing
}

func (e expirer) TTL(ctx context.Context, id string) (ttl time.Duration, err error) {
	ctx, c := e.tracing.begin(ctx, "ttl", 1)
	defer func() { c.end(err) }()
	return e.inner.TTL(ctx, id)
}

func (e expirer) UpsertTTL(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) (err error) {
	ctx, c := e.tracing.begin(ctx, "upsertttl", len(items))
	defer func() { c.end(err) }()
	return e.inner.UpsertTTL(ctx, items, ttl)
}
