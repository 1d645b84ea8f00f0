package move

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// How many documents, and about how many bytes, are moved at a time. The json
// backend knows the sizes of values beforehand, so that only a larger single
// value exceeds them. Of others a page has as many documents as the size of
// those before suggests, beginning with one.
const (
	BulkPage  = 500
	BulkBytes = 8 << 20
)

// A Moved is a document on its way from one store to another, or the reason
// why there is none: an error that matches ErrNotFound, for one that went away
// since its id was listed, or ErrCorrupt.
type Moved struct {
	engine.Item
	Err error
}

// After returns d as it is when some time has passed.
func (d Moved) After(passed time.Duration) Moved {
	if d.Err != nil || d.TTL == 0 {
		return d
	}
	if d.TTL = engine.RoundTTL(d.TTL - passed); d.TTL <= 0 {
		d.Err = fault.ErrNotFound
	}
	return d
}

// Pages lists the ids of s, some at a time. Who gets a page may keep it.
func (s *Side) Pages(ctx context.Context) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		page := make([]string, 0, BulkPage)
		for id, err := range s.Store.Keys(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			page = append(page, id)
			if len(page) == BulkPage {
				if !yield(page, nil) {
					return
				}
				page = make([]string, 0, BulkPage)
			}
		}
		if len(page) > 0 {
			yield(page, nil)
		}
	}
}

// fetch reads the documents with these ids and how long they have to live.
// One whose store knows no times to live lives for ever.
func (s *Side) fetch(ctx context.Context, ids []string, timeless bool) ([]Moved, error) {
	ttls := make([]time.Duration, len(ids))
	var failed error
	var running sync.WaitGroup
	if !timeless {
		running.Go(func() { ttls, failed = s.lives(ctx, ids) })
	}
	values, err := s.values(ctx, ids)
	running.Wait()
	if err != nil && (values == nil || !errors.Is(err, fault.ErrCorrupt)) {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	corrupt := err != nil
	docs := make([]Moved, len(ids))
	for i, id := range ids {
		d := &docs[i]
		d.Item = engine.Item{ID: id, Value: values[i], TTL: ttls[i]}
		switch {
		case d.Value == nil && corrupt:
			d.Value, d.Err = s.Store.Get(ctx, id)
		case d.Value == nil || d.TTL == engine.Absent:
			d.Err = fault.ErrNotFound
		}
		if d.Err != nil && !errors.Is(d.Err, fault.ErrNotFound) && !errors.Is(d.Err, fault.ErrCorrupt) {
			return nil, d.Err
		}
	}
	return docs, nil
}

// A PageOf documents has what was read of a store at about one time.
type PageOf struct {
	Docs []Moved
	At   time.Time // when reading began; times to live count from here
}

// A Reader reads documents in pages of a bounded size.
type Reader struct {
	Side     *Side
	timeless bool // nobody asks for times to live
	next     int  // documents of the next page
}

// NewReader returns one that has read nothing.
func NewReader(s *Side) *Reader { return &Reader{Side: s, next: 1} }

// Read returns the documents with these ids, page by page and in order. Ids
// that no store accepts, which something else has put there, count as corrupt.
func (r *Reader) Read(ctx context.Context, ids []string) iter.Seq2[PageOf, error] {
	return func(yield func(PageOf, error) bool) {
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

func (r *Reader) page(ctx context.Context, ids []string) (PageOf, error) {
	p := PageOf{At: time.Now(), Docs: make([]Moved, len(ids))}
	good := make([]string, 0, len(ids))
	for _, id := range ids {
		if engine.CheckID(id) == nil {
			good = append(good, id)
		}
	}
	var docs []Moved
	if len(good) > 0 {
		var err error
		if docs, err = r.Side.fetch(ctx, good, r.timeless); err != nil {
			return p, err
		}
		r.adapt(docs)
	}
	for i, id := range ids {
		if len(docs) == 0 || docs[0].ID != id {
			p.Docs[i] = Moved{engine.Item{ID: id}, fault.ErrCorrupt}
			continue
		}
		p.Docs[i], docs = docs[0], docs[1:]
	}
	return p, nil
}

// alike reads what the store has under the ids of docs, and when it read each.
func (r *Reader) alike(ctx context.Context, docs []Moved) (theirs []Moved, at []time.Time, err error) {
	ids := make([]string, len(docs))
	for i, d := range docs {
		ids[i] = d.ID
	}
	for p, err := range r.Read(ctx, ids) {
		if err != nil {
			return nil, nil, err
		}
		theirs = append(theirs, p.Docs...)
		for range p.Docs {
			at = append(at, p.At)
		}
	}
	return theirs, at, nil
}

// fitting is how many of ids to read next.
func (r *Reader) fitting(ids []string) int {
	e, ok := r.Side.Engine.(engine.Sized)
	if !ok {
		return min(r.next, len(ids))
	}
	total := int64(0)
	for i, size := range e.Sizes(ids) {
		if total += size; total > BulkBytes && i > 0 {
			return i
		}
	}
	return len(ids)
}

func (r *Reader) adapt(docs []Moved) {
	total := 1
	for _, d := range docs {
		total += d.Size()
	}
	fit := BulkBytes * len(docs) / total
	r.next = min(max(fit, 1), max(2*r.next, 1), BulkPage)
}

// readAhead reads the documents of ids page by page, ahead of who uses them,
// and lists ids ahead of reading.
func readAhead(ctx context.Context, s *Side, ids iter.Seq2[[]string, error]) iter.Seq2[PageOf, error] {
	return NewReader(s).ahead(ctx, ids)
}

func (r *Reader) ahead(ctx context.Context, ids iter.Seq2[[]string, error]) iter.Seq2[PageOf, error] {
	return ahead(ctx, func(ctx context.Context) iter.Seq2[PageOf, error] {
		return func(yield func(PageOf, error) bool) {
			for page, err := range ahead(ctx, func(context.Context) iter.Seq2[[]string, error] { return ids }) {
				if err != nil {
					yield(PageOf{}, err)
					return
				}
				for p, err := range r.Read(ctx, page) {
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
