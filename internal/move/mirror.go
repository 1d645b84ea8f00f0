package move

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// mirror overwrites, and then removes what src has not.
func (m *migration) mirror(ctx context.Context) error {
	if err := m.copy(ctx); err != nil {
		return err
	}
	if err := m.refuseEmpty(ctx, m.progress.Documents == 0); err != nil {
		return err
	}
	for p, err := range readAhead(ctx, m.dst, m.dst.beyond(ctx, m.src)) {
		if err != nil {
			return m.dst.named("the stores", err)
		}
		var ids []string
		for _, d := range p.Docs {
			if d.Err == nil { // What is corrupt is not known to be ours.
				ids = append(ids, d.ID)
			}
		}
		if err := m.remove(ctx, ids); err != nil {
			return m.atDestination(err)
		}
	}
	return nil
}

func (m *migration) remove(ctx context.Context, ids []string) error {
	if m.opts.DryRun || len(ids) == 0 {
		m.Report.Removed += len(ids)
		return nil
	}
	n, err := m.dst.Store.Delete(ctx, ids...)
	if errors.Is(err, fault.ErrOutcomeUnknown) && ctx.Err() == nil {
		n = len(ids) // All but some that somebody else has removed.
		_, err = m.dst.Store.Delete(ctx, ids...)
	}
	m.Report.Removed += n
	return err
}

// refuseEmpty keeps a misspelt namespace, or a server that has lost its data,
// from emptying the files.
func (m *migration) refuseEmpty(ctx context.Context, empty bool) error {
	if !empty {
		return nil
	}
	for _, err := range m.dst.Store.Keys(ctx) {
		if err != nil {
			return m.atDestination(err)
		}
		return fault.Invalidf("the source is empty, and Mirror would remove every document of the destination; use Drop if that is meant")
	}
	return nil
}

// replace makes dst, whose engine is e, the mirror of src in one step. Memory
// holds the ids of both.
func (m *migration) replace(ctx context.Context, e fileEngine) error {
	ids := make(map[string]struct{})
	for id, err := range m.src.Store.Keys(ctx) {
		if err != nil {
			return m.atSource(err)
		}
		ids[id] = struct{}{}
	}
	if err := m.refuseEmpty(ctx, len(ids) == 0); err != nil {
		return err
	}
	m.progress.Total = len(ids)
	if m.opts.DryRun {
		for _, err := range m.changes(ctx, ids) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	before := m.Report
	previous, err := e.Replace(ctx, m.changes(ctx, ids))
	if err != nil {
		m.Report = before // It was all or nothing.
	}
	m.Report.Previous = previous
	return err
}

// changes yields what makes dst the mirror of src, which has these ids.
// Documents that dst has keep their place, and new ones follow sorted by id.
func (m *migration) changes(ctx context.Context, ids map[string]struct{}) iter.Seq2[engine.Change, error] {
	return func(yield func(engine.Change, error) bool) {
		if both, ok := m.removals(ctx, ids, yield); ok {
			m.updates(ctx, both, slices.Sorted(maps.Keys(ids)), yield)
		}
	}
}

// removals yields those of dst that are not in ids, takes the others out of
// ids, and returns them in the order of dst.
func (m *migration) removals(ctx context.Context, ids map[string]struct{}, yield func(engine.Change, error) bool) (both []string, ok bool) {
	for id, err := range m.dst.Store.Keys(ctx) {
		if err != nil {
			yield(engine.Change{}, m.atDestination(err))
			return nil, false
		}
		if _, ok := ids[id]; ok {
			both = append(both, id)
			delete(ids, id)
			continue
		}
		if _, err := m.dst.Engine.Get(ctx, id); errors.Is(err, fault.ErrCorrupt) {
			continue
		}
		m.Report.Removed++
		if !yield(engine.Change{Item: engine.Item{ID: id}, Remove: true}, nil) {
			return nil, false
		}
	}
	return both, true
}

// updates yields those of src that dst has otherwise, of those in both, and
// those that it lacks.
func (m *migration) updates(ctx context.Context, both, fresh []string, yield func(engine.Change, error) bool) {
	lists := func(yield func([]string, error) bool) {
		for _, list := range [][]string{both, fresh} {
			for page := range slices.Chunk(list, BulkPage) {
				if !yield(page, nil) {
					return
				}
			}
		}
	}
	for p, err := range readAhead(ctx, m.src, lists) {
		if err != nil {
			yield(engine.Change{}, m.atSource(err))
			return
		}
		if !m.changesOf(ctx, p, yield) {
			return
		}
		m.advance(p)
	}
}

// changesOf yields those of a page that dst has not, or has otherwise.
func (m *migration) changesOf(ctx context.Context, p PageOf, yield func(engine.Change, error) bool) bool {
	docs := m.sound(p)
	for _, d := range docs {
		if err := m.accepts(d.Item); err != nil {
			yield(engine.Change{}, m.atDestination(err))
			return false
		}
	}
	theirs, _, err := m.theirs.alike(ctx, docs)
	if err != nil {
		yield(engine.Change{}, m.atDestination(err))
		return false
	}
	for i, d := range docs {
		switch m.verdict(d, theirs[i]) {
		case verdictSame:
			m.Report.Same++
			continue
		case verdictFresh:
			m.Report.Copied++
		default:
			m.Report.Overwritten++
		}
		if d.TTL == 0 {
			d.TTL = m.opts.TTL
		}
		m.Report.Bytes += int64(len(d.Value))
		if !yield(engine.Change{Item: d.Item}, nil) {
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
	m.Report.Source, m.Report.Destination = contentsOf(&c.sumA), contentsOf(&c.sumB)
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
		{c.found[OtherValue] + c.spoilt, m.Report.Skipped, "with another value"},
		{c.found[OtherTTL], m.Report.TTLKept, "with another time to live"},
	} {
		if w.n > w.counted {
			wrong = append(wrong, fmt.Sprintf("%d %s", w.n-w.counted, w.what))
		}
	}
	if n := c.found[OnlyInB]; m.opts.Mirror && n > 0 {
		wrong = append(wrong, fmt.Sprintf("%d only in the destination", n))
	}
	m.Report.Verified = len(wrong) == 0
	if m.Report.Verified {
		return nil
	}
	return fmt.Errorf("the comparison after the copy finds differences, as if one of the stores was written to meanwhile: documents %s; "+
		"migrate again, or list them with Verify", strings.Join(wrong, ", "))
}
