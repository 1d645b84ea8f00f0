package jsonstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/wal"
)

// recover reads the document file, the times to live and the journals. It
// changes nothing unless it has the lock; then it removes what a crash left
// half made, and cuts the torn end off the last journal.
func (e *Engine) recover(ctx context.Context) error {
	const attempts = 5 // A writer may compact while a reader looks.
	for attempt := 1; ; attempt++ {
		err := e.load(ctx)
		if err == nil || !e.readonly || attempt == attempts || ctx.Err() != nil ||
			!errors.Is(err, fault.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		e.reset()
	}
}

// reset forgets what load has read.
func (e *Engine) reset() {
	if e.snapshot.segment != nil {
		_ = e.snapshot.release()
	}
	for _, j := range e.journals {
		_ = j.release()
	}
	e.snapshot, e.journals, e.index = snapshot{}, nil, newIndex()
}

func (e *Engine) load(ctx context.Context) error {
	names, err := e.files.List()
	if err != nil {
		return fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	if !e.readonly {
		for _, name := range []string{e.names.document(), e.names.ttl(), e.names.replacement()} {
			if err := ignoreMissing(e.files.Remove(tempName(name))); err != nil {
				return err
			}
		}
	}
	// The journals first: a compaction that comes between makes them newer
	// than the document file, never older.
	logs, err := e.openJournals(e.names.journals(names))
	if err != nil {
		return err
	}
	if err := e.readDocument(ctx); err != nil {
		return err
	}
	if err := e.readTTLs(); err != nil {
		return err
	}
	return e.replay(ctx, logs)
}

// openDocument makes the document file the snapshot, if there is one.
func (e *Engine) openDocument() (exists bool, err error) {
	name := e.names.document()
	file, err := e.files.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e.snapshot.segment = newSegment(file, name)
	e.snapshot.info, err = file.Stat()
	return true, err
}

// readDocument streams the document file into the index.
func (e *Engine) readDocument(ctx context.Context) error {
	if exists, err := e.openDocument(); err != nil || !exists {
		return err
	}
	name, segment := e.names.document(), e.snapshot.segment
	src := &summing{src: io.NewSectionReader(segment.file, 0, 1<<62)}
	members := jsonscan.NewSizedReader(src, engine.MaxDepth, e.snapshot.info.Size())
	repeats, foreign := 0, 0
	for n := 0; ; n++ {
		m, err := members.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && n%1024 == 0 {
			err = ctx.Err()
		}
		if err == nil && int64(len(m.Value)) > engine.LimitMaxValueBytes {
			err = fmt.Errorf("%w: %s: a value of %d bytes at offset %d", fault.ErrCorrupt, e.path(name), len(m.Value), m.Offset)
		}
		if err != nil {
			return e.badDocument(err)
		}
		if m.Err != nil {
			foreign++
		}
		if _, again := e.index.position[string(m.Name)]; again {
			repeats++
			e.index.put(documentOf(segment, m))
		} else {
			e.index.add(documentOf(segment, m))
		}
	}
	e.snapshot.identity = identity{true, src.size, src.sum}
	e.snapshotBytes.Store(src.size)
	if repeats > 0 {
		e.logger.Warn("kv: ids stand more than once in the document file; the last of each counts", "file", e.path(name), "repeats", repeats)
	}
	if foreign > 0 {
		e.logger.Warn("kv: values in the document file are not JSON (NaN, for instance) and cannot be read", "file", e.path(name), "values", foreign)
	}
	return nil
}

// documentOf is the index's entry for a member.
func documentOf(s *segment, m jsonscan.Member) doc {
	at := place{s, m.Offset, uint32(len(m.Value)), wal.Sum(m.Value)}
	return doc{id: string(m.Name), place: at, foreign: m.Err != nil}
}

// badDocument says what is wrong with the document file, and what to do.
func (e *Engine) badDocument(err error) error {
	var syntax *jsonscan.Error
	if !errors.As(err, &syntax) {
		return err
	}
	return fmt.Errorf("%w: %s is not a JSON object of documents: %w; the file was not touched: "+
		"mend it, restore a copy, or salvage what is sound with kv repair %s", fault.ErrCorrupt, e.path(e.names.document()), syntax, string(e.names))
}

// A summing reader takes the identity of what passes through it.
type summing struct {
	src  io.Reader
	size int64
	sum  uint32
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	s.size += int64(n)
	s.sum = wal.Extend(s.sum, p[:n])
	return n, err
}
