package jsonstore

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/wal"
)

// A journal is one file of the log. Its name has a generation, which grows from
// one to the next, and only the last is written to.
//
//   - synced <= written <= end. What lies below synced is on the disk, what
//     lies below written is whole, and what is beyond belongs to a group that
//     nobody has been told about.
//   - A caller is answered when its records lie below written and, under
//     always, below synced.
//   - One that has failed, see life, stays so: no byte is added to it.
//   - A journal can be removed when a document file that has all of its records
//     is on the disk under its name, the oldest first.
//   - Its name is on the disk before its first record is acknowledged.
type journal struct {
	*segment
	generation uint64
	number     uint64      // in the order in which the engine has made or opened them, from 1
	info       fs.FileInfo // which file it is

	// For the turn of a writer.
	log      *wal.Encoder // lays out what comes next
	end      int64        // where that goes
	unmarked bool         // there are records that nothing says have been synced

	written atomic.Int64 // the end, without a group that is being written
	synced  atomic.Int64 // up to where it is on the disk for sure
	syncing sync.Mutex   // held during a sync, so that nobody returns before it ends
	pending atomic.Int64 // records that no snapshot has

	announced bool // it has a record for the snapshot that is there, perhaps; for the compactor
}

func (e *Engine) newJournal(file fsys.File, generation, salt uint64) *journal {
	return &journal{
		segment:    newSegment(file, e.names.journal(generation)),
		generation: generation,
		number:     e.numbers.Add(1),
		log:        wal.NewEncoder(salt),
	}
}

func newSalt() uint64 { return rand.Uint64() | 1 }

// store lays out the record of an item, and returns what it does to the index.
func (j *journal) store(it engine.Item, now int64) change {
	expires := expiry(it, now)
	start := j.log.Begin()
	j.log.Buf = appendUpsert(j.log.Buf, it.ID, expires)
	at := place{j.segment, j.log.Next(), uint32(len(it.Value)), wal.Sum(it.Value)}
	j.log.Buf = append(j.log.Buf, it.Value...)
	j.log.End(start)
	return change{opUpsert, doc{id: it.ID, expires: expires, place: at}}
}

// expiry is when an item expires that is stored now, or 0.
func expiry(it engine.Item, now int64) int64 {
	if !it.Expires() {
		return 0
	}
	return now + it.TTL.Milliseconds()
}

// remove is store for a document that goes.
func (j *journal) remove(id string) change {
	start := j.log.Begin()
	j.log.Buf = appendDelete(j.log.Buf, id)
	j.log.End(start)
	return change{opDelete, doc{id: id}}
}

// drop is store for all that go.
func (j *journal) drop() change {
	start := j.log.Begin()
	j.log.Buf = append(j.log.Buf, opDrop)
	j.log.End(start)
	return change{op: opDrop}
}

// spill writes what has been laid out.
func (j *journal) spill() error {
	if len(j.log.Buf) == 0 {
		return nil
	}
	if _, err := j.file.WriteAt(j.log.Buf, j.end); err != nil {
		return err
	}
	j.end = j.log.Next()
	j.log.Reset(j.end)
	return nil
}

// resumeAt sets the end of a journal that has been synced.
func (j *journal) resumeAt(end int64) {
	j.end = end
	j.written.Store(end)
	j.synced.Store(end)
}

// current returns the journal to write to, and makes the first one. It is for
// the turn of a writer. Once there is a journal, there is one until the end.
func (e *Engine) current() (*journal, error) {
	if last := e.newest(); last != nil {
		return last, nil
	}
	j, err := e.createJournal(&e.commits.leftover, 1, journalHeader{continues: e.commits.continues})
	if err == nil {
		e.use(j)
	}
	return j, err
}

// use makes j the journal that is written to.
func (e *Engine) use(j *journal) {
	e.mu.Lock()
	e.journals = append(e.journals, j)
	e.mu.Unlock()
	e.journalBytes.Add(j.end)
}

// newest is the journal that is written to, or nil if there is none.
func (e *Engine) newest() *journal {
	_, last := e.lastJournal()
	return last
}

// lastJournal returns how many journals there are, and the last one, if any.
func (e *Engine) lastJournal() (n int, last *journal) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if n = len(e.journals); n > 0 {
		last = e.journals[n-1]
	}
	return n, last
}

// createJournal makes a journal that survives a crash before anything is
// acknowledged in it.
func (e *Engine) createJournal(left *leftover, generation uint64, h journalHeader) (*journal, error) {
	f, err := left.open(e.files, e.names.journal(generation))
	if err != nil {
		return nil, fault.Unavailablef("%w", err)
	}
	h.salt = newSalt()
	j := e.newJournal(f, generation, h.salt)
	if j.info, err = f.Stat(); err == nil {
		j.log.Header(h.encode(journalKind))
		err = j.spill()
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = e.files.Sync()
	}
	if err != nil {
		return nil, fault.Unavailablef("%w", errors.Join(err, j.release(), e.removeUnused(left, j)))
	}
	*left = leftover{}
	j.resumeAt(j.end)
	return j, nil
}

