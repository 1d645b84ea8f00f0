// Package jsonstore is the engine of files: a document file as Python's
// json.dump writes it, and a journal of the writes since.
//
// The document file is one JSON object. Writes are appended to a journal
// (commit.go, journal.go, sync.go), and the index says for every id where its
// value stands in one of the two (index.go). A compaction (compact.go,
// snapshot.go, ttl.go) writes a new document file and starts a new journal.
// Opening reads the document file and then the journals (recover.go,
// replay.go). What a name and a record mean is in files.go. The state of an
// engine, and who may change it, is in state.go. docs/reliability.md says what
// survives what, and why.
package jsonstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/flock"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/wal"
)

// An Engine keeps a namespace in a document file and a journal.
type Engine struct {
	dir      string
	names    fileNames
	files    fsys.FS
	lock     io.Closer // nil if read-only
	policy   Policy
	logger   *slog.Logger
	now      func() time.Time
	readonly bool
	lasting  bool // the file of times to live says also of what lives for ever

	mu       sync.RWMutex // guards the index and the list of journals
	index    index
	cursors  map[*cursor]struct{}
	journals []*journal // in order; the last is written to

	state   atomic.Pointer[life]
	commits commits // the write path

	compacting chan struct{} // holds a token while nobody compacts; who has it owns what follows
	snapshot   snapshot
	owed       bool          // the document file must be written anew, though no journal says so
	ttlFile    bool          // there is a file of times to live
	obsolete   []*journal    // those that could not be removed
	unused     string        // one that was not begun, and could not be removed either
	covered    uint64        // the last compaction that succeeded
	begun      atomic.Uint64 // compactions that have begun
	auto       autoCompaction

	snapshotBytes atomic.Int64
	journalBytes  atomic.Int64
	compactions   atomic.Int64
	flushed       atomic.Pointer[flushed] // the last compaction that had something to do
}

// Options are all that an engine of files is made from.
type Options struct {
	Dir       string
	Namespace string
	Policy    Policy
	ReadOnly  bool // read as it is, without the lock
	Default   bool // the namespace has a default time to live, and "for ever" has to be said
	Logger    *slog.Logger

	// For tests.
	Now       func() time.Time // nil: that of the context, or time.Now
	Files     fsys.FS          // in place of Dir, and without a lock; nil: Dir
	CompactAt int64            // journal bytes that start a compaction; 0: that of the context, or the default
}

// A Policy is when a write reaches the disk, in the words of the setting.
type Policy string

const (
	policyAlways   Policy = "always"
	policyEverySec Policy = "everysec"
	policyNo       Policy = "no"
)

// Open locks and reads a namespace.
func Open(ctx context.Context, o Options) (*Engine, error) {
	e, err := newLocked(o.forTests(ctx), !o.ReadOnly)
	if err != nil {
		return nil, err
	}
	if err := e.recover(ctx); err != nil {
		return nil, errors.Join(err, e.discard())
	}
	return e, nil
}

