package jsonstore

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/wal"
)

// commits is the write path. Callers queue their writes; the one at the head
// takes all that wait, writes them to the journal with one write and, if the
// policy asks for it, one fsync, and then puts them into the index. So a
// caller alone pays for its own write only, and many share the disk.
type commits struct {
	mu      sync.Mutex
	queue   []*write
	leading bool

	active  *journal // the last one; the leader's, as is encoder
	encoder *wal.Encoder

	pulse pulse
}

// A write is one call's place in the queue.
type write struct {
	op     byte
	items  []engine.Item // opUpsert
	absent bool          // only those whose id is absent
	ids    []string      // opDelete
	alone  func() error  // run in the write's turn in place of all that

	changes []change
	n       int // documents stored or removed
	err     error
	wake    chan bool // true: lead the queue; false: done
}

// A change is what a record does to the index.
type change struct {
	op byte
	doc
}

// encodeBytes is how much is laid out in memory before it is written.
const encodeBytes = 1 << 20

// commit queues w and returns when it has been done, or when it was withdrawn
// because ctx was done before its turn.
func (e *Engine) commit(ctx context.Context, w *write) error {
	c := &e.commits
	c.mu.Lock()
	if e.closing() && w.alone == nil {
		c.mu.Unlock()
		return fault.ErrClosed
	}
	c.queue = append(c.queue, w)
	lead := !c.leading
	c.leading = true
	if !lead {
		w.wake = make(chan bool, 1)
	}
	c.mu.Unlock()
	if !lead {
		select {
		case lead = <-w.wake:
		case <-ctx.Done():
			if c.withdraw(w) {
				return ctx.Err()
			}
			lead = <-w.wake // Its turn has come, and the answer is near.
		}
	}
	if !lead {
		return w.err
	}
	if w.alone == nil {
		if err := e.keepUp(ctx); err != nil {
			c.leave(w)
			return err
		}
	}
	e.lead(w)
	return w.err
}

// alone runs f when no write is under way, even on a stopped queue.
func (e *Engine) alone(f func() error) error {
	return e.commit(context.Background(), &write{alone: f})
}

// lead does everything that is queued, and passes the lead on.
func (e *Engine) lead(leader *write) {
	c := &e.commits
	if e.policy == policyAlways {
		runtime.Gosched() // Those just answered queue up again, and share this fsync.
	}
	c.mu.Lock()
	group := c.queue
	if n := slices.IndexFunc(group, isWrite); leader.alone != nil && n > 0 && e.behind() != nil {
		group = group[:n:n] // The others wait for the disk; see keepUp.
	}
	c.queue = slices.Clone(c.queue[len(group):])
	c.mu.Unlock()
	for rest := group; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(w *write) bool { return w.alone != nil })
		switch n {
		case 0:
			rest[0].err = rest[0].alone()
			rest = rest[1:]
			continue
		case -1:
			n = len(rest)
		}
		if err := e.append(rest[:n]); err != nil {
			for _, w := range rest[:n] {
				w.n, w.err = 0, err
			}
		}
		rest = rest[n:]
	}
	for _, w := range group {
		if w != leader {
			w.wake <- false
		}
	}
	c.mu.Lock()
	c.pass()
	c.mu.Unlock()
}

func isWrite(w *write) bool { return w.alone == nil }

// leave takes the leader out of the queue, whose writes are not begun.
func (c *commits) leave(leader *write) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = slices.DeleteFunc(c.queue, func(w *write) bool { return w == leader })
	c.pass()
}

// pass gives the lead to the next in the queue, if there is one.
func (c *commits) pass() {
	if len(c.queue) == 0 {
		c.leading = false
		return
	}
	c.queue[0].wake <- true
}

// withdraw takes a write out of the queue, unless it has been begun.
func (c *commits) withdraw(w *write) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.queue, w)
	if i < 0 {
		return false
	}
	c.queue = slices.Delete(c.queue, i, i+1)
	select {
	case <-w.wake: // It had just been given the lead.
		c.pass()
	default:
	}
	return true
}

// append makes the records of a group of writes, writes and syncs them, and
// then changes the index. After an error the journal is as it was.
func (e *Engine) append(group []*write) error {
	c := &e.commits
	if err := e.health(); err != nil {
		return err
	}
	j, err := e.current()
	if err != nil {
		return err
	}
	start := j.end
	c.encoder.Reset(start)
	c.encoder.Synced = j.synced.Load()
	present := e.presence(group)
	for _, w := range group {
		if err := e.encode(w, j, present); err != nil {
			return e.takeBack(j, start, err)
		}
	}
	if err := c.spill(j); err != nil {
		return e.takeBack(j, start, err)
	}
	if j.end == start {
		return nil // As for a Delete of what is absent.
	}
	j.written.Store(j.end)
	j.unmarked = true
	if e.policy == policyAlways {
		if err := e.syncJournal(j); err != nil {
			return err
		}
	}
	if e.policy != policyNo {
		e.wrote()
	}
	e.apply(group)
	e.journalBytes.Add(j.end - start)
	e.maybeCompact()
	return nil
}

