package kv

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

	"github.com/ngraf/kv/internal/flock"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/wal"
)

// A jsonEngine keeps a namespace in a document file and a journal.
//
// The document file is a JSON object as Python's json.dump writes it. Writes
// are appended to a journal (json_commit.go), and the index says for every id
// where its value stands in one of the two (json_index.go). A compaction
// (json_snapshot.go) writes a new document file and starts a new journal.
// Opening reads the document file and then the journals (json_recover.go).
// docs/reliability.md says what survives what, and why.
type jsonEngine struct {
	dir      string
	names    jsonNames
	files    fsys.FS
	lock     io.Closer // nil if read-only
	policy   policy
	logger   *slog.Logger
	now      func() time.Time
	readonly bool

	mu       sync.RWMutex // guards the index and the list of journals
	index    index
	cursors  map[*cursor]struct{}
	journals []*journal // in order; the last is written to

	state   atomic.Pointer[life]
	commits commits // the write path

	compacting   chan struct{} // holds a token while nobody compacts; who has it owns what follows
	snapshot     snapshot
	owed         bool          // the document file must be written anew, though no journal says so
	ttlFile      bool          // there is a file of times to live
	obsolete     []string      // journals that could not be removed
	unused       string        // one that was not begun, and could not be removed either
	covered      uint64        // the last compaction that succeeded
	begun        atomic.Uint64 // compactions that have begun
	compactAt    int64         // journal bytes that start a compaction; 0: the default
	compactBusy  atomic.Bool
	compactAfter atomic.Int64 // no compaction starts by itself below this, after one that failed
	background   sync.WaitGroup

	snapshotBytes atomic.Int64
	journalBytes  atomic.Int64
	compactions   atomic.Int64
	flushed       atomic.Pointer[flushed] // the last compaction that had something to do
}

// jsonOptions are all that an engine of files is made from.
type jsonOptions struct {
	Dir       string
	Namespace string
	Policy    policy
	ReadOnly  bool // read as it is, without the lock
	Logger    *slog.Logger

	// For tests.
	Now       func() time.Time // nil: time.Now
	Files     fsys.FS          // in place of Dir, and without a lock; nil: Dir
	CompactAt int64            // journal bytes that start a compaction; 0: the default
}

// A policy is when a write reaches the disk, in the words of the setting.
type policy string

const (
	policyAlways   policy = "always"
	policyEverySec policy = "everysec"
	policyNo       policy = "no"
)

// openJSON locks and reads a namespace.
func openJSON(ctx context.Context, o jsonOptions) (*jsonEngine, error) {
	e, err := lockedJSON(o, !o.ReadOnly)
	if err != nil {
		return nil, err
	}
	if err := e.recover(ctx); err != nil {
		return nil, errors.Join(err, e.discard())
	}
	return e, nil
}

