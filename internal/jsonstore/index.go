package jsonstore

import (
	"strings"
	"sync/atomic"

	"github.com/ngraf/kv/internal/fsys"
)

// A segment is an open file that holds values: the snapshot or a journal. It
// is closed when neither the engine nor a reader has it any more, so that a
// value can be read while a compaction replaces the file under it.
type segment struct {
	file fsys.File
	name string
	refs atomic.Int32
}

func newSegment(file fsys.File, name string) *segment {
	s := &segment{file: file, name: name}
	s.refs.Store(1)
	return s
}

func (s *segment) acquire() { s.refs.Add(1) }

func (s *segment) release() error {
	if s.refs.Add(-1) == 0 {
		return s.file.Close()
	}
	return nil
}

// A place is where a value stands. Its sum is checked whenever it is read,
// since another program may write to the document file at any time.
type place struct {
	segment *segment
	offset  int64
	size    uint32
	sum     uint32 // CRC-32C
}

// A doc is one document of the index.
type doc struct {
	id      string
	expires int64 // Unix milliseconds, 0 for never
	place
	foreign bool // not strict JSON; only a document file can hold one
	lasting bool // it lives for ever because somebody said so, and no default counts
}

// An index knows the place of every document, in the order of the document
// file. A removed document leaves a gap, with no segment, until the index is
// packed, so that positions hold meanwhile.
//
// It is read with Engine.mu held for reading and changed with it held for
// writing. Whenever it is free:
//
//   - position[d.id] is where d stands in docs, for each d that is no gap, and
//     has no other id. A gap is the zero doc.
//   - expiring counts the docs with an expiry. While it is 0, nobody needs the
//     clock.
//   - A document that is replaced keeps its place; one that was removed and
//     comes again is the last, as in a dict of Python's. A snapshot is written
//     in this order, and a journal replayed over it leads to this order again.
//   - Positions change in pack, which takes the cursors along, and in drop,
//     after which the epoch of a cursor is none of the index.
//   - The segment of a doc is the snapshot's or one of Engine.journals, which
//     the engine holds. Who reads a value without mu holds the segment, too.
type index struct {
	position map[string]uint32
	docs     []doc
	expiring int    // documents with an expiry
	epoch    uint64 // changes when all are gone
}

func newIndex() index { return index{position: make(map[string]uint32)} }

// find returns the document of an id that is there and has not expired.
func (x *index) find(id string, now int64) (*doc, bool) {
	at, ok := x.position[id]
	if !ok || x.docs[at].expired(now) {
		return nil, false
	}
	return &x.docs[at], true
}

func (d *doc) expired(now int64) bool { return d.expires != 0 && d.expires <= now }

// put adds a document, or replaces it where it is. The id of a new one is
// copied: a caller's may be a piece of something large.
func (x *index) put(d doc) {
	at, ok := x.position[d.id]
	if !ok {
		d.id = strings.Clone(d.id)
		x.add(d)
		return
	}
	if d.expires != 0 {
		x.expiring++
	}
	if x.docs[at].expires != 0 {
		x.expiring--
	}
	d.id = x.docs[at].id
	x.docs[at] = d
}

// add adds a document that is not there, whose id belongs to the index.
func (x *index) add(d doc) {
	if d.expires != 0 {
		x.expiring++
	}
	x.position[d.id] = uint32(len(x.docs))
	x.docs = append(x.docs, d)
}

func (x *index) remove(id string) {
	at, ok := x.position[id]
	if !ok {
		return
	}
	if x.docs[at].expires != 0 {
		x.expiring--
	}
	delete(x.position, id)
	x.docs[at] = doc{}
}

// drop forgets everything.
func (x *index) drop() {
	*x = index{position: make(map[string]uint32), epoch: x.epoch + 1}
}

// pack closes the gaps, if there are many, and takes the cursors along. Who
// else knows positions has the token of compactions, as the caller does.
func (x *index) pack(cursors map[*cursor]struct{}) {
	if gaps := len(x.docs) - len(x.position); gaps < 1024 || gaps < len(x.docs)/2 {
		return
	}
	for c := range cursors {
		if c.epoch == x.epoch {
			before := x.live(c.at, 0)
			c.at, c.end = before, x.live(c.end, c.at)+before
		}
	}
	docs := make([]doc, 0, len(x.position))
	for _, d := range x.docs {
		if d.segment != nil {
			x.position[d.id] = uint32(len(docs))
			docs = append(docs, d)
		}
	}
	x.docs = docs
}

// live counts the documents at the positions below to and from from on.
func (x *index) live(to, from int) (n int) {
	for i := range x.docs[from:to] {
		if x.docs[from+i].segment != nil {
			n++
		}
	}
	return n
}

// Sizes returns how much room each value takes; see engine.Sized.
func (e *Engine) Sizes(ids []string) []int64 {
	sizes := make([]int64, len(ids))
	e.mu.RLock()
	defer e.mu.RUnlock()
	for i, id := range ids {
		if at, ok := e.index.position[id]; ok {
			sizes[i] = int64(e.index.docs[at].size)
		}
	}
	return sizes
}

// Count returns how many documents there are.
func (e *Engine) Count() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return len(e.index.position)
}
