package kv

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/move"
	"github.com/ngraf/kv/internal/once"
)

// A store is a built-in backend: an engine behind the checks, the errors and
// the counters that all engines share.
type store struct {
	engine    engine.Engine
	backend   string
	namespace string
	ttl       time.Duration // of new documents
	maxValue  int64
	readonly  bool
	flights   *once.Flights // of Compute, shared by all stores of the engine

	closed  atomic.Bool
	release func() error // gives the engine back to the factory

	counters counters
	flushed  atomic.Pointer[FlushStats]
}

var (
	_ Store    = (*store)(nil)
	_ Pinger   = (*store)(nil)
	_ Inserter = (*store)(nil)
	_ Expirer  = (*store)(nil)
	_ Statser  = (*store)(nil)
	_ Checker  = (*store)(nil)

	_ move.Sided = (*store)(nil)
)

func (s *store) Get(ctx context.Context, id string) (value json.RawMessage, err error) {
	c := begun(methodGet)
	defer s.end(c, &err)
	if err = s.begin(ctx); err == nil {
		err = s.checkID(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	s.counters.gets.Add(1)
	value, err = s.engine.Get(ctx, id)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			s.counters.misses.Add(1)
		}
		return nil, fault.WithID(id, err)
	}
	s.counters.hits.Add(1)
	s.counters.read.Add(int64(len(value)))
	return value, nil
}

func (s *store) GetMany(ctx context.Context, ids []string, fields ...string) (values []json.RawMessage, err error) {
	c := begun(methodGetMany)
	defer s.end(c, &err)
	if err = s.begin(ctx); err == nil {
		err = s.checkIDs(ctx, ids)
	}
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return []json.RawMessage{}, nil
	}
	s.counters.methods[methodGetMany].batch.number(len(ids))
	s.counters.gets.Add(int64(len(ids)))
	values, err = s.engine.GetMany(ctx, ids)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return nil, err
	}
	hits, misses, read := int64(0), int64(0), 0
	for i, value := range values {
		if value == nil {
			misses++
			continue
		}
		hits++
		read += len(value)
		if len(fields) > 0 {
			values[i] = jsonscan.Project(nil, value, fields)
		}
	}
	s.counters.hits.Add(hits)
	if err == nil { // Else some of them are corrupt.
		s.counters.misses.Add(misses)
	}
	s.counters.read.Add(int64(read))
	return values, err
}

func (s *store) Missing(ctx context.Context, ids []string) (_ []string, err error) {
	c := begun(methodMissing)
	defer s.end(c, &err)
	if err = s.begin(ctx); err == nil {
		err = s.checkIDs(ctx, ids)
	}
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	s.counters.methods[methodMissing].batch.number(len(ids))
	present, err := s.engine.Present(ctx, ids)
	if err != nil {
		return nil, err
	}
	missing, seen := []string{}, make(map[string]struct{})
	for i, id := range ids {
		if _, again := seen[id]; !present[i] && !again {
			seen[id] = struct{}{}
			missing = append(missing, id)
		}
	}
	return missing, nil
}

func (s *store) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.list(ctx, yield); err != nil {
			yield("", err)
		}
	}
}

func (s *store) list(ctx context.Context, yield func(string, error) bool) (err error) {
	c := begun(methodKeys)
	defer s.end(c, &err)
	if err := s.begin(ctx); err != nil {
		return err
	}
	for id, err := range s.engine.Keys(ctx) {
		if err == nil {
			err = s.begin(ctx) // The loop's body may have closed the store.
		}
		if err != nil {
			return err
		}
		if !yield(id, nil) {
			return nil
		}
	}
	return nil
}

func (s *store) Upsert(ctx context.Context, items map[string]json.RawMessage) (err error) {
	c := begun(methodUpsert)
	defer s.end(c, &err)
	return s.upsert(ctx, c.method, items, s.ttl)
}

func (s *store) UpsertTTL(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) (err error) {
	c := begun(methodUpsertTTL)
	defer s.end(c, &err)
	if ttl < 0 {
		return fault.Invalidf("the time to live %v is negative; 0 means for ever", ttl)
	}
	return s.upsert(ctx, c.method, items, engine.RoundTTL(ttl))
}

func (s *store) upsert(ctx context.Context, m method, byID map[string]json.RawMessage, ttl time.Duration) error {
	items := engine.Of(byID, ttl)
	bytes, err := s.checkItems(ctx, items)
	if err != nil || items.Len() == 0 {
		return err
	}
	s.counters.methods[m].batch.number(items.Len())
	if err := s.engine.Upsert(ctx, items); err != nil {
		return err
	}
	s.stored(items, bytes, items.Len())
	return nil
}

// stored counts the n of some items that were stored. Which they are is not
// known of an Insert, so their bytes are then a guess.
func (s *store) stored(items engine.Items, bytes int64, n int) {
	s.counters.upserts.Add(int64(n))
	s.counters.written.Add(bytes * int64(n) / int64(items.Len()))
}

func (s *store) Insert(ctx context.Context, byID map[string]json.RawMessage) (n int, err error) {
	c := begun(methodInsert)
	defer s.end(c, &err)
	items := engine.Of(byID, s.ttl)
	bytes, err := s.checkItems(ctx, items)
	if err != nil || items.Len() == 0 {
		return 0, err
	}
	s.counters.methods[methodInsert].batch.number(items.Len())
	n, err = s.engine.Insert(ctx, items)
	s.stored(items, bytes, n)
	return n, err
}

