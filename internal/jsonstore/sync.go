package jsonstore

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/fsys"
)

const (
	// syncEvery is the second of everysec.
	syncEvery = time.Second
	// syncLate is how old the oldest write may be that is not on the disk,
	// before writers wait for the disk. It is what a crash can lose.
	syncLate = 2 * time.Second
)

// A pulse has the journal synced a second after a write. There is one sync at
// a time, so that a disk that hangs holds one goroutine.
type pulse struct {
	mu      sync.Mutex
	timer   *time.Timer   // runs, or its function does, while there is an oldest
	oldest  time.Time     // the first write that the sync to come, or under way, is for
	running bool          // a sync is under way
	later   time.Time     // the first write since that began
	done    chan struct{} // closed when it ends; nil: nobody waits
	stopped bool
	ticks   sync.WaitGroup
}

// wrote says that something has been written that is to be synced.
func (e *Engine) wrote() {
	p := &e.commits.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.running && p.later.IsZero():
		p.later = e.now()
	case !p.running && p.oldest.IsZero():
		p.oldest = e.now()
		e.arm(syncEvery)
	}
}

// arm has the pulse beat after a while. Its mu is held.
func (e *Engine) arm(after time.Duration) {
	p := &e.commits.pulse
	if p.stopped {
		return
	}
	p.ticks.Add(1)
	p.timer = time.AfterFunc(after, func() {
		defer p.ticks.Done()
		e.tick()
	})
}

// tick is one beat.
func (e *Engine) tick() {
	p := &e.commits.pulse
	p.mu.Lock()
	p.timer, p.running = nil, true
	p.mu.Unlock()
	err := e.syncLast() // A failure has been logged, and refuses the next write.
	p.mu.Lock()
	p.running = false
	if p.done != nil {
		close(p.done)
		p.done = nil
	}
	p.oldest, p.later = p.later, time.Time{}
	if !p.oldest.IsZero() {
		e.arm(min(max(0, syncEvery-e.now().Sub(p.oldest)), syncEvery))
	}
	p.mu.Unlock()
	if err == nil {
		_ = e.alone(e.mark) // Those who wait for the sync may be in front of it.
	}
}

// behind returns what is closed at the end of the sync that writers have to
// wait for, or nil if the disk keeps up.
func (e *Engine) behind() <-chan struct{} {
	if e.policy != policyEverySec {
		return nil
	}
	p := &e.commits.pulse
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.oldest.IsZero() || e.now().Sub(p.oldest) <= syncLate {
		return nil
	}
	if p.done == nil {
		p.done = make(chan struct{})
	}
	return p.done
}

// keepUp waits until the disk has not more than two seconds to catch up with,
// or until ctx is done.
func (e *Engine) keepUp(ctx context.Context) error {
	for {
		done := e.behind()
		if done == nil {
			return nil
		}
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stop ends the pulse, and waits for the beat that is under way.
func (p *pulse) stop() {
	p.mu.Lock()
	p.stopped = true
	if p.timer != nil && p.timer.Stop() {
		p.ticks.Done()
	}
	p.mu.Unlock()
	p.ticks.Wait()
}

// syncLast syncs the journal that is written to, if it needs it. Journals
// before it were synced when it took over.
func (e *Engine) syncLast() error {
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
func (e *Engine) syncJournal(j *journal) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if e.hasFailed(j) {
		return e.health()
	}
	end := j.written.Load()
	if j.synced.Load() >= end {
		return nil
	}
	if err := j.file.Sync(); err != nil {
		return e.fail(j, err)
	}
	if err := e.checkNamed(j); err != nil {
		return err
	}
	j.synced.Store(end)
	return nil
}

// errTaken is why a journal that was synced is not enough.
var errTaken = errors.New("another program has removed, renamed or replaced it, so that it would not be found again; " +
	"close the store, which writes everything to the document file")

// checkNamed makes sure that a journal can be found under its name. Whoever
// takes it away takes acknowledged writes with it.
func (e *Engine) checkNamed(j *journal) error {
	info, err := e.files.Stat(j.name)
	if err == nil && fsys.SameFile(info, j.info) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return e.fail(j, errTaken)
}

// mark writes a record that says that all before it is on the disk, if that is
// so and nothing has said it yet: what is damaged later is then not taken for
// what a crash left. It is for the turn of a writer. Without a mark nothing is
// lost, so that a failure is only one if the journal cannot be used any more.
func (e *Engine) mark() error {
	j := e.newest()
	if j == nil || !j.unmarked || e.hasFailed(j) || j.synced.Load() < j.end {
		return nil
	}
	if err := e.announce(j, syncMark); err == nil {
		j.unmarked = false
	} else if e.hasFailed(j) {
		return err
	}
	return nil
}

// announce writes into a journal which document file is about to come, in the
// turn of a writer.
func (e *Engine) announce(j *journal, i identity) error {
	if e.hasFailed(j) {
		return e.health()
	}
	begin := j.end
	j.log.Reset(begin)
	j.log.Synced = j.synced.Load()
	start := j.log.Begin()
	j.log.Buf = appendCommit(j.log.Buf, i)
	j.log.End(start)
	if err := j.spill(); err != nil {
		return e.takeBack(j, begin, err)
	}
	e.journalBytes.Add(j.end - begin)
	j.written.Store(j.end)
	return nil
}
