package kv

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"
)

// How many documents, and about how many bytes, are moved at a time. The json
// backend knows the sizes of values beforehand, so that only a larger single
// value exceeds them. Of others a page has as many documents as the size of
// those before suggests, beginning with one.
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

// after is d when some time has passed.
func (d moved) after(passed time.Duration) moved {
	if d.err != nil || d.ttl == 0 {
		return d
	}
	if d.ttl = roundTTL(d.ttl - passed); d.ttl <= 0 {
		d.err = ErrNotFound
	}
	return d
}

// pages lists the ids of s, some at a time. Who gets a page may keep it.
func (s *side) pages(ctx context.Context) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		page := make([]string, 0, bulkPage)
		for id, err := range s.store.Keys(ctx) {
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
func (s *side) fetch(ctx context.Context, ids []string) ([]moved, error) {
	var ttls []time.Duration
	var failed error
	var running sync.WaitGroup
	running.Go(func() { ttls, failed = s.lives(ctx, ids) })
	values, err := s.values(ctx, ids)
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
		d.item = item{id: id, value: values[i], ttl: ttls[i]}
		switch {
		case d.value == nil && corrupt:
			d.value, d.err = s.store.Get(ctx, id)
		case d.value == nil || d.ttl == absent:
			d.err = ErrNotFound
		}
		if d.err != nil && !errors.Is(d.err, ErrNotFound) && !errors.Is(d.err, ErrCorrupt) {
			return nil, d.err
		}
	}
	return docs, nil
}

// A pageOf documents is what was read of a store at about one time.
type pageOf struct {
	docs []moved
	at   time.Time // when reading began; times to live count from here
}

// A reader reads documents in pages of a bounded size.
type reader struct {
	side *side
	next int // documents of the next page
}

func newReader(s *side) *reader { return &reader{side: s, next: 1} }

// read returns the documents with these ids, page by page and in order. Ids
// that no store accepts, which something else has put there, count as corrupt.
func (r *reader) read(ctx context.Context, ids []string) iter.Seq2[pageOf, error] {
	return func(yield func(pageOf, error) bool) {
		for len(ids) > 0 {
			n := r.fitting(ids)
			p, err := r.page(ctx, ids[:n])
			if !yield(p, err) || err != nil {
				return
			}
			ids = ids[n:]
		}
	}
}

func (r *reader) page(ctx context.Context, ids []string) (pageOf, error) {
	p := pageOf{at: time.Now(), docs: make([]moved, len(ids))}
	good := make([]string, 0, len(ids))
	for _, id := range ids {
		if checkID(id) == nil {
			good = append(good, id)
		}
	}
	var docs []moved
	if len(good) > 0 {
		var err error
		if docs, err = r.side.fetch(ctx, good); err != nil {
			return p, err
		}
		r.adapt(docs)
	}
	for i, id := range ids {
		if len(docs) == 0 || docs[0].id != id {
			p.docs[i] = moved{item{id: id}, ErrCorrupt}
			continue
		}
		p.docs[i], docs = docs[0], docs[1:]
	}
	return p, nil
}

// alike reads what the store has under the ids of docs, and when it read each.
func (r *reader) alike(ctx context.Context, docs []moved) (theirs []moved, at []time.Time, err error) {
	ids := make([]string, len(docs))
	for i, d := range docs {
		ids[i] = d.id
	}
	for p, err := range r.read(ctx, ids) {
		if err != nil {
			return nil, nil, err
		}
		theirs = append(theirs, p.docs...)
		for range p.docs {
			at = append(at, p.at)
		}
	}
	return theirs, at, nil
}

// fitting is how many of ids to read next.
func (r *reader) fitting(ids []string) int {
	e, ok := r.side.engine.(sized)
	if !ok {
		return min(r.next, len(ids))
	}
	total := int64(0)
	for i, size := range e.sizes(ids) {
		if total += size; total > bulkBytes && i > 0 {
			return i
		}
	}
	return len(ids)
}

func (r *reader) adapt(docs []moved) {
	total := 1
	for _, d := range docs {
		total += d.size()
	}
	fit := bulkBytes * len(docs) / total
	r.next = min(max(fit, 1), max(2*r.next, 1), bulkPage)
}

// readAhead reads the documents of ids page by page, ahead of who uses them,
// and lists ids ahead of reading.
func readAhead(ctx context.Context, s *side, ids iter.Seq2[[]string, error]) iter.Seq2[pageOf, error] {
	return ahead(ctx, func(ctx context.Context) iter.Seq2[pageOf, error] {
		return func(yield func(pageOf, error) bool) {
			r := newReader(s)
			for page, err := range ahead(ctx, func(context.Context) iter.Seq2[[]string, error] { return ids }) {
				if err != nil {
					yield(pageOf{}, err)
					return
				}
				for p, err := range r.read(ctx, page) {
					if !yield(p, err) || err != nil {
						return
					}
				}
			}
		}
	})
}

// ahead yields what another sequence does, which is made in a goroutine of its
// own, one element ahead. The goroutine ends with the loop.
func ahead[T any](ctx context.Context, elements func(ctx context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		type result struct {
			element T
			err     error
		}
		ctx, cancel := context.WithCancel(ctx)
		results := make(chan result)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() {
			defer close(results)
			for element, err := range elements(ctx) {
				select {
				case results <- result{element, err}:
				case <-ctx.Done():
					return
				}
				if err != nil {
					return
				}
			}
		})
		for r := range results {
			if !yield(r.element, r.err) || r.err != nil {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			var none T
			yield(none, err)
		}
	}
}