// lockedJSON makes an engine that has read nothing yet. The directory is made
// if that is wanted.
func lockedJSON(o jsonOptions, create bool) (*jsonEngine, error) {
	if o.Files != nil {
		return newJSONEngine(o), nil
	}
	dir, err := fsys.Open(o.Dir, create)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, invalidf("STORAGE_WORKING_DIR: there is no directory %s", o.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	o.Files = dir
	e := newJSONEngine(o)
	if !e.readonly {
		if e.lock, err = lockNamespace(dir, e.names.lock()); err != nil {
			return nil, errors.Join(err, dir.Close())
		}
	}
	return e, nil
}

func newJSONEngine(o jsonOptions) *jsonEngine {
	e := &jsonEngine{
		dir:        o.Dir,
		names:      jsonNames(o.Namespace),
		files:      o.Files,
		policy:     o.Policy,
		logger:     o.Logger.With("namespace", o.Namespace),
		now:        o.Now,
		readonly:   o.ReadOnly,
		index:      newIndex(),
		cursors:    make(map[*cursor]struct{}),
		compacting: make(chan struct{}, 1),
		compactAt:  o.CompactAt,
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
		err = fmt.Errorf("%w: %w (%s); one process at a time can use the files, so end that one first, or share the documents through Redis", ErrLocked, held, f.Name())
	}
	return nil, errors.Join(err, f.Close())
}

// locked is the lock file of an engine.
type locked struct{ *os.File }

func (l locked) Close() error { return flock.Unlock(l.File) }

// path is for messages.
func (e *jsonEngine) path(name string) string { return filepath.Join(e.dir, name) }

func (e *jsonEngine) clock() int64 { return e.now().UnixMilli() }

func (e *jsonEngine) get(_ context.Context, id string) (json.RawMessage, error) {
	d, err := e.borrow(id)
	if err != nil {
		return nil, err
	}
	value, err := e.read(d, nil)
	return value, errors.Join(err, d.segment.release())
}

// borrow finds a document and holds the segment of its value, which the
// caller releases.
func (e *jsonEngine) borrow(id string) (doc, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.state.Load().stage == stageClosed {
		return doc{}, ErrClosed
	}
	now := int64(0)
	if e.index.expiring > 0 { // Reading the clock takes a while.
		now = e.clock()
	}
	d, ok := e.index.find(id, now)
	if !ok {
		return doc{}, ErrNotFound
	}
	d.segment.acquire()
	return *d, nil
}

// read returns the value of a document, in buf if it has room. It is checked
// against the sum taken when it was written or first read: what another
// program does to the file meanwhile is an error, never a wrong value.
func (e *jsonEngine) read(d doc, buf []byte) ([]byte, error) {
	if d.foreign {
		return nil, fmt.Errorf("%w: a value in %s is not JSON (NaN, for instance); store it anew or delete it",
			ErrCorrupt, e.path(d.segment.name))
	}
	return e.readRaw(d, buf)
}

func (e *jsonEngine) readRaw(d doc, buf []byte) ([]byte, error) {
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
			ErrCorrupt, e.path(d.segment.name), d.offset)
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (e *jsonEngine) getMany(ctx context.Context, ids []string) ([]json.RawMessage, error) {
	values := make([]json.RawMessage, len(ids))
	var corrupt error
	for i, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		value, err := e.get(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound):
		case errors.Is(err, ErrCorrupt):
			corrupt = errors.Join(corrupt, newWithID(id, err))
		case err != nil:
			return nil, err
		default:
			values[i] = value
		}
	}
	return values, corrupt
}

func (e *jsonEngine) present(_ context.Context, ids []string) ([]bool, error) {
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

// keys visits the positions that there were when it began. A document that is
// removed and stored again meanwhile gets a new one, so none comes twice.
func (e *jsonEngine) keys(context.Context) iter.Seq2[string, error] {
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
func (e *jsonEngine) keysFrom(page []string, c *cursor) ([]string, bool) {
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

func (e *jsonEngine) upsert(ctx context.Context, items items) error {
	return e.commit(ctx, &write{op: opUpsert, items: items.sorted()})
}

func (e *jsonEngine) insert(ctx context.Context, items items) (int, error) {
	w := &write{op: opUpsert, items: items.sorted(), absent: true}
	err := e.commit(ctx, w)
	return w.n, err
}

func (e *jsonEngine) delete(ctx context.Context, ids []string) (int, error) {
	w := &write{op: opDelete, ids: ids}
	err := e.commit(ctx, w)
	return w.n, err
}

func (e *jsonEngine) drop(ctx context.Context) error {
	return e.commit(ctx, &write{op: opDrop})
}

func (e *jsonEngine) ttls(_ context.Context, ids []string) ([]time.Duration, error) {
	ttls := make([]time.Duration, len(ids))
	e.mu.RLock()
	defer e.mu.RUnlock()
	now := e.clock()
	for i, id := range ids {
		d, ok := e.index.find(id, now)
		switch {
		case !ok:
			ttls[i] = absent
		case d.expires != 0:
			ttls[i] = millis(d.expires - now)
		}
	}
	return ttls, nil
}

// flush writes the snapshot anew, if anything was written since the last. One
// that another caller has begun since serves as well.
func (e *jsonEngine) flush(ctx context.Context) error {
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

// ping reports whether writes are accepted.
func (e *jsonEngine) ping(context.Context) error {
	if e.readonly {
		_, err := e.files.Stat(".")
		return err
	}
	if _, last := e.lastJournal(); last != nil && e.health() == nil {
		return e.checkNamed(last)
	}
	return e.health()
}

// jsonFigures are the figures of a namespace's files, as kv documents them.
type jsonFigures struct {
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

// figures returns the figures, and the last compaction, if there was one.
func (e *jsonEngine) figures() (jsonFigures, *flushed) {
	return jsonFigures{
		Documents:     e.count(),
		SnapshotBytes: e.snapshotBytes.Load(),
		JournalBytes:  e.journalBytes.Load(),
		Compactions:   e.compactions.Load(),
	}, e.flushed.Load()
}
