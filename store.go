package kv

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ngraf/kv/internal/jsonscan"
)

// An engine is what is left of a backend when the part of the contract that
// is the same for all has been taken out. Ids and values that reach it have
// been checked, slices are not empty, and the context was not done. What it
// returns belongs to the caller. Its errors need no Op and Namespace.
type engine interface {
	get(ctx context.Context, id string) (json.RawMessage, error)
	// getMany fills values, one for each id; see Store.GetMany.
	getMany(ctx context.Context, ids []string) (values []json.RawMessage, err error)
	// present reports for each id whether it is there; ids has no repeats.
	present(ctx context.Context, ids []string) ([]bool, error)
	keys(ctx context.Context) iter.Seq2[string, error]
	// upsert and insert store items in the order given.
	upsert(ctx context.Context, items []item) error
	insert(ctx context.Context, items []item) (int, error)
	delete(ctx context.Context, ids []string) (int, error)
	drop(ctx context.Context) error
	// ttls returns how long each id has left: 0 for ever, absent if it is not
	// there.
	ttls(ctx context.Context, ids []string) ([]time.Duration, error)
	flush(ctx context.Context) error
	ping(ctx context.Context) error
	stats(s *Stats)
	close() error
}

// An item is one document on its way in. Its value is the caller's memory,
// which may be read only until the call returns.
type item struct {
	id    string
	value json.RawMessage
	ttl   time.Duration // 0: for ever
}

// absent is the time to live of what is not there.
const absent time.Duration = -1

// A store is a built-in backend: an engine behind the checks, the errors and
// the counters that all engines share.
type store struct {
	engine    engine
	backend   string
	namespace string
	ttl       time.Duration // of new documents
	maxValue  int64
	ordered   bool // the order of documents shows, so that of a map is by id
	readonly  bool
	flights   *flights // of Compute, shared by all stores of the engine

	closed  atomic.Bool
	release func() error // gives the engine back to the factory

	gets, hits, upserts, deletes, errs atomic.Int64
}

var (
	_ Store    = (*store)(nil)
	_ Pinger   = (*store)(nil)
	_ Inserter = (*store)(nil)
	_ Expirer  = (*store)(nil)
	_ Statser  = (*store)(nil)
)

func (s *store) Get(ctx context.Context, id string) (json.RawMessage, error) {
	err := s.begin(ctx)
	if err == nil {
		err = checkID(id)
	}
	if err != nil {
		return nil, s.fail("get", err)
	}
	s.gets.Add(1)
	value, err := s.engine.get(ctx, id)
	if err != nil {
		return nil, s.fail("get", &withID{id, err})
	}
	s.hits.Add(1)
	return value, nil
}

func (s *store) GetMany(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
	err := s.begin(ctx)
	if err == nil {
		err = checkIDs(ids)
	}
	if err != nil {
		return nil, s.fail("getmany", err)
	}
	if len(ids) == 0 {
		return []json.RawMessage{}, nil
	}
	s.gets.Add(int64(len(ids)))
	values, err := s.engine.getMany(ctx, ids)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return nil, s.fail("getmany", err)
	}
	hits := int64(0)
	for i, value := range values {
		if value == nil {
			continue
		}
		hits++
		if len(fields) > 0 {
			values[i] = jsonscan.Project(nil, value, fields)
		}
	}
	s.hits.Add(hits)
	return values, s.fail("getmany", err)
}

func (s *store) Missing(ctx context.Context, ids []string) ([]string, error) {
	err := s.begin(ctx)
	if err == nil {
		err = checkIDs(ids)
	}
	if err != nil || len(ids) == 0 {
		return nil, s.fail("missing", err)
	}
	seen := make(map[string]struct{}, len(ids))
	once := make([]string, 0, len(ids))
	for _, id := range ids {
		if _, ok := seen[id]; !ok {
			seen[id] = struct{}{}
			once = append(once, id)
		}
	}
	present, err := s.engine.present(ctx, once)
	if err != nil {
		return nil, s.fail("missing", err)
	}
	absent := once[:0]
	for i, id := range once {
		if !present[i] {
			absent = append(absent, id)
		}
	}
	return absent, nil
}