// newLocked makes an engine that has read nothing yet. The directory is made
// if that is wanted.
func newLocked(o Options, create bool) (*Engine, error) {
	if o.Files != nil {
		return newEngine(o), nil
	}
	dir, err := fsys.Open(o.Dir, create)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Invalidf("STORAGE_WORKING_DIR: there is no directory %s", o.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	o.Files = dir
	e := newEngine(o)
	if !e.readonly {
		if e.lock, err = lockNamespace(dir, e.names.lock()); err != nil {
			return nil, errors.Join(err, dir.Close())
		}
	}
	return e, nil
}

func newEngine(o Options) *Engine {
	e := &Engine{
		dir:        o.Dir,
		names:      fileNames(o.Namespace),
		files:      o.Files,
		policy:     o.Policy,
		logger:     o.Logger.With("namespace", o.Namespace),
		now:        o.Now,
		readonly:   o.ReadOnly,
		lasting:    o.Default,
		index:      newIndex(),
		cursors:    make(map[*cursor]struct{}),
		compacting: make(chan struct{}, 1),
		auto:       autoCompaction{at: o.CompactAt},
	}
	if e.now == nil {
		e.now = time.Now
	}
	e.state.Store(new(life))
	e.compacting <- struct{}{}
	return e
}

// lockNamespace takes the lock that keeps other processes, and other
// factories of this one, out.
func lockNamespace(dir *fsys.Dir, name string) (io.Closer, error) {
	f, err := dir.OpenOS(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = flock.Lock(f)
	if err == nil {
		return locked{f}, nil
	}
	if held := (*flock.Held)(nil); errors.As(err, &held) {
		err = fmt.Errorf("%w: %w (%s); one process at a time can use the files, so end that one first, or share the documents through Redis", fault.ErrLocked, held, f.Name())
	}
	return nil, errors.Join(err, f.Close())
}

// locked is the lock file of an engine.
type locked struct{ *os.File }

func (l locked) Close() error { return flock.Unlock(l.File) }

// path is for messages.
func (e *Engine) path(name string) string { return filepath.Join(e.dir, name) }

func (e *Engine) clock() int64 { return e.now().UnixMilli() }

func (e *Engine) Get(_ context.Context, id string) (json.RawMessage, error) {
	d, err := e.borrow(id)
	if err != nil {
		return nil, err
	}
	value, err := e.read(d, nil)
	return value, errors.Join(err, d.segment.release())
}

// borrow finds a document and holds the segment of its value, which the
// caller releases.
func (e *Engine) borrow(id string) (doc, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.state.Load().stage == stageClosed {
		return doc{}, fault.ErrClosed
	}
	now := int64(0)
	if e.index.expiring > 0 { // Reading the clock takes a while.
		now = e.clock()
	}
	d, ok := e.index.find(id, now)
	if !ok {
		return doc{}, fault.ErrNotFound
	}
	d.segment.acquire()
	return *d, nil
}

// read returns the value of a document, in buf if it has room. It is checked
// against the sum taken when it was written or first read: what another
// program does to the file meanwhile is an error, never a wrong value.
func (e *Engine) read(d doc, buf []byte) ([]byte, error) {
	if d.foreign {
		return nil, fmt.Errorf("%w: a value in %s is not JSON (NaN, for instance); store it anew or delete it",
			fault.ErrCorrupt, e.path(d.segment.name))
	}
	return e.readRaw(d, buf)
}

func (e *Engine) readRaw(d doc, buf []byte) ([]byte, error) {
	if cap(buf) < int(d.size) {
		buf = make([]byte, d.size)
	}
	buf = buf[:d.size]
	n, err := d.segment.file.ReadAt(buf, d.offset)
	switch {
	case n == len(buf) && wal.Sum(buf) == d.sum:
		return buf, nil
	case n == len(buf) || errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: %s was changed by another program while it was open, at offset %d",
			fault.ErrCorrupt, e.path(d.segment.name), d.offset)
	}
	return nil, fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
}

func (e *Engine) GetMany(ctx context.Context, ids []string) ([]json.RawMessage, error) {
	values := make([]json.RawMessage, len(ids))
	var corrupt error
	for i, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		value, err := e.Get(ctx, id)
		switch {
		case errors.Is(err, fault.ErrNotFound):
		case errors.Is(err, fault.ErrCorrupt):
			corrupt = errors.Join(corrupt, fault.WithID(id, err))
		case err != nil:
			return nil, err
		default:
			values[i] = value
		}
	}
	return values, corrupt
}

func (e *Engine) Present(_ context.Context, ids []string) ([]bool, error) {
	present := make([]bool, len(ids))
	e.mu.RLock()
	defer e.mu.RUnlock()
	now := e.clock()
	for i, id := range ids {
		_, present[i] = e.index.find(id, now)
	}
	return present, nil
}

