package jsonstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/wal"
)

// A snapshot is the document file as this engine knows it.
type snapshot struct {
	*segment // nil if there is none
	info     fs.FileInfo
	identity identity
}

// A snapshotWriter writes one snapshot.
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

// begin makes the temporary file.
func (w *snapshotWriter) begin() (err error) {
	e := w.engine
	name := e.names.temp(e.names.document())
	w.file, err = e.files.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.Unavailablef("%w", err)
	}
	w.first = true
	w.ttls = wal.NewEncoder(newSalt())
	return nil
}

// write writes the temporary files.
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
	w.ttl(d, value)
	if d.expired(e.clock()) {
		return nil
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
		return fault.Unavailablef("%w", err)
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
	// A sync that has failed is not made good by another.
	if err := w.settled(); err != nil {
		return fault.Unavailablef("%w", err)
	}
	if err := w.file.Sync(); err != nil {
		return fault.Unavailablef("%w", err)
	}
	var err error
	if w.info, err = w.file.Stat(); err != nil {
		return fault.Unavailablef("%w", err)
	}
	return nil
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

// commit puts the temporary files in place of the old ones.
func (w *snapshotWriter) commit() error {
	e := w.engine
	if err := w.commitTTLs(); err != nil {
		return fault.Unavailablef("%w", err)
	}
	if err := e.alone(w.announce); err != nil {
		return err
	}
	if err := w.announced(); err != nil {
		return err
	}
	if err := e.checkUnchanged(); err != nil {
		return err
	}
	document := e.names.document()
	if err := e.files.Rename(e.names.temp(document), document); err != nil {
		return fault.Unavailablef("%w", err)
	}
	return nil
}

// announce writes into the journal which snapshot is about to come, in the
// turn of a writer.
func (w *snapshotWriter) announce() error {
	e := w.engine
	j := e.commits.active
	if j.failed.Load() {
		return e.health()
	}
	return e.appendCommit(j, w.identity())
}

// announced makes the announcement durable. Writers go on meanwhile: under
// some policies all that they have written goes to the disk with it.
func (w *snapshotWriter) announced() error {
	j := w.engine.newest()
	if err := w.engine.syncJournal(j); err != nil {
		return err
	}
	j.announced = true
	return nil
}

// checkUnchanged keeps us from replacing a document file that another program
// has put there or written to since we read it.
func (e *Engine) checkUnchanged() error {
	same, err := e.unchanged()
	if err != nil {
		return fault.Unavailablef("%w", err)
	}
	if same {
		return nil
	}
	return fmt.Errorf("%w: another program changed, replaced or removed %s while it was open; "+
		"it is left as it is, and the writes since are in %s: close the store, and put the file back or move the journal away",
		fault.ErrCorrupt, e.path(e.names.document()), e.path(e.newest().name))
}

// unchanged reports whether the document file is the one that was read or
// written last.
func (e *Engine) unchanged() (bool, error) {
	info, err := e.files.Stat(e.names.document())
	if err != nil {
		return e.snapshot.segment == nil && errors.Is(err, fs.ErrNotExist), ignoreMissing(err)
	}
	return e.snapshot.segment != nil && fsys.SameFile(info, e.snapshot.info) &&
		info.Size() == e.snapshot.info.Size() && info.ModTime().Equal(e.snapshot.info.ModTime()), nil
}

// adopt makes the new document file the place of every value that was not
// written meanwhile.
func (e *Engine) adopt(w *snapshotWriter) {
	segment := newSegment(w.file, e.names.document())
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
	if e.snapshot.segment != nil {
		_ = e.snapshot.release()
	}
	e.snapshot = snapshot{segment, w.info, w.identity()}
	e.snapshotBytes.Store(w.at)
	e.mu.Lock()
	e.index.pack(e.cursors)
	e.mu.Unlock()
}

// discard removes what a snapshot that failed has left.
func (w *snapshotWriter) discard() error {
	if w.file == nil {
		return nil
	}
	w.syncing.Wait()
	temp := w.engine.names.temp(w.engine.names.document())
	return errors.Join(w.file.Close(), ignoreMissing(w.engine.files.Remove(temp)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