// A leftover is a journal that was not begun, and could not be removed either.
// The next of its name takes its place: behind it no other would be found.
type leftover struct {
	name string
	info fs.FileInfo
}

// open makes the file of a journal. One that is there already is only touched
// if it is the leftover.
func (l *leftover) open(files fsys.FS, name string) (fsys.File, error) {
	f, exists := files.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if l.name != name || !errors.Is(exists, fs.ErrExist) {
		return f, exists
	}
	f, err := files.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !fsys.SameFile(info, l.info) {
		err = exists
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeUnused removes a journal that nobody has written to.
func (e *Engine) removeUnused(left *leftover, j *journal) error {
	_, err := e.removeJournal(j)
	if err != nil {
		*left = leftover{j.name, j.info}
	}
	return err
}

// takeBack removes a part of a group from the journal, so that what was not
// acknowledged cannot come back. If that fails, nothing may be appended.
func (e *Engine) takeBack(j *journal, start int64, cause error) error {
	if err := j.file.Truncate(start); err != nil {
		return e.fail(j, errors.Join(cause, err))
	}
	j.end = start
	return fault.Unavailablef("nothing of this write was stored: %w", cause)
}

// prepare sees to a journal that can announce the document file to come. One in
// which nothing was written serves again, unless it has failed.
func (c *compactor) prepare(rotate bool) error {
	e := c.engine
	last := e.newest()
	switch {
	case last == nil:
		return e.alone(func() error {
			_, err := e.current()
			return err
		})
	case e.hasFailed(last) && last.pending.Load() == 0 && !last.announced:
		return c.replaceJournal(last)
	case e.hasFailed(last), rotate && last.pending.Load() > 0:
		return c.rotate()
	}
	return nil
}

// rotate makes a new journal and moves the writers to it. What the old one
// has is on disk by then, unless it has failed.
func (c *compactor) rotate() error {
	e := c.engine
	syncOld := func() error {
		if e.health() == nil {
			return e.syncLast()
		}
		return nil
	}
	if err := syncOld(); err != nil {
		return err
	}
	j, err := e.createJournal(&c.leftover, e.newest().generation+1, journalHeader{compacts: true})
	if err != nil {
		return err
	}
	err = e.alone(func() error {
		if err := syncOld(); err != nil {
			return err
		}
		e.use(j)
		if e.health() == nil {
			j.unmarked = true // Of the journal before it, which is on the disk.
			_ = e.mark()
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, j.release(), e.removeUnused(&c.leftover, j))
	}
	return nil
}

// replaceJournal puts a new journal in the place of the last one, which has
// failed and holds nothing that counts: if the machine dies in between, the
// one before it is the last.
func (c *compactor) replaceJournal(old *journal) error {
	e := c.engine
	if c.leftover.name != old.name { // Else it is gone, and what is there is a new one that failed.
		switch stays, err := e.removeJournal(old); {
		case err != nil:
			return fault.Unavailablef("%w", err)
		case stays:
			return c.rotate()
		}
	}
	j, err := e.createJournal(&c.leftover, old.generation, journalHeader{compacts: true})
	if err != nil {
		return err
	}
	return e.alone(func() error {
		e.mu.Lock()
		e.journals[len(e.journals)-1] = j
		e.mu.Unlock()
		e.journalBytes.Add(j.end - old.end)
		return old.release()
	})
}

// removeJournals removes the journals up to a generation. One that cannot be
// removed is not read again, because a later one says which snapshot it
// begins at; it is tried again next time.
func (c *compactor) removeJournals(last uint64) error {
	e := c.engine
	e.mu.Lock()
	n := 0
	for n < len(e.journals) && e.journals[n].generation <= last {
		e.journalBytes.Add(-e.journals[n].end)
		n++
	}
	gone := e.journals[:n]
	e.journals = slices.Clone(e.journals[n:])
	e.mu.Unlock()
	c.obsolete = append(c.obsolete, gone...)
	if len(c.obsolete) == 0 {
		return nil
	}
	for len(c.obsolete) > 0 {
		if _, err := e.removeJournal(c.obsolete[0]); err != nil {
			e.logger.Warn("kv: an old journal could not be removed", "error", err)
			break
		}
		c.obsolete = c.obsolete[1:]
	}
	for _, j := range gone { // Not before: a file that is open keeps its inode.
		_ = j.release()
	}
	return fault.Unavailable(e.files.Sync())
}

// removeJournal removes a journal, unless another program has put a file in
// its place, which stays.
func (e *Engine) removeJournal(j *journal) (stays bool, err error) {
	info, err := e.files.Stat(j.name)
	if err == nil && j.info != nil && !fsys.SameFile(info, j.info) {
		e.logger.Warn("kv: a file that another program has put in the place of a journal was left as it is", "file", e.path(j.name))
		return true, nil
	}
	if err == nil {
		err = e.files.Remove(j.name)
	}
	return false, ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