// keysPage is how many ids are copied out of the index at a time.
const keysPage = 1024

// A cursor is an iteration under way, over the positions that there were when
// it began. It moves along when the index is packed.
type cursor struct {
	at, end int
	epoch   uint64
}

// Keys visits the positions that there were when it began. A document that is
// removed and stored again meanwhile gets a new one, so none comes twice.
func (e *Engine) Keys(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		e.mu.Lock()
		c := &cursor{0, len(e.index.docs), e.index.epoch}
		e.cursors[c] = struct{}{}
		e.mu.Unlock()
		defer func() {
			e.mu.Lock()
			delete(e.cursors, c)
			e.mu.Unlock()
		}()
		page := make([]string, 0, min(keysPage, c.end))
		for more := true; more; {
			page, more = e.keysFrom(page[:0], c)
			for _, id := range page {
				if !yield(id, nil) {
					return
				}
			}
		}
	}
}

// keysFrom reads the next page, and reports whether there may be another.
func (e *Engine) keysFrom(page []string, c *cursor) ([]string, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.index.epoch != c.epoch { // Dropped: nothing of what there was is left.
		return page, false
	}
	now := e.clock()
	to := min(c.at+keysPage, c.end)
	for _, d := range e.index.docs[c.at:to] {
		if d.segment != nil && !d.expired(now) {
			page = append(page, d.id)
		}
	}
	c.at = to
	return page, to < c.end
}

func (e *Engine) Upsert(ctx context.Context, items engine.Items) error {
	return e.commit(ctx, &write{op: opUpsert, items: items.Sorted()})
}

func (e *Engine) Insert(ctx context.Context, items engine.Items) (int, error) {
	w := &write{op: opUpsert, items: items.Sorted(), absent: true}
	err := e.commit(ctx, w)
	return w.n, err
}

func (e *Engine) Delete(ctx context.Context, ids []string) (int, error) {
	w := &write{op: opDelete, ids: ids}
	err := e.commit(ctx, w)
	return w.n, err
}

func (e *Engine) Drop(ctx context.Context) error {
	return e.commit(ctx, &write{op: opDrop})
}

func (e *Engine) TTLs(_ context.Context, ids []string) ([]time.Duration, error) {
	ttls := make([]time.Duration, len(ids))
	e.mu.RLock()
	defer e.mu.RUnlock()
	now := e.clock()
	for i, id := range ids {
		d, ok := e.index.find(id, now)
		switch {
		case !ok:
			ttls[i] = engine.Absent
		case d.expires != 0:
			ttls[i] = engine.Millis(d.expires - now)
		}
	}
	return ttls, nil
}

// Flush writes the snapshot anew, if anything was written since the last. One
// that another caller has begun since serves as well.
func (e *Engine) Flush(ctx context.Context) error {
	if e.readonly {
		return nil
	}
	before := e.begun.Load()
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.yield()
	if e.covered > before {
		return nil
	}
	return e.compactNow(ctx, true)
}

// Ping reports whether writes are accepted.
func (e *Engine) Ping(context.Context) error {
	if e.readonly {
		_, err := e.files.Stat(".")
		return err
	}
	if _, last := e.lastJournal(); last != nil && e.health() == nil {
		return e.checkNamed(last)
	}
	return e.health()
}

// Figures are the figures of a namespace's files, as kv documents them.
type Figures struct {
	Documents     int
	SnapshotBytes int64
	JournalBytes  int64
	Compactions   int64
}

// A flushed is a compaction that had something to do.
type flushed struct {
	At  time.Time
	Err error
}

// Figures returns the figures, and the last compaction, if there was one.
func (e *Engine) Figures() (Figures, *flushed) {
	return Figures{
		Documents:     e.Count(),
		SnapshotBytes: e.snapshotBytes.Load(),
		JournalBytes:  e.journalBytes.Load(),
		Compactions:   e.compactions.Load(),
	}, e.flushed.Load()
}
