package kv

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// An item is one document on its way in. Its value is the caller's memory,
// which may be read only until the call returns.
type item struct {
	id    string
	value json.RawMessage
	ttl   time.Duration // 0: for ever
}

func (i item) size() int { return len(i.id) + len(i.value) }

func (i item) expires() bool { return i.ttl > 0 }

// items are the documents of one write: a list in the order in which they are
// to be stored, or the caller's map, of which no list is made where order does
// not matter, so that memory does not grow with the batch.
type items struct {
	list []item
	byID map[string]json.RawMessage
	ttl  time.Duration // of byID
}

func itemsOf(list ...item) items { return items{list: list} }

// itemsIn are those of a map, with one time to live.
func itemsIn(byID map[string]json.RawMessage, ttl time.Duration) items {
	return items{byID: byID, ttl: ttl}
}

func (s items) len() int { return len(s.list) + len(s.byID) }

// all yields each item once.
func (s items) all() iter.Seq[item] {
	if s.byID == nil {
		return slices.Values(s.list)
	}
	return func(yield func(item) bool) {
		for id, value := range s.byID {
			if !yield(item{id, value, s.ttl}) {
				return
			}
		}
	}
}

// sorted returns the list, or what is in the map by id.
func (s items) sorted() []item {
	if s.byID == nil {
		return s.list
	}
	list := make([]item, 0, len(s.byID))
	for it := range s.all() {
		list = append(list, it)
	}
	slices.SortFunc(list, func(a, b item) int { return strings.Compare(a.id, b.id) })
	return list
}

// parts yields all items, in parts of a bounded number of items and of bytes.
func (s items) parts(l limits) iter.Seq2[int, []item] {
	if s.byID == nil {
		return chunksBy(l, s.list, item.size)
	}
	return func(yield func(int, []item) bool) {
		from, bytes, rest := 0, 0, len(s.byID)
		part := make([]item, 0, min(l.count, rest))
		for it := range s.all() {
			size := it.size()
			if len(part) == l.count || len(part) > 0 && bytes+size > l.bytes {
				if !yield(from, part) {
					return
				}
				from, bytes, rest = from+len(part), 0, rest-len(part)
				part = make([]item, 0, min(l.count, rest))
			}
			part, bytes = append(part, it), bytes+size
		}
		if len(part) > 0 {
			yield(from, part)
		}
	}
}

// limits bound a part of a list: in elements and, where their size is known,
// in bytes. A part has at least one.
type limits struct{ count, bytes int }

// chunksBy cuts a list into parts, and yields each with the index of its first
// element.
func chunksBy[T any](l limits, list []T, size func(T) int) iter.Seq2[int, []T] {
	return func(yield func(int, []T) bool) {
		for from := 0; from < len(list); {
			to, bytes := from, 0
			for to < len(list) && to-from < l.count {
				if size != nil {
					bytes += size(list[to])
				}
				if bytes > l.bytes && to > from {
					break
				}
				to++
			}
			if !yield(from, list[from:to]) {
				return
			}
			from = to
		}
	}
}

// eachPart calls do for the parts of something with that many elements, some
// at a time.
func eachPart[T any](parts iter.Seq2[int, []T], total, atATime int, do func(from int, part []T)) {
	var running sync.WaitGroup
	turn := make(chan struct{}, atATime)
	for from, part := range parts {
		if len(part) == total {
			do(from, part)
			return
		}
		turn <- struct{}{}
		running.Go(func() {
			defer func() { <-turn }()
			do(from, part)
		})
	}
	running.Wait()
}

// untilKnown makes a write whose repetition does no harm, again if what became
// of it is unknown, and returns how many items it stored in all.
func untilKnown(ctx context.Context, write func() (int, error)) (total int, err error) {
	const attempts = 3
	for range attempts {
		var n int
		n, err = write()
		total += n
		if !errors.Is(err, ErrOutcomeUnknown) || ctx.Err() != nil {
			break
		}
	}
	return total, err
}
