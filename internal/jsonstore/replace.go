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
)

// Replace makes changes, any number of them, in one step that a crash does
// not divide, and returns the name of the file that has the documents of
// before. Values go to the disk as they come, and only ids and places are held
// in memory. Documents that are there keep their place. The changes may be
// made from what the engine holds: it does not change meanwhile, or replace
// fails. After each of its steps a crash is recovered from. The next compaction
// then writes the document file, as after any write; where there are no
// documents, that is all there is to do.
func (e *Engine) Replace(ctx context.Context, changes iter.Seq2[engine.Change, error]) (previous string, err error) {
	c, err := e.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer c.yield()
	if err := e.health(); err != nil {
		return "", err
	}

	// 1. A compaction, so that the document file has everything, and nobody else
	// compacts.
	if err := c.compact(ctx, true); err != nil {
		return "", err
	}

	if e.Count() == 0 {
		return "", c.fill(ctx, changes)
	}

	// 2. The changes are written to what will be the next journal, under the name
	// of a temporary file, and synced.
	w := &replacementWriter{compactor: c}
	switched := false
	suffix := ""
	defer func() {
		if !switched {
			err = errors.Join(err, w.discard(), c.dropPrevious(suffix))
		}
	}()
	if err := w.write(changes); err != nil || len(w.changes) == 0 {
		return "", err
	}

	// 3. The document file is copied to the one of before, by way of a temporary
	// file, which is synced and renamed, and the directory synced.
	if suffix, err = c.keepPrevious(); err != nil {
		return "", err
	}

	// 4. While nobody writes, the new journal is renamed to take its place behind
	// the last one, and the directory synced. This is the step that counts:
	// recovery finds the journal whole or not at all.
	err = e.alone(func() (err error) {
		switched, err = w.commit()
		return err
	})
	if switched && suffix != "" {
		previous = e.names.document() + suffix
	}
	return previous, err
}

// fill is Replace where there are no documents: a compaction of what comes
// instead of what is there, published while nobody writes. It saves the journal
// that the next compaction would read again.
func (c *compactor) fill(ctx context.Context, changes iter.Seq2[engine.Change, error]) error {
	w := &snapshotWriter{engine: c.engine, ctx: ctx}
	renamed, err := false, w.fill(changes)
	if err == nil && len(w.fresh.docs) > 0 {
		err = c.engine.alone(func() error {
			if err := c.replaceable(); err != nil {
				return err
			}
			if _, err := c.engine.current(); err != nil {
				return err
			}
			renamed, err = c.publish(w, func(f func() error) error { return f() })
			return err
		})
	}
	if !renamed {
		return errors.Join(err, w.discard())
	}
	return err
}

// replaceable returns why the documents cannot be replaced now. It is asked
// while nobody writes.
func (c *compactor) replaceable() error {
	e := c.engine
	switch last := e.newest(); {
	case e.closing():
		return fault.ErrClosed
	case e.health() != nil:
		return e.health()
	case last != nil && last.pending.Load() > 0:
		return fault.Unavailablef("%w", engine.ErrWritten)
	}
	return c.checkUnchanged()
}

// A replacementWriter writes the journal of a replace.
type replacementWriter struct {
	*compactor
	journal *journal // with its last name, which it does not have yet
	changes []change
}

func (w *replacementWriter) temp() string { return tempName(w.engine.names.replacement()) }

func (w *replacementWriter) write(changes iter.Seq2[engine.Change, error]) error {
	e := w.engine
	file, err := e.files.OpenFile(w.temp(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.Unavailable(err)
	}
	generation, h := uint64(1), journalHeader{salt: newSalt(), continues: w.snapshot.identity}
	if last := e.newest(); last != nil {
		generation, h.compacts, h.continues = last.generation+1, true, identity{}
	}
	j := e.newJournal(file, generation, h.salt)
	w.journal = j
	j.log.Header(h.encode(journalKind))
	now := e.clock()
	for c, err := range changes {
		if err != nil {
			return err
		}
		j.log.Synced = j.log.Next() // By the time it has its name, it is.
		if c.Remove {
			w.changes = append(w.changes, j.remove(c.ID))
		} else {
			w.changes = append(w.changes, j.store(c.Item, now))
		}
		if len(j.log.Buf) < encodeBytes {
			continue
		}
		if err := j.spill(); err != nil {
			return fault.Unavailable(err)
		}
	}
	if err = j.spill(); err == nil {
		err = file.Sync()
	}
	if err == nil {
		j.info, err = file.Stat()
	}
	j.resumeAt(j.end)
	return fault.Unavailable(err)
}

// commit makes the changes take effect, and reports whether they have. Nobody
// writes meanwhile.
func (w *replacementWriter) commit() (switched bool, err error) {
	e := w.engine
	if err := w.replaceable(); err != nil {
		return false, err
	}
	if err := e.files.Rename(w.temp(), w.journal.name); err != nil {
		return false, fault.Unavailable(err)
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

// keepPrevious copies the document file, and the times to live that belong to
// it, and returns the ending of their names, which is empty if there is no
// document file. There is no copy that is not whole.
func (c *compactor) keepPrevious() (string, error) {
	e := c.engine
	if c.snapshot.segment == nil {
		return "", nil
	}
	if err := c.checkUnchanged(); err != nil {
		return "", err
	}
	at := e.now().UTC()
	suffix := func() string { return previousMark + at.Format(markTime) }
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
	err := ignoreMissing(keepFile(e.files, e.names.ttl(), tempName(e.names.ttl()), e.names.ttl()+suffix()))
	if err == nil {
		document := e.names.document()
		err = keepFile(e.files, document, tempName(document), document+suffix())
	}
	if err == nil {
		err = e.files.Sync()
	}
	if err != nil {
		err = fault.Unavailablef("the documents of before could not be kept, and nothing was changed: %w", err)
		return "", errors.Join(err, c.dropPrevious(suffix()))
	}
	return suffix(), nil
}

// dropPrevious removes copies for which there was no need.
func (c *compactor) dropPrevious(suffix string) error {
	if suffix == "" {
		return nil
	}
	e := c.engine
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
