package jsonstore

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/wal"
)

// Replace makes changes, any number of them, in one step that a crash does
// not divide, and returns the name of the file that has the documents of
// before. Values go to the disk as they come, and only ids and places are held
// in memory. Documents that are there keep their place. The changes may be
// made from what the engine holds: it does not change meanwhile, or replace
// fails. Its steps, after each of which a crash is recovered from:
//
//  1. A compaction, so that the document file has everything, and nobody else
//     compacts.
//  2. The changes are written to what will be the next journal, under the name
//     of a temporary file, and synced.
//  3. The document file is copied to the one of before, by way of a temporary
//     file, which is synced and renamed, and the directory synced.
//  4. While nobody writes, the new journal is renamed to take its place behind
//     the last one, and the directory synced. This is the step that counts:
//     recovery finds the journal whole or not at all.
//
// The next compaction then writes the document file, as after any write. If
// there are no documents, the changes go into the document file at once; see
// fillFirst.
func (e *Engine) Replace(ctx context.Context, changes iter.Seq2[engine.Change, error]) (previous string, err error) {
	if err := e.acquire(ctx); err != nil {
		return "", err
	}
	defer e.yield()
	if err := e.health(); err != nil {
		return "", err
	}
	if err := e.compactNow(ctx, true); err != nil {
		return "", err
	}
	if e.Count() == 0 {
		return "", e.fillFirst(ctx, changes)
	}
	w := &replacementWriter{engine: e, generation: 1}
	if _, last := e.lastJournal(); last != nil {
		w.generation = last.generation + 1
	}
	suffix := ""
	err = w.write(changes)
	if err == nil && len(w.changes) > 0 {
		suffix, err = e.keepPrevious()
	}
	if err != nil || len(w.changes) == 0 {
		return "", errors.Join(err, w.discard())
	}
	switched := false
	err = e.alone(func() (err error) {
		switched, err = w.commit()
		return err
	})
	switch {
	case !switched:
		err = errors.Join(err, w.discard(), e.dropPrevious(suffix))
	case suffix != "":
		previous = e.names.document() + suffix
	}
	return previous, err
}

// replaceable returns why the documents cannot be replaced now. It is asked
// while nobody writes.
func (e *Engine) replaceable() error {
	switch _, last := e.lastJournal(); {
	case e.closing():
		return fault.ErrClosed
	case e.health() != nil:
		return e.health()
	case last != nil && last.pending.Load() > 0:
		return fault.Unavailablef("%w", engine.ErrWritten)
	}
	return e.checkUnchanged()
}

// A replacementWriter writes the journal of a replace.
type replacementWriter struct {
	engine     *Engine
	generation uint64
	journal    *journal // with its last name, which it does not have yet
	changes    []change
}

func (w *replacementWriter) temp() string {
	return w.engine.names.temp(w.engine.names.replacement())
}

func (w *replacementWriter) write(changes iter.Seq2[engine.Change, error]) error {
	e := w.engine
	file, err := e.files.OpenFile(w.temp(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.Unavailablef("%w", err)
	}
	h := journalHeader{salt: newSalt(), compacts: true}
	if w.generation == 1 {
		h.compacts, h.continues = false, e.snapshot.identity
	}
	w.journal = &journal{segment: newSegment(file, e.names.journal(w.generation)), generation: w.generation, salt: h.salt}
	enc := wal.NewEncoder(h.salt)
	enc.Header(h.encode(journalKind))
	for c, err := range changes {
		if err != nil {
			return err
		}
		enc.Synced = enc.Next() // By the time it has its name, it is.
		w.changes = append(w.changes, w.record(enc, c))
		if len(enc.Buf) < encodeBytes {
			continue
		}
		if err := w.spill(enc); err != nil {
			return err
		}
	}
	if err := w.spill(enc); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return fault.Unavailablef("%w", err)
	}
	if w.journal.info, err = file.Stat(); err != nil {
		return fault.Unavailablef("%w", err)
	}
	w.journal.resumeAt(enc.Next())
	return nil
}

