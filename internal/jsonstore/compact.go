package jsonstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ngraf/kv/internal/fault"
)

// autoCompaction is about compactions that start by themselves, when the
// journals have outgrown the document file. There is one at a time.
type autoCompaction struct {
	at      int64          // journal bytes that start one; 0: the default
	busy    atomic.Bool    // one is under way
	held    atomic.Bool    // none may start
	failed  atomic.Int64   // none starts below this, because one failed; 0: none has
	running sync.WaitGroup // for the one that is under way
}

// journalMost is what the journals grow to before a compaction starts.
func (e *Engine) journalMost() int64 {
	return cmp.Or(e.auto.at, max(e.snapshotBytes.Load(), 16<<20))
}

// maybeCompact starts a compaction when the journals have outgrown the
// document file.
func (e *Engine) maybeCompact() {
	a := &e.auto
	if e.journalBytes.Load() < max(e.journalMost(), a.failed.Load()) || a.held.Load() || a.busy.Swap(true) {
		return
	}
	a.running.Go(func() {
		defer a.busy.Store(false)
		a.failed.Store(0)
		if err := e.compact(context.Background(), true); err != nil && !errors.Is(err, fault.ErrClosed) {
			a.failed.Store(2 * e.journalBytes.Load()) // What fails is not tried at every write.
			e.logger.Error("kv: compaction failed, the journal is kept", "error", err)
		}
	})
}

// HoldCompaction keeps compactions from starting by themselves.
func (e *Engine) HoldCompaction() (resume func()) {
	e.auto.held.Store(true)
	return func() { e.auto.held.Store(false) }
}

// compact writes the document file anew, if anything has been written since
// the last time. Its steps, after each of which a crash is recovered from:
//
//  1. A new journal is made and synced, and writers move to it. It says that
//     it continues the journal before it.
//  2. The documents are written to a temporary file, which is synced. Writers
//     go on meanwhile; what they replace may go into the file in either
//     state, for the new journal has it too.
//  3. The times to live are written and renamed into place, or removed if
//     there are none any more, and the directory synced.
//  4. The new journal gets a record that names the snapshot to come, and is
//     synced.
//  5. The temporary file is renamed to the document file, and the directory
//     synced.
//  6. The old journals are removed, oldest first.
//
// Without rotate, for a store that is closing, step 1 is left out: nobody
// writes, and step 4 uses the last journal.
func (e *Engine) compact(ctx context.Context, rotate bool) error {
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.yield()
	return e.compactNow(ctx, rotate)
}

// compactNow is compact for who has the token.
func (e *Engine) compactNow(ctx context.Context, rotate bool) (err error) {
	if !e.due() {
		return nil
	}
	defer func() { e.flushed.Store(&flushed{e.now(), err}) }()
	begun := e.begun.Add(1)
	if e.leftOver() && rotate {
		// A compaction before this one has begun a journal, and failed. Another
		// one each time would be without bound, so that one serves again; what
		// it has then is in the document file, and goes with the next.
		if err := e.rewrite(ctx, false); err != nil {
			return err
		}
	}
	if err := e.rewrite(ctx, rotate); err != nil {
		return err
	}
	e.covered = begun
	return nil
}

// due reports whether there is anything that the document file does not have.
func (e *Engine) due() bool {
	n, last := e.lastJournal()
	return e.owed || n > 1 || n == 1 && last.pending.Load() > 0
}

// leftOver reports whether there are two journals with documents.
func (e *Engine) leftOver() bool {
	n, last := e.lastJournal()
	return n > 1 && last.pending.Load() > 0
}

// rewrite is one compaction.
func (e *Engine) rewrite(ctx context.Context, rotate bool) error {
	if err := e.checkUnchanged(); err != nil {
		return err // Before a journal is begun for nothing.
	}
	e.owed = true
	if err := e.prepare(rotate); err != nil {
		return err
	}
	w := &snapshotWriter{engine: e, ctx: ctx}
	err := w.write()
	if err == nil {
		err = w.commit()
	}
	if err != nil {
		return errors.Join(e.kept(err), w.discard())
	}
	e.adopt(w)
	if err := e.files.Sync(); err != nil {
		return fault.Unavailablef("%w", err) // The journals stay, and with them everything.
	}
	e.owed = false
	e.compactions.Add(1)
	return e.removeJournals(e.newest().generation - 1)
}

// prepare sees to a journal that can announce the snapshot. One in which
// nothing was written serves again, unless it has failed.
func (e *Engine) prepare(rotate bool) error {
	_, last := e.lastJournal()
	switch {
	case last == nil:
		return e.alone(func() error {
			_, err := e.current()
			return err
		})
	case last.failed.Load() && last.pending.Load() == 0 && !last.announced:
		return e.replaceJournal(last)
	case last.failed.Load(), rotate && last.pending.Load() > 0:
		return e.rotate()
	}
	return nil
}

// kept adds to the failure of a snapshot what has become of the writes since
// the last one, for whoever reads it may fear for them.
func (e *Engine) kept(err error) error {
	if e.health() != nil {
		return err
	}
	return fmt.Errorf("the document file was not rewritten, but every acknowledged write is kept in %s: %w", e.path(e.newest().name), err)
}

// rotate makes a new journal and moves the writers to it. What the old one
// has is on disk by then, unless it has failed.
func (e *Engine) rotate() error {
	if e.health() == nil {
		if err := e.syncLast(); err != nil {
			return err
		}
	}
	j, err := e.createJournal(e.newest().generation+1, journalHeader{compacts: true})
	if err != nil {
		return err
	}
	err = e.alone(func() error {
		if e.health() == nil {
			if err := e.syncLast(); err != nil {
				return err
			}
		}
		e.use(j)
		if e.health() == nil {
			j.unmarked = true // Of the journal before it, which is on the disk.
			_ = e.mark()
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, j.release(), e.removeUnused(j.name))
	}
	return nil
}

// replaceJournal puts a new journal in the place of the last one, which has
// failed and holds nothing that counts: if the machine dies in between, the
// one before it is the last.
func (e *Engine) replaceJournal(old *journal) error {
	switch stays, err := e.removeJournal(old); {
	case err != nil:
		return fault.Unavailablef("%w", err)
	case stays:
		return e.rotate()
	}
	j, err := e.createJournal(old.generation, journalHeader{compacts: true})
	if err != nil {
		return err
	}
	return e.alone(func() error {
		e.mu.Lock()
		e.journals = e.journals[:len(e.journals)-1]
		e.mu.Unlock()
		e.journalBytes.Add(-old.end)
		e.use(j)
		return old.release()
	})
}
