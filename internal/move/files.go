package move

import (
	"context"
	"errors"
	"iter"

	"github.com/ngraf/kv/internal/engine"
)

// A fileEngine is that of the json backend.
type fileEngine interface {
	engine.Sized
	engine.Replacer
}

// copyToFile is copy into the json backend, whose engine is e. One without
// documents gets a document file as a whole, unless somebody else writes to it
// meanwhile.
func (m *migration) copyToFile(ctx context.Context, e fileEngine) error {
	if e.Count() == 0 && !m.opts.DryRun {
		before := m.Report
		_, err := e.Replace(ctx, m.additions(ctx))
		if err == nil {
			return nil
		}
		m.Report, m.progress.Documents, m.progress.Bytes = before, 0, 0 // It was all or nothing.
		if !errors.Is(err, engine.ErrWritten) && !errors.Is(err, engine.ErrTwice) {
			return err
		}
	}
	defer e.HoldCompaction()() // The document file is written once, by Flush.
	return m.copy(ctx)
}

// additions yields all documents of src, for a destination that has none.
func (m *migration) additions(ctx context.Context) iter.Seq2[engine.Change, error] {
	return func(yield func(engine.Change, error) bool) {
		for p, err := range readAhead(ctx, m.src, m.src.Pages(ctx)) {
			if err != nil {
				yield(engine.Change{}, m.atSource(err))
				return
			}
			for _, d := range m.sound(p) {
				if d.TTL == 0 {
					d.TTL = m.opts.TTL
				}
				if err := m.accepts(d.Item); err != nil {
					yield(engine.Change{}, m.atDestination(err))
					return
				}
				if !yield(engine.Change{Item: d.Item}, nil) {
					return
				}
				m.Report.Copied++
				m.Report.Bytes += int64(len(d.Value))
			}
			m.advance(p)
		}
	}
}

// accepts returns why a destination of the json backend cannot take a
// document. One that comes from a store of this package is JSON.
func (m *migration) accepts(it engine.Item) error {
	if m.src.Engine != nil && int64(len(it.Value)) <= m.dst.MaxValue {
		return nil
	}
	return engine.CheckValue(it.ID, it.Value, m.dst.MaxValue)
}
