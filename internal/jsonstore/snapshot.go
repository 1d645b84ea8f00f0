package jsonstore

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"sync"
	"sync/atomic"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/wal"
)

// A snapshotWriter writes a document file, and its times to live, to temporary
// files.
type snapshotWriter struct {
	engine *Engine
	ctx    context.Context

	file   fsys.File
	out    []byte // not written yet
	at     int64  // where out goes
	sum    uint32 // of what has been written
	buf    []byte // for reading values
	small  []byte // for a value in compact form
	epoch  uint64
	places []place // by position; empty for documents that have expired
	fresh  *index  // of what fill has written; its places have no segment yet
	first  bool
	ttls   *wal.Encoder
	info   fs.FileInfo

	syncing sync.WaitGroup
	busy    atomic.Bool // a sync is under way
	synced  int64       // where the last one began
	failure atomic.Pointer[error]
}

// syncBytes is how much is written before the disk is set to work. It then
// has less left to do in the end, when everybody waits for it.
const syncBytes = 16 << 20

const snapshotPage = 512

func (w *snapshotWriter) begin() (err error) {
	e := w.engine
	w.file, err = e.files.OpenFile(tempName(e.names.document()), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.Unavailable(err)
	}
	w.first = true
	w.ttls = wal.NewEncoder(newSalt())
	return nil
}

// write writes what is in the index.
func (w *snapshotWriter) write() error {
	if err := w.begin(); err != nil {
		return err
	}
	e := w.engine
	e.mu.RLock()
	w.epoch = e.index.epoch
	end := len(e.index.docs)
	e.mu.RUnlock()
	w.places = make([]place, end)
	page := make([]doc, 0, snapshotPage)
	for from := 0; from < end; from += snapshotPage {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		page = w.page(page[:0], from, min(from+snapshotPage, end))
		for i, d := range page {
			if d.segment == nil {
				continue
			}
			if err := w.document(from+i, d); err != nil {
				return err
			}
		}
	}
	return w.finish()
}

// fill writes documents as they come, for a namespace that has none.
func (w *snapshotWriter) fill(changes iter.Seq2[engine.Change, error]) error {
	if err := w.begin(); err != nil {
		return err
	}
	fresh, now := newIndex(), w.engine.clock()
	w.fresh = &fresh
	for c, err := range changes {
		if err != nil {
			return err
		}
		if c.Remove {
			continue // There is nothing to remove.
		}
		if _, twice := fresh.position[c.ID]; twice {
			return fault.WithID(c.ID, engine.ErrTwice)
		}
		d := doc{id: c.ID, expires: expiry(c.Item, now)}
		if d.expires != 0 {
			w.ttl(d, c.Value)
		}
		if d.place, err = w.member(c.ID, c.Value, false); err != nil {
			return err
		}
		fresh.put(d)
	}
	return w.finish()
}

// adopted makes the file, which has its name, the place of every value that was
// not written meanwhile.
func (w *snapshotWriter) adopted(segment *segment) {
	e := w.engine
	if w.fresh != nil {
		for i := range w.fresh.docs {
			w.fresh.docs[i].segment = segment
		}
		e.mu.Lock()
		w.fresh.epoch = e.index.epoch + 1
		e.index = *w.fresh
		e.mu.Unlock()
		return
	}
	newest := e.newest()
	for from := 0; from < len(w.places); from += snapshotPage {
		e.mu.Lock()
		if e.index.epoch != w.epoch {
			e.mu.Unlock()
			break
		}
		for i := from; i < min(from+snapshotPage, len(w.places)); i++ {
			d := &e.index.docs[i]
			switch {
			case d.segment == nil || d.segment == newest.segment:
			case w.places[i].size == 0:
				e.index.remove(d.id)
			default:
				d.place = w.places[i]
				d.segment = segment
			}
		}
		e.mu.Unlock()
	}
}

// page copies a part of the index. After a Drop there is nothing to copy: the
// new journal has all that came later.
func (w *snapshotWriter) page(page []doc, from, to int) []doc {
	w.engine.mu.RLock()
	defer w.engine.mu.RUnlock()
	if w.engine.index.epoch != w.epoch {
		return page
	}
	return append(page, w.engine.index.docs[from:to]...)
}

