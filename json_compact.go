package kv

import (
	"context"
	"errors"
	"fmt"
)

// maybeCompact starts a compaction when the journals have outgrown the
// document file.
func (e *jsonEngine) maybeCompact() {
	limit := max(orDefault(e.compactAt, max(e.snapshotBytes.Load(), 16<<20)), e.compactAfter.Load())
	if e.journalBytes.Load() < limit || e.compactBusy.Swap(true) {
		return
	}
	e.background.Go(func() {
		defer e.compactBusy.Store(false)
		e.compactAfter.Store(0)
		if err := e.compact(context.Background(), true); err != nil {
			e.compactAfter.Store(2 * e.journalBytes.Load()) // What fails is not tried at every write.
			e.logger.Error("kv: compaction failed, the journal is kept", "error", err)
		}
	})
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
func (e *jsonEngine) compact(ctx context.Context, rotate bool) error {
	select {
	case <-e.compacting:
		defer func() { e.compacting <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return e.compactNow(ctx, rotate)
}

// compactNow is compact for who has the token.
func (e *jsonEngine) compactNow(ctx context.Context, rotate bool) (err error) {
	if e.commits.pending.Load() == 0 && !e.stale {
		return nil
	}
	defer func() { e.flushed.Store(&flushed{e.now(), err}) }()
	if err := e.checkUnchanged(); err != nil {
		return err // Before a journal is begun for nothing.
	}
	e.stale = true
	// A journal that a compaction before this one began, and in which nothing
	// was written since, serves again.
	if e.commits.pending.Load() > 0 && rotate || e.health() != nil {
		if err := e.rotate(); err != nil {
			return err
		}
	}
	w := &snapshotWriter{engine: e, ctx: ctx}
	err = w.write()
	if err == nil {
		err = w.commit()
	}
	if err != nil {
		return errors.Join(e.kept(err), w.discard())
	}
	e.adopt(w)
	if err := e.files.Sync(); err != nil {
		return unavailablef("%w", err) // The journals stay, and with them everything.
	}
	e.stale = false
	e.compactions.Add(1)
	return e.removeJournals(e.newest().generation - 1)
}

// kept adds to the failure of a snapshot what has become of the writes since
// the last one, for whoever reads it may fear for them.
func (e *jsonEngine) kept(err error) error {
	if e.health() != nil {
		return err
	}
	return fmt.Errorf("the document file was not rewritten, but every acknowledged write is kept in %s: %w", e.path(e.newest().name), err)
}

// rotate makes a new journal and moves the writers to it. What the old one
// has is on disk by then, unless it has failed.
func (e *jsonEngine) rotate() error {
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
		return nil
	})
	if err != nil {
		return errors.Join(err, j.release(), e.files.Remove(j.name))
	}
	return nil
}
