package kv

import (
	"context"
	"errors"
	"iter"
)

// A fileEngine is that of the json backend.
type fileEngine interface {
	sized
	replacer
}

// copyToFile is copy into the json backend, whose engine is e. One without
// documents gets a document file as a whole, unless somebody else writes to it
// meanwhile.
func (m *migration) copyToFile(ctx context.Context, e fileEngine) error {
	if e.count() == 0 && !m.opts.dryRun {
		before := m.report
		_, err := e.replace(ctx, m.additions(ctx))
		if err == nil {
			return nil
		}
		m.report, m.progress.Documents, m.progress.Bytes = before, 0, 0 // It was all or nothing.
		if !errors.Is(err, errWritten) && !errors.Is(err, errTwice) {
			return err
		}
	}
	defer e.holdCompaction()() // The document file is written once, by Flush.
	return m.copy(ctx)
}

// additions yields all documents of src, for a destination that has none.
func (m *migration) additions(ctx context.Context) iter.Seq2[replacement, error] {
	return func(yield func(replacement, error) bool) {
		for p, err := range readAhead(ctx, m.src, m.src.pages(ctx)) {
			if err != nil {
				yield(replacement{}, m.atSource(err))
				return
			}
			for _, d := range m.sound(p) {
				if d.ttl == 0 {
					d.ttl = m.opts.ttl
				}
				if err := m.accepts(d.item); err != nil {
					yield(replacement{}, m.atDestination(err))
					return
				}
				if !yield(replacement{item: d.item}, nil) {
					return
				}
				m.report.Copied++
				m.report.Bytes += int64(len(d.value))
			}
			m.advance(p)
		}
	}
}

// accepts returns why a destination of the json backend cannot take a
// document. One that comes from a store of this package is JSON.
func (m *migration) accepts(it item) error {
	if m.src.engine != nil && int64(len(it.value)) <= m.dst.maxValue {
		return nil
	}
	return checkValue(it.id, it.value, m.dst.maxValue)
}
