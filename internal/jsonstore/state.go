package jsonstore

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/ngraf/kv/internal/fault"
)

// A stage is a part of an engine's life, which only moves on:
//
//	open ──► failed ──► closing ──► closed
//	   └──────────────────►┘
type stage uint8

const (
	stageOpen    stage = iota // reads and writes
	stageFailed               // an fsync failed: reads, and attempts to save what there is
	stageClosing              // no write begins any more, and the last compaction runs
	stageClosed               // the files have been given back
)

// A life is where an engine is in its life. Anybody may make an engine fail;
// the other steps are for who has the token of compactions.
type life struct {
	stage   stage
	failure error // from stageFailed on, if the engine came that way
}

// advance moves an engine on, and reports whether it did: nothing leads back,
// and the first failure is the one that counts.
func (e *Engine) advance(to stage, failure error) bool {
	for {
		old := e.state.Load()
		fails := failure != nil && old.failure == nil
		if to <= old.stage && !fails {
			return false
		}
		next := life{max(old.stage, to), old.failure}
		if fails {
			next.failure = failure
		}
		if e.state.CompareAndSwap(old, &next) {
			return true
		}
	}
}

// fail refuses all writes from now on. The kernel reports a failed fsync once
// and may drop the data; a second fsync that succeeds would prove nothing.
func (e *Engine) fail(j *journal, cause error) error {
	err := fault.Unavailablef("writes are refused until the namespace is reopened, because the state of %s on disk is not known: %w",
		e.path(j.name), cause)
	j.failed.Store(true)
	if e.advance(stageFailed, err) {
		e.logger.Error("kv: writes are refused until the namespace is reopened", "error", err)
	}
	return e.health()
}

// health returns why the engine has failed, or nil.
func (e *Engine) health() error { return e.state.Load().failure }

// closing reports whether no call may begin any more.
func (e *Engine) closing() bool { return e.state.Load().stage >= stageClosing }

// acquire takes the token of compactions, which is given back to e.compacting.
// Who has it owns the files: the document file, the times to live, and which
// journals there are. A store that is closing does not give it back.
func (e *Engine) acquire(ctx context.Context) error {
	select {
	case _, there := <-e.compacting:
		switch {
		case !there:
			return fault.ErrClosed
		case e.closing():
			e.yield()
			return fault.ErrClosed
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// yield gives the token back.
func (e *Engine) yield() { e.compacting <- struct{}{} }

// Close writes the last snapshot and gives everything back. If the snapshot
// fails, the journals stay, and hold all that was acknowledged.
func (e *Engine) Close() error {
	if e.readonly {
		return e.discard()
	}
	e.advance(stageClosing, nil)
	_ = e.alone(func() error { return nil }) // The last writes are under way.
	e.commits.pulse.stop()
	e.auto.running.Wait()
	<-e.compacting
	defer close(e.compacting) // Those who wait for it learn that it will not come.
	e.removeExpired()
	err := e.compactNow(context.Background(), false)
	if err == nil {
		err = e.removeJournals(math.MaxUint64)
	} else {
		err = errors.Join(err, e.syncLast())
	}
	return errors.Join(err, e.discard())
}

// removeExpired writes a document file without the documents that have
// expired, if nothing else would. Nothing is lost if it cannot be written.
func (e *Engine) removeExpired() {
	if e.due() || e.health() != nil || !e.hasExpired() {
		return
	}
	if same, err := e.unchanged(); err != nil || !same {
		return
	}
	if err := e.rewrite(context.Background(), false); err != nil {
		e.owed = false
		e.logger.Warn("kv: documents that have expired stay in the document file until it is written again", "error", err)
	}
}

func (e *Engine) hasExpired() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.index.expiring == 0 {
		return false
	}
	now := e.clock()
	return slices.ContainsFunc(e.index.docs, func(d doc) bool { return d.expired(now) })
}

// discard closes all files without writing anything. Readers that have begun
// keep the file they read until they have done.
func (e *Engine) discard() error {
	e.commits.pulse.stop()
	e.mu.Lock()
	e.advance(stageClosed, nil)
	e.mu.Unlock()
	var errs []error
	if e.snapshot.segment != nil {
		errs = append(errs, e.snapshot.release())
	}
	for _, j := range e.journals {
		errs = append(errs, j.release())
	}
	errs = append(errs, e.files.Close())
	if e.lock != nil {
		errs = append(errs, e.lock.Close())
	}
	return errors.Join(errs...)
}