// fill stores a list, with the times to live that it has, and returns how many.
// Unless replace is set, it is an Insert.
func (s *store) fill(ctx context.Context, list []engine.Item, replace bool) (n int, err error) {
	c := begun(methodInsert)
	if replace {
		c.method = methodUpsert
	}
	defer s.end(c, &err)
	items := engine.List(list...)
	bytes, err := s.checkItems(ctx, items)
	if err != nil || items.Len() == 0 {
		return 0, err
	}
	s.counters.methods[c.method].batch.number(items.Len())
	if !replace {
		n, err = s.engine.Insert(ctx, items)
	} else if err = s.engine.Upsert(ctx, items); err == nil {
		n = items.Len()
	}
	s.stored(items, bytes, n)
	return n, err
}

func (s *store) Delete(ctx context.Context, ids ...string) (n int, err error) {
	c := begun(methodDelete)
	defer s.end(c, &err)
	if err = s.beginWrite(ctx); err == nil {
		err = s.checkIDs(ctx, ids)
	}
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	s.counters.methods[methodDelete].batch.number(len(ids))
	n, err = s.engine.Delete(ctx, ids)
	s.counters.deletes.Add(int64(n))
	return n, err
}

func (s *store) Drop(ctx context.Context) (err error) {
	c := begun(methodDrop)
	defer s.end(c, &err)
	if err := s.beginWrite(ctx); err != nil {
		return err
	}
	return s.engine.Drop(ctx)
}

func (s *store) Flush(ctx context.Context) (err error) {
	c := begun(methodFlush)
	defer s.end(c, &err)
	if err := s.begin(ctx); err != nil {
		return err
	}
	err = s.engine.Flush(ctx)
	s.flushed.Store(&FlushStats{time.Now(), err})
	return err
}

func (s *store) Close() (err error) {
	if s.closed.Swap(true) {
		return nil
	}
	c := begun(methodClose)
	defer s.end(c, &err)
	return s.release()
}

func (s *store) Ping(ctx context.Context) (err error) {
	c := begun(methodPing)
	defer s.end(c, &err)
	if err := s.begin(ctx); err != nil {
		return err
	}
	return s.engine.Ping(ctx)
}

func (s *store) TTL(ctx context.Context, id string) (_ time.Duration, err error) {
	c := begun(methodTTL)
	defer s.end(c, &err)
	if err = s.begin(ctx); err == nil {
		err = s.checkID(ctx, id)
	}
	if err != nil {
		return 0, err
	}
	ttls, err := s.engine.TTLs(ctx, []string{id})
	if err == nil && ttls[0] == engine.Absent {
		err = ErrNotFound
	}
	if err != nil {
		return 0, fault.WithID(id, err)
	}
	return ttls[0], nil
}

func (s *store) Stats(ctx context.Context) (Stats, error) {
	if err := s.begin(ctx); err != nil {
		return Stats{}, s.fail("stats", err)
	}
	return s.stats(), nil
}

func (s *store) stats() Stats {
	stats := Stats{Backend: s.backend, Namespace: s.namespace}
	s.counters.fill(&stats)
	if last := s.flushed.Load(); last != nil {
		stats.LastFlush = *last
	}
	s.figures(&stats)
	if s.flights != nil {
		stats.Compute = ComputeStats(s.flights.Figures())
	}
	return stats
}

// begin says why a call cannot start.
func (s *store) begin(ctx context.Context) error {
	if s.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

func (s *store) beginWrite(ctx context.Context) error {
	if s.readonly && !s.closed.Load() {
		return fault.Invalidf("the namespace was opened read-only")
	}
	return s.begin(ctx)
}

// checkID is checkIDs for one.
func (s *store) checkID(ctx context.Context, id string) error {
	if engine.CheckID(id) == nil {
		return nil
	}
	return s.checkIDs(ctx, []string{id})
}

// checkIDs accepts what can be stored, and longer ids that something else has
// stored: what Keys lists can be read and removed.
func (s *store) checkIDs(ctx context.Context, ids []string) error {
	var refused error
	var long []string
	for _, id := range ids {
		err := engine.CheckID(id)
		if err == nil {
			continue
		}
		if !utf8.ValidString(id) {
			return err
		}
		refused = cmp.Or(refused, err)
		long = append(long, id)
	}
	if refused == nil {
		return nil
	}
	if present, err := s.engine.Present(ctx, long); err != nil || slices.Contains(present, false) {
		return refused
	}
	return nil
}

// checkItems checks everything before anything is written, and returns the
// bytes of all values.
func (s *store) checkItems(ctx context.Context, items engine.Items) (int64, error) {
	if err := s.beginWrite(ctx); err != nil {
		return 0, err
	}
	return engine.CheckAll(items, s.maxValue)
}

// end counts a call, and makes an *Error of what it returns; nil stays nil.
func (s *store) end(c span, err *error) {
	s.counters.end(c, *err)
	if *err != nil {
		*err = s.fail(c.method.String(), *err)
	}
}

// fail makes an *Error of what an engine or a check reports; nil stays nil.
func (s *store) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Namespace: s.namespace, Err: public(err)}
	if with := (*fault.IDError)(nil); errors.As(err, &with) {
		e.ID = with.ID
	}
	return e
}

// Side shows the engine to those who move documents.
func (s *store) Side() *move.Side {
	return &move.Side{
		Store: s, Expirer: s, Engine: s.engine, Fill: s.fill, Fail: s.fail,
		TTL: s.ttl, MaxValue: s.maxValue, Namespace: s.namespace,
		Begin: func(ctx context.Context, write bool) error {
			if write {
				return s.beginWrite(ctx)
			}
			return s.begin(ctx)
		},
	}
}
