package jsonstore

import (
	"cmp"
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
// the other steps are for the compactor.
type life struct {
	stage   stage
	failure error // from stageFailed on, if the engine came that way

	// failed is the number of the last journal of which a sync has failed, or a
	// write could not be taken back. Neither it nor those before it take a byte
	// any more; those behind it were made to save what there is.
	failed uint64
}

// advance moves an engine on, and reports whether it did, or now has a failure:
// nothing leads back, and the first failure is the one that counts.
func (e *Engine) advance(to life) bool {
	for {
		old := e.state.Load()
		next := life{max(old.stage, to.stage), cmp.Or(old.failure, to.failure), max(old.failed, to.failed)}
		if e.state.CompareAndSwap(old, &next) {
			return next.stage > old.stage || old.failure == nil && next.failure != nil
		}
	}
}

// fail refuses all writes from now on. The kernel reports a failed fsync once
// and may drop the data; a second fsync that succeeds would prove nothing.
func (e *Engine) fail(j *journal, cause error) error {
	err := fault.Unavailablef("writes are refused until the namespace is reopened, because the state of %s on disk is not known: %w",
		e.path(j.name), cause)
	if e.advance(life{stageFailed, err, j.number}) {
		e.logger.Error("kv: writes are refused until the namespace is reopened", "error", err)
	}
	return e.health()
}

// health returns why the engine has failed, or nil.
func (e *Engine) health() error { return e.state.Load().failure }

// hasFailed reports whether nothing may be added to a journal any more. The
// engine has failed then, too, and may go on with another.
func (e *Engine) hasFailed(j *journal) bool { return j.number <= e.state.Load().failed }

// closing reports whether no call may begin any more.
func (e *Engine) closing() bool { return e.state.Load().stage >= stageClosing }

// acquire takes the compactor, which is given back by yield.
func (e *Engine) acquire(ctx context.Context) (*compactor, error) {
	select {
	case c := <-e.compactor:
		switch {
		case c == nil:
			return nil, fault.ErrClosed
		case e.closing():
			c.yield()
			return nil, fault.ErrClosed
		}
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// yield gives the compactor back.
func (c *compactor) yield() { c.engine.compactor <- c }

// Close writes the last snapshot and gives everything back. If the snapshot
// fails, the journals stay, and hold all that was acknowledged.
func (e *Engine) Close() error {
	if e.readonly {
		return e.discard()
	}
	e.advance(life{stage: stageClosing})
	_ = e.alone(func() error { return nil }) // The last writes are under way.
	e.commits.pulse.stop()
	e.auto.running.Wait()
	c := <-e.compactor
	c.removeExpired()
	err := c.compact(context.Background(), false)
	if err == nil {
		err = c.removeJournals(math.MaxUint64)
	} else {
		err = errors.Join(err, e.syncLast())
	}
	return errors.Join(err, c.discard())
}

// removeExpired writes a document file without the documents that have
// expired, if nothing else would. Nothing is lost if it cannot be written.
func (c *compactor) removeExpired() {
	if c.due() || c.engine.health() != nil || !c.engine.hasExpired() {
		return
	}
	if same, err := c.unchanged(); err != nil || !same {
		return
	}
	if err := c.rewrite(context.Background(), false); err != nil {
		c.owed = false
		c.engine.logger.Warn("kv: documents that have expired stay in the document file until it is written again", "error", err)
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

// discard closes all files without writing anything.
func (e *Engine) discard() error { return (<-e.compactor).discard() }

// discard is for who does not give the compactor back. Those who wait for it
// learn that it will not come, and readers that have begun keep the file they
// read until they have done.
func (c *compactor) discard() error {
	e := c.engine
	defer close(e.compactor)
	e.commits.pulse.stop()
	e.mu.Lock()
	e.advance(life{stage: stageClosed})
	e.mu.Unlock()
	var errs []error
	if c.snapshot.segment != nil {
		errs = append(errs, c.snapshot.release())
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
