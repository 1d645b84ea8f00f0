package kvllm

import (
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
)

// A recording is an answer on its way: from the provider, from another process,
// or from the store. All callers of a transport who ask for it share one.
type recording struct {
	t      *transport
	q      *question
	ctx    context.Context // of the way to the provider
	cancel context.CancelFunc
	ready  chan struct{} // closed when callers can have a response

	// Guarded by transport.mu.
	readers map[*reader]struct{}
	callers int  // who have come
	asked   bool // the provider; see leave

	mu sync.Mutex
	state
	isReady bool
	rest    io.ReadCloser // of a body that is too long to be kept
	buf     []byte        // of the body, what has come and is not let go
	gone    int64         // bytes that were let go, all who read having read them
	changed chan struct{} // closed when more has come; nil: nobody waits
}

// A state is how far a recording is.
type state struct {
	stored   *Answer        // what the store or another process had
	head     *http.Response // of the provider; its body is not used
	live     bool           // callers have the response while the body comes
	marked   bool           // the end marker has come
	reason   string         // why it is not kept
	answer   *Answer        // that came whole
	err      error          // how it ended: io.EOF as it should; nil: not yet
	panicked any
}

// label is the value of HeaderCache.
func (s state) label(first bool) string {
	switch {
	case s.reason != "":
		return "refused"
	case first:
		return "miss"
	}
	return "hit"
}

func (rec *recording) settled() state {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.state
}

// set changes the state, and wakes who waits for more.
func (rec *recording) set(do func()) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	do()
	if !rec.isReady && (rec.err != nil || rec.stored != nil || rec.live) {
		rec.isReady = true
		close(rec.ready)
	}
	rec.wake()
}

// wake wakes who waits. rec.mu is held.
func (rec *recording) wake() {
	if rec.changed != nil {
		close(rec.changed)
		rec.changed = nil
	}
}

// end lets readers come to the end; the first reason counts.
func (rec *recording) end(err error) {
	rec.set(func() {
		if rec.err == nil {
			rec.err = err
		}
	})
}

func (rec *recording) refuse(reason string) {
	rec.set(func() {
		if rec.reason == "" {
			rec.reason = reason
		}
	})
}

// What comes of a body at once goes into room of leastRoom bytes, or of what is
// left of it while that is not below readMost.
const leastRoom, readMost = 16 << 10, 512

// fill reads once from a body. Readers go on meanwhile: they look at what has
// been told to them by came, and this writes behind it.
func (rec *recording) fill(from io.Reader) ([]byte, error) {
	rec.mu.Lock()
	if cap(rec.buf)-len(rec.buf) < readMost {
		rec.buf = slices.Grow(rec.buf, leastRoom)
	}
	room := rec.buf[len(rec.buf):cap(rec.buf)]
	rec.mu.Unlock()
	n, err := from.Read(room)
	return room[:n], err
}

// came lets readers have what was read, which may have had the end marker.
func (rec *recording) came(n int, marked bool) {
	if n > 0 {
		rec.set(func() {
			rec.buf = rec.buf[:len(rec.buf)+n]
			rec.marked = marked
		})
	}
}

// window is how much is kept of a body that is too long to be kept.
const window = 1 << 20

// letGo waits until all who read have come so far that no more than a window
// of a body need be held, and drops the rest. It returns false when nobody reads.
func (rec *recording) letGo() bool {
	for {
		need, wait := rec.drop()
		switch {
		case need < 0:
			return false
		case need <= window:
			return true
		}
		select {
		case <-wait:
		case <-rec.ctx.Done():
			return false
		}
	}
}

// drop lets go what all have read, if the rest fits into a window. It returns
// how much is held then, -1 if nobody reads, and what is closed when that may
// have changed: both are of one moment, so that no reader comes between them.
func (rec *recording) drop() (held int, wait <-chan struct{}) {
	rec.t.mu.Lock()
	defer rec.t.mu.Unlock()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.readers) == 0 {
		return -1, nil
	}
	slowest := rec.gone + int64(len(rec.buf))
	for r := range rec.readers {
		slowest = min(slowest, r.at)
	}
	if n := slowest - rec.gone; n > 0 && int64(len(rec.buf))-n <= window {
		rec.buf = append(make([]byte, 0, 2*window), rec.buf[n:]...)
		rec.gone = slowest
	}
	return len(rec.buf), rec.wait()
}

// wait returns what is closed at the next change. rec.mu is held.
func (rec *recording) wait() <-chan struct{} {
	if rec.changed == nil {
		rec.changed = make(chan struct{})
	}
	return rec.changed
}

// join makes a caller one of those of a recording, and starts it if there is
// none.
func (t *transport) join(q *question) (*recording, *reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rec := t.live[q.id]
	first := rec == nil
	if first {
		rec = &recording{
			t: t, q: q,
			ready:   make(chan struct{}),
			readers: make(map[*reader]struct{}),
		}
		rec.ctx, rec.cancel = context.WithTimeout(context.WithoutCancel(q.Context()), longest)
		t.live[q.id] = rec
	}
	r := &reader{rec: rec, ctx: q.Context(), first: first, left: make(chan struct{})}
	rec.readers[r] = struct{}{}
	rec.callers++
	if first {
		go rec.run()
	}
	return rec, r
}

// forget lets nobody join any more. t.mu is held.
func (t *transport) forget(rec *recording) {
	if t.live[rec.q.id] == rec {
		delete(t.live, rec.q.id)
	}
}

// leave is for a reader who has had enough. What nobody reads is broken off,
// but for an answer in one piece that the provider is making: it is paid.
func (rec *recording) leave(r *reader) {
	t := rec.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := rec.readers[r]; !ok {
		return
	}
	delete(rec.readers, r)
	rec.set(func() {}) // For letGo.
	s := rec.settled()
	if paid := s.marked || s.answer != nil || rec.asked && !rec.q.stream; len(rec.readers) == 0 && !paid {
		t.forget(rec)
		rec.cancel()
	}
}