func (w *replacementWriter) record(enc *wal.Encoder, c engine.Change) change {
	start := enc.Begin()
	defer func() { enc.End(start) }()
	if c.Remove {
		enc.Buf = appendDelete(enc.Buf, c.ID)
		return change{op: opDelete, doc: doc{id: c.ID}}
	}
	expires := int64(0)
	if c.Expires() {
		expires = w.engine.clock() + c.TTL.Milliseconds()
	}
	enc.Buf = appendUpsert(enc.Buf, c.ID, expires)
	at := place{segment: w.journal.segment, offset: enc.Next(), size: uint32(len(c.Value)), sum: wal.Sum(c.Value)}
	enc.Buf = append(enc.Buf, c.Value...)
	return change{op: opUpsert, doc: doc{id: c.ID, expires: expires, place: at, lasting: expires == 0}}
}

func (w *replacementWriter) spill(enc *wal.Encoder) error {
	if _, err := w.journal.file.WriteAt(enc.Buf, enc.At); err != nil {
		return fault.Unavailablef("%w", err)
	}
	enc.Reset(enc.Next())
	return nil
}

// commit makes the changes take effect, and reports whether they have. Nobody
// writes meanwhile.
func (w *replacementWriter) commit() (switched bool, err error) {
	e := w.engine
	if err := e.replaceable(); err != nil {
		return false, err
	}
	if err := e.files.Rename(w.temp(), w.journal.name); err != nil {
		return false, fault.Unavailablef("%w", err)
	}
	synced := e.files.Sync()
	w.journal.pending.Store(int64(len(w.changes)))
	e.use(w.journal)
	e.mu.Lock()
	for _, c := range w.changes {
		e.index.apply(c)
	}
	e.mu.Unlock()
	if synced != nil {
		return true, e.fail(w.journal, synced)
	}
	return true, nil
}

// discard removes a journal that has not taken effect.
func (w *replacementWriter) discard() error {
	if w.journal == nil {
		return nil
	}
	return errors.Join(w.journal.release(), ignoreMissing(w.engine.files.Remove(w.temp())))
}

// previousMark stands in the names of the files of before.
const previousMark = ".previous-"

// keepPrevious copies the document file, and the times to live that belong to
// it, and returns the ending of their names, which is empty if there is no
// document file. There is no copy that is not whole.
func (e *Engine) keepPrevious() (string, error) {
	if e.snapshot.segment == nil {
		return "", nil
	}
	if err := e.checkUnchanged(); err != nil {
		return "", err
	}
	at := e.now().UTC()
	suffix := func() string { return previousMark + at.Format("20060102T150405.000") }
	for {
		_, err := e.files.Stat(e.names.document() + suffix())
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", fault.Unavailablef("%w", err)
		}
		at = at.Add(time.Millisecond)
	}
	err := ignoreMissing(keepFile(e.files, e.names.ttl(), e.names.temp(e.names.ttl()), e.names.ttl()+suffix()))
	if err == nil {
		document := e.names.document()
		err = keepFile(e.files, document, e.names.temp(document), document+suffix())
	}
	if err == nil {
		err = e.files.Sync()
	}
	if err != nil {
		err = fault.Unavailablef("the documents of before could not be kept, and nothing was changed: %w", err)
		return "", errors.Join(err, e.dropPrevious(suffix()))
	}
	return suffix(), nil
}

// dropPrevious removes copies for which there was no need.
func (e *Engine) dropPrevious(suffix string) error {
	if suffix == "" {
		return nil
	}
	return errors.Join(
		ignoreMissing(e.files.Remove(e.names.document()+suffix)),
		ignoreMissing(e.files.Remove(e.names.ttl()+suffix)))
}

func keepFile(files fsys.FS, from, temp, to string) error {
	err := copyFile(files, from, temp, os.O_TRUNC)
	if err == nil {
		err = files.Rename(temp, to)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(files.Remove(temp)))
	}
	return nil
}
