package jsonstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"slices"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/jsonscan"
)

// A Source has the documents of files, in their order.
type Source interface {
	// Documents yields what the files have, a bounded number at a time, which
	// is valid until the next. What has expired is there, too.
	Documents(ctx context.Context) iter.Seq2[[]engine.Stored, error]
	// Repeats reports whether an id may come more than once, of which the
	// last counts. Indexed then has each once.
	Repeats() bool
	Close() error
}

// perSource bounds the parts of a source.
var perSource = engine.Limits{Count: 500, Bytes: 1 << 20}

// OpenSource opens files for reading, as they are. A document file alone is
// streamed, in little memory, unless indexed is set; with journals or times to
// live the json engine's index is needed. Where there is a default time to
// live, lasting is set: see Options.Default.
func OpenSource(ctx context.Context, path, namespace string, indexed, lasting bool) (Source, error) {
	dir, err := fsys.Open(path, false)
	if err != nil {
		return nil, err
	}
	e := newEngine(Options{
		Dir: path, Namespace: namespace, Files: dir, Policy: policyNo, ReadOnly: true, Default: lasting,
		Logger: slog.New(slog.DiscardHandler),
	}.forTests(ctx))
	streams := false
	if !indexed {
		streams, err = e.streams()
	}
	if err == nil && streams {
		return stream{e}, nil
	}
	if err == nil {
		e.reset()
		err = e.recover(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, e.discard())
	}
	return e, nil
}

// streams opens the document file, and reports whether it has everything.
func (e *Engine) streams() (bool, error) {
	there, err := e.files.List()
	if err != nil || len(e.names.journals(there)) > 0 || slices.Contains(there, e.names.ttl()) {
		return false, err
	}
	return e.openDocument()
}

// Repeats is false: the index has each id once.
func (e *Engine) Repeats() bool { return false }

// Documents reads by the index, beside whoever writes: each document is one
// that was there.
func (e *Engine) Documents(ctx context.Context) iter.Seq2[[]engine.Stored, error] {
	return func(yield func([]engine.Stored, error) bool) {
		e.mu.Lock()
		c := &cursor{0, len(e.index.docs), e.index.epoch}
		e.cursors[c] = struct{}{}
		e.mu.Unlock()
		defer func() {
			e.mu.Lock()
			delete(e.cursors, c)
			e.mu.Unlock()
		}()
		p := new(sourcePart)
		for more := true; more; {
			if more = e.borrowPage(p, c); len(p.borrowed) == 0 {
				continue
			}
			err := e.readPage(ctx, p)
			if !yield(p.finish(), err) || err != nil {
				return
			}
		}
	}
}

// A sourcePart is a part of a source, in memory that is used again.
type sourcePart struct {
	borrowed []doc
	docs     []engine.Stored
	ends     []int // of their values in text
	text     []byte
	raw      []byte
}

func (p *sourcePart) add(d engine.Stored) {
	p.docs, p.ends = append(p.docs, d), append(p.ends, len(p.text))
}

// finish returns the documents of the part, which is then empty.
func (p *sourcePart) finish() []engine.Stored {
	from := 0
	for i, to := range p.ends {
		p.docs[i].Value = p.text[from:to:to]
		from = to
	}
	docs := p.docs
	p.docs, p.ends, p.text = p.docs[:0], p.ends[:0], p.text[:0]
	return docs
}

// borrowPage holds the next documents and their segments, and reports whether
// there may be more.
func (e *Engine) borrowPage(p *sourcePart, c *cursor) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	p.borrowed = p.borrowed[:0]
	if e.index.epoch != c.epoch {
		return false
	}
	for size := 0; c.at < c.end && len(p.borrowed) < perSource.Count && size < perSource.Bytes; c.at++ {
		if d := e.index.docs[c.at]; d.segment != nil {
			d.segment.acquire()
			p.borrowed = append(p.borrowed, d)
			size += int(d.size)
		}
	}
	return c.at < c.end
}

func (e *Engine) readPage(ctx context.Context, p *sourcePart) (failed error) {
	failed = ctx.Err()
	for _, d := range p.borrowed {
		if !d.foreign && failed == nil {
			if p.raw, failed = e.readRaw(d, p.raw); failed == nil {
				p.text = jsonscan.AppendCompact(p.text, p.raw)
			}
		}
		p.add(engine.Stored{ID: d.id, Expires: d.expires, Foreign: d.foreign, Lasting: d.lasting && e.lasting})
		_ = d.segment.release()
	}
	return failed
}

// A stream reads a document file from its beginning.
type stream struct{ engine *Engine }

func (s stream) Repeats() bool { return true }
func (s stream) Close() error  { return s.engine.Close() }

func (s stream) Documents(ctx context.Context) iter.Seq2[[]engine.Stored, error] {
	return func(yield func([]engine.Stored, error) bool) {
		e, p := s.engine, new(sourcePart)
		src := io.NewSectionReader(e.snapshot.file, 0, 1<<62)
		reader := jsonscan.NewSizedReader(src, engine.MaxDepth, e.snapshot.info.Size())
		for {
			m, err := reader.Next()
			last := errors.Is(err, io.EOF)
			if !last && err != nil {
				yield(nil, e.badDocument(err))
				return
			}
			if full := len(p.docs) == perSource.Count || len(p.text) >= perSource.Bytes; full || last && len(p.docs) > 0 {
				if !yield(p.finish(), nil) {
					return
				}
				if err := ctx.Err(); err != nil {
					yield(nil, err)
					return
				}
			}
			if last {
				return
			}
			if m.Err == nil {
				p.text = jsonscan.AppendCompact(p.text, m.Value)
			}
			p.add(engine.Stored{ID: string(m.Name), Foreign: m.Err != nil})
		}
	}
}
