package jsonstore

import (
	"context"
	"errors"
	"iter"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// A firstWriter writes the document file of a namespace that has no documents,
// in place of a journal that the next compaction would read again: half of the
// work, and half of the disk.
type firstWriter struct {
	snapshotWriter
	index index // of what has been written; its places have no segment yet
}

// fillFirst is replace for a namespace without documents, for who has the
// token of compactions. Its steps are those of a compaction behind its
// rotation, after each of which a crash is recovered from (see compact):
//
//  1. The documents are written to a temporary file, as they come, which is
//     synced.
//  2. While nobody writes, the times to live are written and renamed into
//     place, and the journal gets a record that names the document file to
//     come, and is synced.
//  3. The temporary file is renamed to the document file, and the directory
//     synced. This is the step that counts: recovery finds all documents or
//     none.
func (e *Engine) fillFirst(ctx context.Context, changes iter.Seq2[engine.Change, error]) error {
	w := &firstWriter{snapshotWriter{engine: e, ctx: ctx}, newIndex()}
	err := w.write(changes)
	if err != nil || len(w.index.docs) == 0 {
		return errors.Join(err, w.discard())
	}
	switched := false
	err = e.alone(func() (err error) {
		switched, err = w.commit()
		return err
	})
	if !switched {
		return errors.Join(err, w.discard())
	}
	if err != nil {
		return err
	}
	e.owed = false
	return e.removeJournals(e.newest().generation - 1)
}

func (w *firstWriter) write(changes iter.Seq2[engine.Change, error]) error {
	if err := w.begin(); err != nil {
		return err
	}
	now, docs := w.engine.clock(), 0
	for c, err := range changes {
		if err != nil {
			return err
		}
		if c.Remove {
			continue // There is nothing to remove.
		}
		d := doc{id: c.ID}
		if c.Expires() {
			d.expires = now + c.TTL.Milliseconds()
		}
		d.lasting = d.expires == 0
		w.ttl(d, c.Value)
		if d.place, err = w.member(c.ID, c.Value, false); err != nil {
			return err
		}
		if w.index.put(d); len(w.index.docs) == docs {
			return fault.WithID(c.ID, engine.ErrTwice)
		}
		docs++
	}
	return w.finish()
}

// commit makes the documents those of the engine, and reports whether they
// are. Nobody writes meanwhile.
func (w *firstWriter) commit() (switched bool, err error) {
	e := w.engine
	if err := e.replaceable(); err != nil {
		return false, err
	}
	if _, err := e.current(); err != nil {
		return false, err
	}
	e.owed = true // Until it is done: a record may announce what never comes.
	if err := w.commitTTLs(); err != nil {
		return false, fault.Unavailablef("%w", err)
	}
	if err := w.announce(); err != nil {
		return false, err
	}
	if err := w.announced(); err != nil {
		return false, err
	}
	document := e.names.document()
	if err := e.files.Rename(e.names.temp(document), document); err != nil {
		return false, fault.Unavailablef("%w", err)
	}
	segment := newSegment(w.file, document)
	for i := range w.index.docs {
		w.index.docs[i].segment = segment
	}
	e.mu.Lock()
	w.index.epoch = e.index.epoch + 1
	e.index = w.index
	e.mu.Unlock()
	if e.snapshot.segment != nil {
		_ = e.snapshot.release()
	}
	e.snapshot = snapshot{segment, w.info, w.identity()}
	e.snapshotBytes.Store(w.at)
	if err := e.files.Sync(); err != nil {
		return true, fault.Unavailablef("%w", err) // The next compaction writes it again.
	}
	return true, nil
}
