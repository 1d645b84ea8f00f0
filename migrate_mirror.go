package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// mirror overwrites, and then removes what src has not.
func (m *migration) mirror(ctx context.Context) error {
	if err := m.copy(ctx); err != nil {
		return err
	}
	if err := m.refuseEmpty(ctx, m.progress.Documents == 0); err != nil {
		return err
	}
	for p, err := range readAhead(ctx, m.dst, lacking(ctx, m.src, m.dst)) {
		if err != nil {
			return onSide("the stores", err)
		}
		var ids []string
		for _, d := range p.docs {
			if d.err == nil { // What is corrupt is not known to be ours.
				ids = append(ids, d.id)
			}
		}
		if err := m.remove(ctx, ids); err != nil {
			return onSide("the destination", err)
		}
	}
	return nil
}

func (m *migration) remove(ctx context.Context, ids []string) error {
	if m.opts.DryRun || len(ids) == 0 {
		m.report.Removed += len(ids)
		return nil
	}
	n, err := m.dst.Delete(ctx, ids...)
	if errors.Is(err, ErrOutcomeUnknown) && ctx.Err() == nil {
		n = len(ids) // All but some that somebody else has removed.
		_, err = m.dst.Delete(ctx, ids...)
	}
	m.report.Removed += n
	return err
}

// refuseEmpty keeps a misspelt namespace, or a server that has lost its data,
// from emptying the files.
func (m *migration) refuseEmpty(ctx context.Context, empty bool) error {
	if !empty {
		return nil
	}
	for _, err := range m.dst.Keys(ctx) {
		if err != nil {
			return onSide("the destination", err)
		}
		return invalidf("the source is empty, and Mirror would remove every document of the destination; use Drop if that is meant")
	}
	return nil
}

// replace makes dst, whose engine is e, the mirror of src in one step. Memory
// holds the ids of both.
func (m *migration) replace(ctx context.Context, e *jsonEngine) error {
	ids := make(map[string]struct{})
	for id, err := range m.src.Keys(ctx) {
		if err != nil {
			return onSide("the source", err)
		}
		ids[id] = struct{}{}
	}
	if err := m.refuseEmpty(ctx, len(ids) == 0); err != nil {
		return err
	}
	m.progress.Total = len(ids)
	if m.opts.DryRun {
		for _, err := range m.changes(ctx, e, ids) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	before := m.report
	previous, err := e.replace(ctx, m.changes(ctx, e, ids))
	if err != nil {
		m.report = before // It was all or nothing.
	}
	m.report.Previous = previous
	return err
}

// changes yields what makes dst the mirror of src, which has these ids.
// Documents that dst has keep their place, and new ones follow sorted by id.
func (m *migration) changes(ctx context.Context, e *jsonEngine, ids map[string]struct{}) iter.Seq2[replacement, error] {
	return func(yield func(replacement, error) bool) {
		var both []string
		for id, err := range m.dst.Keys(ctx) {
			if err != nil {
				yield(replacement{}, onSide("the destination", err))
				return
			}
			if _, ok := ids[id]; ok {
				both = append(both, id)
				delete(ids, id)
				continue
			}
			if _, err := e.get(ctx, id); errors.Is(err, ErrCorrupt) {
				continue
			}
			m.report.Removed++
			if !yield(replacement{item{id: id}, true}, nil) {
				return
			}
		}
		fresh := make([]string, 0, len(ids))
		for id := range ids {
			fresh = append(fresh, id)
		}
		slices.Sort(fresh)
		sorted := func(yield func([]string, error) bool) {
			for _, list := range [][]string{both, fresh} {
				for page := range slices.Chunk(list, bulkPage) {
					if !yield(page, nil) {
						return
					}
				}
			}
		}
		for p, err := range readAhead(ctx, m.src, sorted) {
			if err != nil {
				yield(replacement{}, onSide("the source", err))
				return
			}
			if !m.changesOf(ctx, p, yield) {
				return
			}
			m.advance(p)
		}
	}
}

// changesOf yields those of a page that dst has not, or has otherwise.
func (m *migration) changesOf(ctx context.Context, p pageOf, yield func(replacement, error) bool) bool {
	docs := m.sound(p)
	for _, d := range docs {
		if err := m.accepts(d.item); err != nil {
			yield(replacement{}, onSide("the destination", err))
			return false
		}
	}
	theirs, _, err := m.theirs.alike(ctx, docs)
	if err != nil {
		yield(replacement{}, onSide("the destination", err))
		return false
	}
	for i, d := range docs {
		switch m.verdict(d, theirs[i]) {
		case verdictSame:
			m.report.Same++
			continue
		case verdictFresh:
			m.report.Copied++
		default:
			m.report.Overwritten++
		}
		if d.ttl == 0 {
			d.ttl = m.opts.TTL
		}
		m.report.Bytes += int64(len(d.value))
		if !yield(replacement{d.item, false}, nil) {
			return false
		}
	}
	return true
}

// verify compares dst with src, and finds no differences but those that the
// report has counted.
func (m *migration) verify(ctx context.Context) error {
	c := comparison{a: m.src, b: m.dst, ttl: m.opts.TTL}
	progress := Progress{Verifying: true, Total: m.progress.Documents}
	c.seen = func(docs int) {
		progress.Documents += docs
		if m.opts.Progress != nil {
			m.opts.Progress(progress)
		}
	}
	err := c.run(ctx)
	if err != nil {
		return fmt.Errorf("comparing: %w", err)
	}
	m.report.Source, m.report.Destination = c.sumA.contents(), c.sumB.contents()
	return m.judge(&c)
}

// judge says what the comparison found beyond what the report has counted.
func (m *migration) judge(c *comparison) error {
	var wrong []string
	for _, w := range []struct {
		n, counted int
		what       string
	}{
		{c.found[OnlyInA], 0, "only in the source"},
		{c.found[OtherValue] + c.spoilt, m.report.Skipped, "with another value"},
		{c.found[OtherTTL], m.report.TTLKept, "with another time to live"},
	} {
		if w.n > w.counted {
			wrong = append(wrong, fmt.Sprintf("%d %s", w.n-w.counted, w.what))
		}
	}
	if n := c.found[OnlyInB]; m.opts.Mirror && n > 0 {
		wrong = append(wrong, fmt.Sprintf("%d only in the destination", n))
	}
	m.report.Verified = len(wrong) == 0
	if m.report.Verified {
		return nil
	}
	return fmt.Errorf("the comparison after the copy finds differences, as if one of the stores was written to meanwhile: documents %s; "+
		"migrate again, or list them with Verify", strings.Join(wrong, ", "))
}