func (s *store) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.begin(ctx); err != nil {
			yield("", s.fail("keys", err))
			return
		}
		for id, err := range s.engine.keys(ctx) {
			if err == nil {
				err = s.begin(ctx) // The loop's body may have closed the store.
			}
			if err != nil {
				yield("", s.fail("keys", err))
				return
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

func (s *store) Upsert(ctx context.Context, items map[string]json.RawMessage) error {
	return s.upsert(ctx, "upsert", items, s.ttl)
}

func (s *store) UpsertTTL(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
	if ttl < 0 {
		return s.fail("upsertttl", invalidf("the time to live %v is negative; 0 means for ever", ttl))
	}
	return s.upsert(ctx, "upsertttl", items, roundTTL(ttl))
}

func (s *store) upsert(ctx context.Context, op string, items map[string]json.RawMessage, ttl time.Duration) error {
	list, err := s.checkItems(ctx, items, ttl)
	if err != nil || len(list) == 0 {
		return s.fail(op, err)
	}
	if err := s.engine.upsert(ctx, list); err != nil {
		return s.fail(op, err)
	}
	s.upserts.Add(int64(len(list)))
	return nil
}

func (s *store) Insert(ctx context.Context, items map[string]json.RawMessage) (int, error) {
	list, err := s.checkItems(ctx, items, s.ttl)
	if err != nil || len(list) == 0 {
		return 0, s.fail("insert", err)
	}
	n, err := s.engine.insert(ctx, list)
	s.upserts.Add(int64(n))
	return n, s.fail("insert", err)
}

func (s *store) Delete(ctx context.Context, ids ...string) (int, error) {
	err := s.beginWrite(ctx)
	if err == nil {
		err = checkIDs(ids)
	}
	if err != nil || len(ids) == 0 {
		return 0, s.fail("delete", err)
	}
	n, err := s.engine.delete(ctx, ids)
	s.deletes.Add(int64(n))
	return n, s.fail("delete", err)
}

func (s *store) Drop(ctx context.Context) error {
	if err := s.beginWrite(ctx); err != nil {
		return s.fail("drop", err)
	}
	return s.fail("drop", s.engine.drop(ctx))
}

func (s *store) Flush(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return s.fail("flush", err)
	}
	return s.fail("flush", s.engine.flush(ctx))
}

func (s *store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.fail("close", s.release())
}

func (s *store) Ping(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return s.fail("ping", err)
	}
	return s.fail("ping", s.engine.ping(ctx))
}

func (s *store) TTL(ctx context.Context, id string) (time.Duration, error) {
	err := s.begin(ctx)
	if err == nil {
		err = checkID(id)
	}
	if err != nil {
		return 0, s.fail("ttl", err)
	}
	ttls, err := s.engine.ttls(ctx, []string{id})
	if err == nil && ttls[0] == absent {
		err = ErrNotFound
	}
	if err != nil {
		return 0, s.fail("ttl", &withID{id, err})
	}
	return ttls[0], nil
}

func (s *store) Stats(ctx context.Context) (Stats, error) {
	if err := s.begin(ctx); err != nil {
		return Stats{}, s.fail("stats", err)
	}
	stats := Stats{
		Backend:   s.backend,
		Namespace: s.namespace,
		Gets:      s.gets.Load(),
		Hits:      s.hits.Load(),
		Upserts:   s.upserts.Load(),
		Deletes:   s.deletes.Load(),
		Errors:    s.errs.Load(),
	}
	s.engine.stats(&stats)
	if s.flights != nil {
		stats.Compute = s.flights.stats()
	}
	return stats, nil
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
		return invalidf("the namespace was opened read-only")
	}
	return s.begin(ctx)
}

// checkItems checks everything before anything is written.
func (s *store) checkItems(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) ([]item, error) {
	if err := s.beginWrite(ctx); err != nil {
		return nil, err
	}
	list := make([]item, 0, len(items))
	for id, value := range items {
		if err := checkID(id); err != nil {
			return nil, err
		}
		if err := checkValue(id, value, s.maxValue); err != nil {
			return nil, err
		}
		list = append(list, item{id, value, ttl})
	}
	if s.ordered {
		slices.SortFunc(list, func(a, b item) int { return strings.Compare(a.id, b.id) })
	}
	return list, nil
}

// fail makes an *Error of what an engine or a check reports; nil stays nil.
func (s *store) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrNotFound) {
		s.errs.Add(1)
	}
	e := &Error{Op: op, Namespace: s.namespace, Err: err}
	if with := (*withID)(nil); errors.As(err, &with) {
		e.ID = with.id
	}
	return e
}
