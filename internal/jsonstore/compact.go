package jsonstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/fsys"
)

// A compactor has the right to the files: which document file there is, which
// times to live, which journals. There is one to an engine, in its channel
// while nobody compacts. Who has received it has the right, and what is in it;
// who sends it back has neither. A store that is closing does not send it back.
type compactor struct {
	engine   *Engine
	snapshot snapshot
	owed     bool       // the document file must be written anew, though no journal says so
	ttlFile  bool       // there is a file of times to live
	obsolete []*journal // those that could not be removed
	leftover leftover   // of the journals behind the first
	covered  uint64     // the last compaction that succeeded
}

// A snapshot is the document file as this engine knows it.
type snapshot struct {
	*segment // nil if there is none
	info     fs.FileInfo
	identity identity
}

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
		if err := e.compact(context.Background()); err != nil && !errors.Is(err, fault.ErrClosed) {
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

func (e *Engine) compact(ctx context.Context) error {
	c, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.yield()
	return c.compact(ctx, true)
}

// compact writes the document file anew, if anything has been written since
// the last time; see rewrite.
func (c *compactor) compact(ctx context.Context, rotate bool) (err error) {
	e := c.engine
	if !c.due() {
		return nil
	}
	defer func() { e.flushed.Store(&flushed{e.now(), err}) }()
	begun := e.begun.Add(1)
	if n, last := e.lastJournal(); rotate && n > 1 && last.pending.Load() > 0 {
		// A compaction before this one has begun a journal, and failed. Another
		// one each time would be without bound, so that one serves again; what
		// it has then is in the document file, and goes with the next.
		if err := c.rewrite(ctx, false); err != nil {
			return err
		}
	}
	if err := c.rewrite(ctx, rotate); err != nil {
		return err
	}
	c.covered = begun
	return nil
}

// due reports whether there is anything that the document file does not have.
func (c *compactor) due() bool {
	n, last := c.engine.lastJournal()
	return c.owed || n > 1 || n == 1 && last.pending.Load() > 0
}

// rewrite is one compaction, after each step of which, those of publish among
// them, a crash is recovered from. Without rotate, for a store that is closing,
// step 1 is left out: nobody writes, and step 4 uses the last journal.
func (c *compactor) rewrite(ctx context.Context, rotate bool) error {
	e := c.engine
	if err := c.checkUnchanged(); err != nil {
		return err // Before a journal is begun for nothing.
	}
	c.owed = true

	// 1. A new journal is made and synced, and writers move to it. It says that
	// it continues the journal before it.
	if err := c.prepare(rotate); err != nil {
		return err
	}

	// 2. The documents are written to a temporary file, and their times to live
	// to another, which are synced. Writers go on meanwhile; what they replace
	// may go into the file in either state, for the new journal has it too.
	w := &snapshotWriter{engine: e, ctx: ctx}
	renamed, err := false, w.write()
	if err == nil {
		renamed, err = c.publish(w, e.alone)
	}
	if !renamed {
		return errors.Join(c.kept(err), w.discard())
	}
	if !c.owed {
		e.compactions.Add(1)
	}
	return err
}

// publish puts temporary files, which are on the disk, in the place of those
// before, and reports whether the document file is the new one. turn runs a
// function while nobody writes.
func (c *compactor) publish(w *snapshotWriter, turn func(func() error) error) (renamed bool, err error) {
	e := c.engine
	c.owed = true // Until it is done: a record may announce what never comes.

	// 3. The times to live take the place of those before, and the directory is
	// synced.
	if err := c.replaceTTLs(w); err != nil {
		return false, fault.Unavailable(err)
	}

	// 4. The new journal gets a record that names the document file to come, in
	// a writer's turn, and is synced outside of it. Under some policies all that
	// writers have written meanwhile goes to the disk with it.
	j := e.newest()
	if err := turn(func() error { return e.announce(j, w.identity()) }); err != nil {
		return false, err
	}
	if err := e.syncJournal(j); err != nil {
		return false, err
	}
	j.announced = true

	// 5. The temporary file is renamed to the document file, becomes the place
	// of the documents, and the directory is synced.
	if err := c.checkUnchanged(); err != nil {
		return false, err
	}
	if err := e.files.Rename(tempName(e.names.document()), e.names.document()); err != nil {
		return false, fault.Unavailable(err)
	}
	c.adopt(w)
	if err := e.files.Sync(); err != nil {
		return true, fault.Unavailable(err) // The journals stay, and with them everything.
	}
	c.owed = false

	// 6. The old journals are removed, oldest first.
	return true, c.removeJournals(j.generation - 1)
}

// kept adds to the failure of a compaction what has become of the writes since
// the last one, for whoever reads it may fear for them.
func (c *compactor) kept(err error) error {
	e := c.engine
	if e.health() != nil {
		return err
	}
	return fmt.Errorf("the document file was not rewritten, but every acknowledged write is kept in %s: %w", e.path(e.newest().name), err)
}

// replaceTTLs comes before the document file, and before the record that
// announces it, which may make a journal superfluous though the old document
// file stays, if both are the same. Entries without a document do no harm;
// documents without their entry would live for ever, and those that got a
// value again, without a time to live, would be gone with an old entry.
func (c *compactor) replaceTTLs(w *snapshotWriter) error {
	e := c.engine
	if !w.hasTTLs() && !c.ttlFile {
		return nil
	}
	// What the entries are taken from must not be lost when they are not.
	if err := e.syncLast(); err != nil {
		return err
	}
	replace := func() error { return e.files.Rename(tempName(e.names.ttl()), e.names.ttl()) }
	if !w.hasTTLs() {
		replace = func() error { return ignoreMissing(e.files.Remove(e.names.ttl())) }
	}
	if err := replace(); err != nil {
		return err
	}
	c.ttlFile = true // What was removed may come back until the directory is synced.
	if err := e.files.Sync(); err != nil {
		return err
	}
	c.ttlFile = w.hasTTLs()
	return nil
}

// checkUnchanged keeps us from replacing a document file that another program
// has put there or written to since we read it.
func (c *compactor) checkUnchanged() error {
	same, err := c.unchanged()
	if err != nil {
		return fault.Unavailable(err)
	}
	if same {
		return nil
	}
	e := c.engine
	since := "nothing was written since: close the store, and open it again"
	if j := e.newest(); j != nil {
		since = fmt.Sprintf("the writes since are in %s: close the store, and put the file back or move the journal away", e.path(j.name))
	}
	return fmt.Errorf("%w: another program changed, replaced or removed %s while it was open; it is left as it is, and %s",
		fault.ErrCorrupt, e.path(e.names.document()), since)
}

// unchanged reports whether the document file is the one that was read or
// written last.
func (c *compactor) unchanged() (bool, error) {
	info, err := c.engine.files.Stat(c.engine.names.document())
	if err != nil {
		return c.snapshot.segment == nil && errors.Is(err, fs.ErrNotExist), ignoreMissing(err)
	}
	return c.snapshot.segment != nil && fsys.SameFile(info, c.snapshot.info) &&
		info.Size() == c.snapshot.info.Size() && info.ModTime().Equal(c.snapshot.info.ModTime()), nil
}

// adopt makes the new document file the place of what is in it.
func (c *compactor) adopt(w *snapshotWriter) {
	e := c.engine
	segment := newSegment(w.file, e.names.document())
	w.adopted(segment)
	if c.snapshot.segment != nil {
		_ = c.snapshot.release()
	}
	c.snapshot = snapshot{segment, w.info, w.identity()}
	e.snapshotBytes.Store(w.at)
	e.mu.Lock()
	e.index.pack(e.cursors)
	e.mu.Unlock()
}
