package kv

import (
	"context"
	"errors"
	"time"
)

// syncEvery is the second of everysec.
const syncEvery = time.Second

// arm has the journal synced a second from now, unless that is under way.
func (e *jsonEngine) arm() {
	c := &e.commits
	c.timer.Lock()
	defer c.timer.Unlock()
	if c.armed != nil {
		return
	}
	c.syncs.Add(1)
	c.armed = time.AfterFunc(syncEvery, func() {
		defer c.syncs.Done()
		c.timer.Lock()
		c.armed = nil
		c.timer.Unlock()
		_ = e.syncLast() // A failure has been logged, and refuses the next write.
	})
}

// syncLast syncs the journal that is written to, if it needs it. Journals
// before it were synced when it took over.
func (e *jsonEngine) syncLast() error {
	e.mu.RLock()
	var j *journal
	if n := len(e.journals); n > 0 {
		j = e.journals[n-1]
		j.acquire()
	}
	e.mu.RUnlock()
	if j == nil {
		return nil
	}
	return errors.Join(e.syncJournal(j), j.release())
}

// syncJournal makes all that was written to j before the call durable.
func (e *jsonEngine) syncJournal(j *journal) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if err := e.health(); err != nil {
		return err
	}
	end := j.written.Load()
	if j.synced.Load() >= end {
		return nil
	}
	if err := j.file.Sync(); err != nil {
		return e.fail(j, err)
	}
	j.synced.Store(end)
	return nil
}

// fail refuses all writes from now on. The kernel reports a failed fsync once
// and may drop the data; a second fsync that succeeds would prove nothing.
func (e *jsonEngine) fail(j *journal, cause error) error {
	err := unavailablef("writes are refused until the namespace is reopened, because the state of %s on disk is not known: %w",
		e.path(j.name), cause)
	j.failed.Store(true)
	if e.commits.failure.CompareAndSwap(nil, &err) {
		e.logger.Error("kv: " + err.Error())
	}
	return e.health()
}

// health returns why writes are refused, or nil.
func (e *jsonEngine) health() error {
	if failure := e.commits.failure.Load(); failure != nil {
		return *failure
	}
	return nil
}

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
			e.logger.Error("kv: compaction failed, the journal is kept: " + err.Error())
		}
	})
}