// document writes a document of the index. Expired ones are left out,
// but their times to live are not, in case the old document file survives.
func (w *snapshotWriter) document(position int, d doc) error {
	e := w.engine
	value, err := e.readRaw(d, w.buf)
	if err != nil {
		return err
	}
	w.buf = value
	if d.expires != 0 {
		w.ttl(d, value)
		if d.expired(e.clock()) {
			return nil
		}
	}
	w.places[position], err = w.member(d.id, value, d.foreign)
	return err
}

// member writes one member of the object, and returns where its value stands,
// in a segment that is still to be made.
func (w *snapshotWriter) member(id string, value []byte, foreign bool) (place, error) {
	if w.first {
		w.out = append(w.out, "{\n  "...)
	} else {
		w.out = append(w.out, ",\n  "...)
	}
	w.first = false
	w.out = jsonscan.AppendString(w.out, id)
	w.out = append(w.out, ": "...)
	start := len(w.out)
	switch {
	case foreign:
		w.out = append(w.out, value...)
	case bloats(value):
		w.out = jsonscan.AppendCompact(w.out, value)
	default:
		w.out = jsonscan.AppendIndent(w.out, value, "  ")
	}
	written := w.out[start:]
	at := place{offset: w.at + int64(start), size: uint32(len(written)), sum: wal.Sum(written)}
	if len(w.out) < encodeBytes {
		return at, nil
	}
	return at, w.spill()
}

// bloats reports whether a value would take far more room when it is laid
// out, up to two times the limit of nesting, as one that is deep and wide.
func bloats(value []byte) bool {
	const most = 16
	if len(value)*(2*engine.MaxDepth+4) < most<<20 {
		return false
	}
	size := jsonscan.IndentedSize(value, "  ")
	return size > most<<20 && size/most > int64(len(value)) || size > engine.LimitMaxValueBytes
}

func (w *snapshotWriter) spill() error {
	if _, err := w.file.WriteAt(w.out, w.at); err != nil {
		return fault.Unavailable(err)
	}
	w.at += int64(len(w.out))
	w.sum = wal.Extend(w.sum, w.out)
	w.out = w.out[:0]
	if w.at-w.synced >= syncBytes && w.busy.CompareAndSwap(false, true) {
		w.synced = w.at
		w.syncing.Go(func() {
			if err := w.file.Sync(); err != nil {
				w.failure.Store(&err)
			}
			w.busy.Store(false)
		})
	}
	return nil
}

func (w *snapshotWriter) finish() error {
	if w.first {
		w.out = append(w.out, "{}"...)
	} else {
		w.out = append(w.out, "\n}"...)
	}
	if err := w.spill(); err != nil {
		return err
	}
	err := w.settled() // A sync that has failed is not made good by another.
	if err == nil {
		err = w.file.Sync()
	}
	if err == nil {
		w.info, err = w.file.Stat()
	}
	if err == nil && w.hasTTLs() {
		err = w.writeTTLs()
	}
	return fault.Unavailable(err)
}

// settled waits for the sync that is under way, and returns why one failed.
func (w *snapshotWriter) settled() error {
	w.syncing.Wait()
	if failure := w.failure.Load(); failure != nil {
		return *failure
	}
	return nil
}

// identity is that of the file that was written.
func (w *snapshotWriter) identity() identity { return identity{true, w.at, w.sum} }

func (w *snapshotWriter) hasTTLs() bool { return len(w.ttls.Buf) > 0 }

// ttl lays out a time to live. They are written in the end.
func (w *snapshotWriter) ttl(d doc, value []byte) {
	if !w.hasTTLs() {
		w.ttls.Header(journalHeader{salt: w.ttls.Salt()}.encode(ttlKind))
	}
	w.small = jsonscan.AppendCompact(w.small[:0], value)
	start := w.ttls.Begin()
	w.ttls.Buf = appendTTL(w.ttls.Buf, d.id, d.expires, wal.Sum(w.small))
	w.ttls.End(start)
}

func (w *snapshotWriter) writeTTLs() error {
	f, err := w.engine.files.OpenFile(tempName(w.engine.names.ttl()), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(w.ttls.Buf, 0); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// discard removes what a snapshot that failed has left.
func (w *snapshotWriter) discard() error {
	if w.file == nil {
		return nil
	}
	w.syncing.Wait()
	e := w.engine
	err := errors.Join(w.file.Close(), ignoreMissing(e.files.Remove(tempName(e.names.document()))))
	if w.hasTTLs() {
		err = errors.Join(err, ignoreMissing(e.files.Remove(tempName(e.names.ttl()))))
	}
	return err
}