// presence returns a function that says whether an id will be there when it
// is its write's turn, and one that notes what a write does. A group without
// conditions needs neither.
func (e *Engine) presence(group []*write) *overlay {
	for _, w := range group {
		if w.absent || w.op == opDelete {
			return &overlay{engine: e, changed: make(map[string]bool)}
		}
	}
	return nil
}

// An overlay is the index as the writes of a group before the current one
// will leave it.
type overlay struct {
	engine  *Engine
	changed map[string]bool
	dropped bool
}

func (o *overlay) has(id string) bool {
	if there, ok := o.changed[id]; ok || o.dropped {
		return there
	}
	o.engine.mu.RLock()
	defer o.engine.mu.RUnlock()
	_, ok := o.engine.index.find(id, o.engine.clock())
	return ok
}

// expired reports whether there is a document that only its time to live
// hides. A clock that is set back would show it again.
func (o *overlay) expired(id string) bool {
	if _, ok := o.changed[id]; ok || o.dropped {
		return false
	}
	o.engine.mu.RLock()
	defer o.engine.mu.RUnlock()
	_, ok := o.engine.index.position[id]
	return ok
}

func (o *overlay) note(ch change) {
	if o == nil {
		return
	}
	if ch.op == opDrop {
		o.dropped = true
		clear(o.changed)
		return
	}
	o.changed[ch.id] = ch.op == opUpsert
}

// encode lays out the records of w, and writes them when they are many.
func (e *Engine) encode(w *write, j *journal, present *overlay) error {
	note := func(ch change) error {
		w.changes = append(w.changes, ch)
		present.note(ch)
		j.pending.Add(1)
		if len(e.commits.encoder.Buf) < encodeBytes {
			return nil
		}
		return e.commits.spill(j)
	}
	enc := e.commits.encoder
	switch w.op {
	case opUpsert:
		return e.encodeUpsert(w, j, present, note)
	case opDelete:
		for _, id := range w.ids {
			visible := present.has(id)
			if !visible && !present.expired(id) {
				continue
			}
			start := enc.Begin()
			enc.Buf = appendDelete(enc.Buf, id)
			enc.End(start)
			if visible {
				w.n++
			}
			if err := note(change{op: opDelete, doc: doc{id: id}}); err != nil {
				return err
			}
		}
		return nil
	default: // opDrop
		start := enc.Begin()
		enc.Buf = append(enc.Buf, opDrop)
		enc.End(start)
		return note(change{op: opDrop})
	}
}

func (e *Engine) encodeUpsert(w *write, j *journal, present *overlay, note func(change) error) error {
	enc := e.commits.encoder
	now := e.clock()
	for _, it := range w.items {
		if w.absent && present.has(it.ID) {
			continue
		}
		expires := int64(0)
		if it.Expires() {
			expires = now + it.TTL.Milliseconds()
		}
		start := enc.Begin()
		enc.Buf = appendUpsert(enc.Buf, it.ID, expires)
		at := place{
			segment: j.segment,
			offset:  enc.Next(),
			size:    uint32(len(it.Value)),
			sum:     wal.Sum(it.Value),
		}
		enc.Buf = append(enc.Buf, it.Value...)
		enc.End(start)
		w.n++
		if err := note(change{op: opUpsert, doc: doc{id: it.ID, expires: expires, place: at, lasting: expires == 0}}); err != nil {
			return err
		}
	}
	return nil
}

// spill writes what has been laid out.
func (c *commits) spill(j *journal) error {
	if len(c.encoder.Buf) == 0 {
		return nil
	}
	if _, err := j.file.WriteAt(c.encoder.Buf, j.end); err != nil {
		return err
	}
	j.end = c.encoder.Next()
	c.encoder.Reset(j.end)
	return nil
}

// apply puts the changes of a group into the index.
func (e *Engine) apply(group []*write) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range group {
		for _, ch := range w.changes {
			e.index.apply(ch)
		}
	}
}

func (x *index) apply(ch change) {
	switch ch.op {
	case opUpsert:
		x.put(ch.doc)
	case opDelete:
		x.remove(ch.id)
	case opDrop:
		x.drop()
	}
}
