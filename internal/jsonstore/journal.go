package jsonstore

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"

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
//   - failed is never taken back: after it, no byte is added here.
//   - A journal can be removed when a document file that has all of its records
//     is on the disk under its name, the oldest first.
//   - Its name is on the disk before its first record is acknowledged.
type journal struct {
	*segment
	generation uint64
	salt       uint64
	info       fs.FileInfo // which file it is
	end        int64       // where the leader writes next
	unmarked   bool        // there are records that nothing says have been synced; the leader's, too

	written atomic.Int64 // the end, without a group that is being written
	synced  atomic.Int64 // up to where it is on the disk for sure
	syncing sync.Mutex   // held during a sync, so that nobody returns before it ends
	failed  atomic.Bool  // a sync has failed, or a write could not be taken back
	pending atomic.Int64 // records that no snapshot has

	announced bool // it has a record for the snapshot that is there, perhaps; for who has the token
}

// current returns the journal to write to, and makes the first one.
func (e *Engine) current() (*journal, error) {
	if e.commits.active != nil {
		return e.commits.active, nil
	}
	j, err := e.createJournal(1, journalHeader{continues: e.snapshot.identity})
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
	e.commits.active = j
	e.commits.encoder = wal.NewEncoder(j.salt)
	e.journalBytes.Add(j.end)
}

func newSalt() uint64 { return rand.Uint64() | 1 }

// resumeAt sets the end of a journal that has been synced.
func (j *journal) resumeAt(end int64) {
	j.end = end
	j.written.Store(end)
	j.synced.Store(end)
}

// createJournal makes a journal that survives a crash before anything is
// acknowledged in it.
func (e *Engine) createJournal(generation uint64, h journalHeader) (*journal, error) {
	name, flag := e.names.journal(generation), os.O_EXCL
	if e.unused == name { // The one that failed before could not be removed, either.
		flag = os.O_TRUNC
	}
	f, err := e.files.OpenFile(name, os.O_RDWR|os.O_CREATE|flag, 0o600)
	if err != nil {
		return nil, fault.Unavailablef("%w", err)
	}
	h.salt = newSalt()
	enc := wal.NewEncoder(h.salt)
	enc.Header(h.encode(journalKind))
	if _, err = f.WriteAt(enc.Buf, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = e.files.Sync()
	}
	j := &journal{segment: newSegment(f, name), generation: generation, salt: h.salt}
	if err == nil {
		j.info, err = f.Stat()
	}
	if err != nil {
		return nil, fault.Unavailablef("%w", errors.Join(err, f.Close(), e.removeUnused(name)))
	}
	e.unused = ""
	j.resumeAt(enc.Next())
	return j, nil
}

// removeUnused removes a journal that nobody has written to. If that fails,
// the next one takes its place.
func (e *Engine) removeUnused(name string) error {
	err := ignoreMissing(e.files.Remove(name))
	if err != nil {
		e.unused = name
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

// newest is the journal that is written to. There is one while there is
// anything to compact.
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

// removeJournals removes the journals up to a generation. One that cannot be
// removed is not read again, because a later one says which snapshot it
// begins at; it is tried again next time.
func (e *Engine) removeJournals(last uint64) error {
	e.mu.Lock()
	keep, gone := e.journals[:0:0], e.journals[:0:0]
	for _, j := range e.journals {
		if j.generation > last {
			keep = append(keep, j)
			continue
		}
		gone = append(gone, j)
		e.journalBytes.Add(-j.end)
	}
	e.journals = keep
	e.mu.Unlock()
	e.obsolete = append(e.obsolete, gone...)
	if len(e.obsolete) == 0 {
		return nil
	}
	for len(e.obsolete) > 0 {
		if _, err := e.removeJournal(e.obsolete[0]); err != nil {
			e.logger.Warn("kv: an old journal could not be removed", "error", err)
			break
		}
		e.obsolete = e.obsolete[1:]
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
	if err == nil && !fsys.SameFile(info, j.info) {
		e.logger.Warn("kv: a file that another program has put in the place of a journal was left as it is", "file", e.path(j.name))
		return true, nil
	}
	if err == nil {
		err = e.files.Remove(j.name)
	}
	return false, ignoreMissing(err)
}
