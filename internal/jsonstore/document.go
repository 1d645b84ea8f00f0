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

// openDocument makes the document file the snapshot, if there is one.
func (c *compactor) openDocument() (exists bool, err error) {
	e := c.engine
	name := e.names.document()
	file, err := e.files.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.snapshot.segment = newSegment(file, name)
	c.snapshot.info, err = file.Stat()
	return true, err
}

// readDocument streams the document file into the index.
func (c *compactor) readDocument(ctx context.Context) error {
	e := c.engine
	if exists, err := c.openDocument(); err != nil || !exists {
		return err
	}
	name, segment := e.names.document(), c.snapshot.segment
	src := &summing{src: io.NewSectionReader(segment.file, 0, 1<<62)}
	members := jsonscan.NewSizedReader(src, engine.MaxDepth, c.snapshot.info.Size())
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
	c.snapshot.identity = identity{true, src.size, src.sum}
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

// readTTLs gives documents of the snapshot their expiry. An entry whose value
// another program has replaced no longer counts.
func (c *compactor) readTTLs() error {
	e := c.engine
	name := e.names.ttl()
	file, err := e.files.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c.ttlFile = true
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	log := wal.NewReader(file, info.Size(), journalHeaderSize, saltOf(ttlKind))
	_, err = log.Header()
	for err == nil {
		var r wal.Record
		if r, err = log.Next(); err != nil {
			break
		}
		id, expires, sum, ok := decodeTTL(r.Payload)
		if !ok {
			err = &wal.Damage{Offset: r.Offset, Reason: "an unknown record"}
			break
		}
		err = e.expire(id, expires, sum)
	}
	var damage *wal.Damage
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &damage):
		return fmt.Errorf("%w: %s: %w; move it away to keep its documents for ever", fault.ErrCorrupt, e.path(name), damage)
	}
	return err
}

func (e *Engine) expire(id string, expires int64, sum uint32) error {
	at, ok := e.index.position[id]
	if !ok {
		return nil
	}
	d := e.index.docs[at]
	value, err := e.readRaw(d, nil)
	if err != nil || wal.Sum(jsonscan.AppendCompact(nil, value)) != sum {
		return err
	}
	d.expires = expires
	e.index.put(d)
	return nil
}
