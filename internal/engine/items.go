package engine

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/fault"
)

// An Item is one document on its way in. Its value is the caller's memory,
// which may be read only until the call returns.
type Item struct {
	ID    string
	Value json.RawMessage
	TTL   time.Duration // 0: for ever
}

// A Stored document is one as it stands in files.
type Stored struct {
	ID      string
	Value   []byte // in compact form: white space is the file's layout
	Expires int64  // Unix milliseconds, 0 for never
	Foreign bool   // it is not strict JSON, and has no value here
	Lasting bool   // the files say that it lives for ever, so that no default counts
}

// Size returns how many bytes the id and the value have.
func (i Item) Size() int { return len(i.ID) + len(i.Value) }

// Expires reports whether it does not live for ever.
func (i Item) Expires() bool { return i.TTL > 0 }

// Items are the documents of one write: a list in the order in which they are
// to be stored, or the caller's map, of which no list is made where order does
// not matter, so that memory does not grow with the batch.
type Items struct {
	list []Item
	ByID map[string]json.RawMessage
	ttl  time.Duration // of ByID
}

// List returns the items of a list.
func List(list ...Item) Items { return Items{list: list} }

// Of returns the items of a map, with one time to live.
func Of(byID map[string]json.RawMessage, ttl time.Duration) Items {
	return Items{ByID: byID, ttl: ttl}
}

// Len returns how many items there are.
func (s Items) Len() int { return len(s.list) + len(s.ByID) }

// All yields each item once.
func (s Items) All() iter.Seq[Item] {
	if s.ByID == nil {
		return slices.Values(s.list)
	}
	return func(yield func(Item) bool) {
		for id, value := range s.ByID {
			if !yield(Item{id, value, s.ttl}) {
				return
			}
		}
	}
}

// Sorted returns the list, or what is in the map by id.
func (s Items) Sorted() []Item {
	if s.ByID == nil {
		return s.list
	}
	list := make([]Item, 0, len(s.ByID))
	for it := range s.All() {
		list = append(list, it)
	}
	slices.SortFunc(list, func(a, b Item) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Parts yields all items, in parts of a bounded number of items and of bytes.
func (s Items) Parts(l Limits) iter.Seq2[int, []Item] {
	if s.ByID == nil {
		return ChunksBy(l, s.list, Item.Size)
	}
	return func(yield func(int, []Item) bool) {
		from, bytes, rest := 0, 0, len(s.ByID)
		part := make([]Item, 0, min(l.Count, rest))
		for it := range s.All() {
			size := it.Size()
			if len(part) == l.Count || len(part) > 0 && bytes+size > l.Bytes {
				if !yield(from, part) {
					return
				}
				from, bytes, rest = from+len(part), 0, rest-len(part)
				part = make([]Item, 0, min(l.Count, rest))
			}
			part, bytes = append(part, it), bytes+size
		}
		if len(part) > 0 {
			yield(from, part)
		}
	}
}

// Limits bound a part of a list: in elements and, where their size is known,
// in bytes. A part has at least one.
type Limits struct{ Count, Bytes int }

// ChunksBy cuts a list into parts, and yields each with the index of its first
// element.
func ChunksBy[T any](l Limits, list []T, size func(T) int) iter.Seq2[int, []T] {
	return func(yield func(int, []T) bool) {
		for from := 0; from < len(list); {
			to, bytes := from, 0
			for to < len(list) && to-from < l.Count {
				if size != nil {
					bytes += size(list[to])
				}
				if bytes > l.Bytes && to > from {
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

// EachPart calls do for the parts of something with that many elements, some
// at a time.
func EachPart[T any](parts iter.Seq2[int, []T], total, atATime int, do func(from int, part []T)) {
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

// RetryUnknown makes a write whose repetition does no harm, three times at most
// as long as what became of it is unknown. It returns how many items were
// stored in all.
func RetryUnknown(ctx context.Context, write func() (int, error)) (total int, err error) {
	const attempts = 3
	for range attempts {
		var n int
		n, err = write()
		total += n
		if !errors.Is(err, fault.ErrOutcomeUnknown) || ctx.Err() != nil {
			break
		}
	}
	return total, err
}
