package kv

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"sync"
	"time"
)

// What moves documents between stores of any kind: Migrate, Verify, Export,
// Import, and the import of files into Redis.

// How many documents, and about how many bytes, are moved at a time.
const (
	bulkPage  = 500
	bulkBytes = 8 << 20
)

// A moved is a document on its way from one store to another, or the reason
// why there is none: an error that matches ErrNotFound, for one that went away
// since its id was listed, or ErrCorrupt.
type moved struct {
	item
	err error
}

// pages lists the ids of s, some at a time. Who gets a page may keep it.
func pages(ctx context.Context, s Store) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		page := make([]string, 0, bulkPage)
		for id, err := range s.Keys(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			page = append(page, id)
			if len(page) == bulkPage {
				if !yield(page, nil) {
					return
				}
				page = make([]string, 0, bulkPage)
			}
		}
		if len(page) > 0 {
			yield(page, nil)
		}
	}
}

// fetch reads the documents with these ids and how long they have to live.
// One whose store knows no times to live lives for ever.
func fetch(ctx context.Context, s Store, ids []string) ([]moved, error) {
	var ttls []time.Duration
	var failed error
	var running sync.WaitGroup
	running.Go(func() { ttls, failed = lives(ctx, s, ids) })
	values, err := values(ctx, s, ids)
	running.Wait()
	if err != nil && (values == nil || !errors.Is(err, ErrCorrupt)) {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	corrupt := err != nil
	docs := make([]moved, len(ids))
	for i, id := range ids {
		d := &docs[i]
		d.item = item{id, values[i], ttls[i]}
		switch {
		case d.value == nil && corrupt:
			d.value, d.err = s.Get(ctx, id)
		case d.value == nil || d.ttl == absent:
			d.err = ErrNotFound
		}
		if d.err != nil && !errors.Is(d.err, ErrNotFound) && !errors.Is(d.err, ErrCorrupt) {
			return nil, d.err
		}
	}
	return docs, nil
}

// values is GetMany, which of a built-in store neither counts nor goes through
// the client-side cache: nobody asked for these documents, and so they are no
// part of a hit rate.
func values(ctx context.Context, s Store, ids []string) ([]json.RawMessage, error) {
	own, ok := s.(*store)
	if !ok {
		return s.GetMany(ctx, ids)
	}
	if err := own.begin(ctx); err != nil {
		return nil, own.fail("getmany", err)
	}
	get := own.engine.getMany
	if e, ok := own.engine.(*redisEngine); ok {
		get = e.readMany
	}
	found, err := get(ctx, ids)
	return found, own.fail("getmany", err)
}

// lives returns the times to live of ids, absent for those that are not there.
func lives(ctx context.Context, s Store, ids []string) ([]time.Duration, error) {
	ttls := make([]time.Duration, len(ids))
	own, ok := s.(*store)
	if ok {
		ttls, err := own.engine.ttls(ctx, ids)
		return ttls, own.fail("ttl", err)
	}
	expirer, ok := As[Expirer](s)
	if !ok {
		return ttls, nil
	}
	var running sync.WaitGroup
	turn := make(chan struct{}, 16)
	errs := make([]error, len(ids))
	for i, id := range ids {
		turn <- struct{}{}
		running.Go(func() {
			defer func() { <-turn }()
			ttls[i], errs[i] = expirer.TTL(ctx, id)
			if errors.Is(errs[i], ErrNotFound) {
				ttls[i], errs[i] = absent, nil
			}
		})
	}
	running.Wait()
	return ttls, errors.Join(errs...)
}

// fill stores items with the times to live that they have, and returns how
// many. Unless replace is set, it leaves those alone whose id is present: in
// one atomic step on the built-in backends, and between looking and writing
// on others. The built-in backends keep the order of items.
func fill(ctx context.Context, s Store, items []item, replace bool) (int, error) {
	if own, ok := s.(*store); ok {
		return own.fill(ctx, items, replace)
	}
	if !replace {
		ids := make([]string, len(items))
		for i, it := range items {
			ids[i] = it.id
		}
		missing, err := s.Missing(ctx, ids)
		if err != nil {
			return 0, err
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
		items = kept
	}
	byLife := make(map[time.Duration]map[string]json.RawMessage)
	for _, it := range items {
		life := it.ttl
		if life > time.Second { // So that a page of caches is one call or a few.
			life = life.Round(time.Second)
		}
		if byLife[life] == nil {
			byLife[life] = make(map[string]json.RawMessage)
		}
		byLife[life][it.id] = it.value
	}
	expirer, ok := As[Expirer](s)
	n := 0
	for life, group := range byLife {
		var err error
		if ok {
			err = expirer.UpsertTTL(ctx, group, life)
		} else {
			err = s.Upsert(ctx, group)
		}
		if err != nil {
			return n, err
		}
		n += len(group)
	}
	return n, nil
}

func (s *store) fill(ctx context.Context, list []item, replace bool) (n int, err error) {
	c := begun(methodInsert)
	if replace {
		c.method = methodUpsert
	}
	defer s.end(c, &err)
	items := itemsOf(list...)
	bytes, err := s.checkItems(ctx, items)
	if err != nil || items.len() == 0 {
		return 0, err
	}
	s.counters.methods[c.method].batch.number(items.len())
	if !replace {
		n, err = s.engine.insert(ctx, items)
	} else if err = s.engine.upsert(ctx, items); err == nil {
		n = items.len()
	}
	s.stored(items, bytes, n)
	return n, err
}
