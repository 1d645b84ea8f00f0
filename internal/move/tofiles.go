package move

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/ngraf/kv/internal/base"
	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/merge"
)

// A toFiles brings what is due from Redis into files, in one step. Memory holds
// the ids of Redis, and marks of what is in the files.
type toFiles struct {
	*pair
	survey *merge.Survey
	copies bool       // the files are none that the base is of, and it stays as it is
	sum    digest.Set // of what Redis has
	next   []base.Entry
	sent   []base.Entry // what the files have then, with the flags of the base
}

func (p *pair) toFiles(ctx context.Context) error {
	e := p.dst.Engine.(fileEngine)
	x, err := p.index(ctx)
	if err != nil {
		return err
	}
	ids := make(map[string]struct{})
	for id, err := range p.src.Store.Keys(ctx) {
		if err != nil {
			return p.atSource(err)
		}
		ids[id] = struct{}{}
	}
	if err := p.refuseEmpty(ctx, len(ids) == 0); err != nil {
		return err
	}
	p.progress.Total = len(ids)
	p.Report.Older = p.session.Head.IsOlder(p.look.Newest, x.Content)
	t := &toFiles{pair: p, survey: &merge.Survey{Index: x, Known: p.session.Known, Fleeting: p.fleeting()}}
	if t.copies = p.session.IsStrange(p.look, x.Content); t.copies {
		t.survey.Known = nil
	}
	if p.opts.DryRun {
		for _, err := range t.changes(ctx, ids) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	before := p.Report
	previous, err := e.Replace(ctx, t.changes(ctx, ids))
	if err != nil {
		p.Report = before // It was all or nothing.
		return err
	}
	p.Report.Previous = previous
	return t.finish(ctx)
}

// finish reads the files once more, compares them with what was written, and
// makes that the base.
func (t *toFiles) finish(ctx context.Context) error {
	if err := t.dst.Store.Flush(ctx); err != nil {
		return t.atDestination(err)
	}
	x, err := t.index(ctx)
	if err != nil {
		return err
	}
	lost, other := 0, 0
	for _, e := range t.sent {
		d := x.Find(e.ID)
		switch {
		case d == nil:
			lost++
			continue
		case !d.Mark.SameValue(e.Mark):
			other++
			continue
		}
		t.next = append(t.next, base.Entry{ID: e.ID, Mark: d.Mark | e.Mark&base.Brief})
	}
	dealt, err := t.dealt(ctx, x)
	if err != nil {
		return err
	}
	dealt.Ahead = t.Report.AheadInFile > 0 || t.Report.Skipped > 0
	if !t.copies {
		err = t.session.Write(t.next, dealt)
	}
	if err != nil {
		return t.atSource(err)
	}
	if t.opts.SkipVerify {
		return nil
	}
	t.Report.Source, t.Report.Destination = contentsOf(&t.sum), contentsOf(&x.Sum)
	return t.verdictOn(lost, other)
}

// changes yields what is due in the files. Documents that they have keep their
// place, and new ones follow sorted by id.
func (t *toFiles) changes(ctx context.Context, ids map[string]struct{}) iter.Seq2[engine.Change, error] {
	return func(yield func(engine.Change, error) bool) {
		both, ok := t.absent(ctx, ids, yield)
		if !ok {
			return
		}
		fresh := slices.Sorted(maps.Keys(ids))
		lists := func(yield func([]string, error) bool) {
			for _, list := range [][]string{both, fresh} {
				for page := range slices.Chunk(list, BulkPage) {
					if !yield(page, nil) {
						return
					}
				}
			}
		}
		for page, err := range readAhead(ctx, t.src, lists) {
			if err != nil {
				yield(engine.Change{}, t.atSource(err))
				return
			}
			if !t.present(page, yield) {
				return
			}
			t.advance(page)
		}
	}
}

// absent decides about what the files have and Redis has not, takes the others
// out of ids, and returns them in the order of the files.
func (t *toFiles) absent(ctx context.Context, ids map[string]struct{}, yield func(engine.Change, error) bool) (both []string, ok bool) {
	for id, err := range t.dst.Store.Keys(ctx) {
		if err != nil {
			yield(engine.Change{}, t.atDestination(err))
			return nil, false
		}
		if _, there := ids[id]; there {
			both = append(both, id)
			delete(ids, id)
			continue
		}
		d := Moved{Item: engine.Item{ID: id}}
		if !t.decide(d, merge.Sight{}, yield) {
			return nil, false
		}
	}
	return both, true
}

// present decides about a page of what Redis has.
func (t *toFiles) present(page PageOf, yield func(engine.Change, error) bool) bool {
	docs := t.sound(page)
	for _, d := range docs {
		if err := t.accepts(d.Item); err != nil {
			yield(engine.Change{}, t.atDestination(err))
			return false
		}
		h := t.spelling.Hash(d.ID, d.Value)
		t.sum.Add(h)
		if !t.decide(d, merge.Sight{There: true, Mark: base.MarkOf(h, 0), Expires: d.Expires()}, yield) {
			return false
		}
	}
	for _, d := range page.Docs {
		if d.Err != nil {
			id := base.IDOf(d.ID)
			t.keep(id, t.survey.Entry(id))
		}
	}
	return true
}

func (t *toFiles) keep(id uint64, known *base.Mark) {
	if known != nil {
		t.next = append(t.next, base.Entry{ID: id, Mark: *known})
	}
}

// decide does with a document what the table says.
func (t *toFiles) decide(d Moved, redis merge.Sight, yield func(engine.Change, error) bool) bool {
	id := base.IDOf(d.ID)
	file, known := t.survey.Index.Find(id), t.survey.Entry(id)
	if file != nil && file.State == merge.Refused {
		t.keep(id, known)
		return true
	}
	c := merge.CaseOf(known, file.Sight(), redis, t.survey.Fleeting)
	otherTTL := c.Alike && t.otherTTL(d, file)
	if otherTTL && c.File == merge.Same && !given(d, file, *known) {
		c.Alike, c.Redis = false, merge.Changed // By somebody who gave it another time.
	}
	row, action, memory := t.rule().Apply(c)
	if row == merge.Alike && otherTTL {
		if t.opts.Conflict == ConflictOverwrite {
			action, memory = merge.Store, merge.OfRedis
		} else {
			t.Report.TTLKept++
		}
	}
	t.countRow(row, action, d.ID, file != nil)
	switch action {
	case merge.Refuse:
		yield(engine.Change{}, fault.WithID(d.ID, merge.ErrConflict))
		return false
	case merge.Remove:
		return yield(engine.Change{Item: engine.Item{ID: d.ID}, Remove: true}, nil)
	case merge.Store:
		if d.TTL == 0 {
			d.TTL = t.opts.TTL
		}
		t.send(id, redis.Mark, d.Expires())
		t.Report.Bytes += int64(len(d.Value))
		return yield(engine.Change{Item: d.Item}, nil)
	}
	switch {
	case row == merge.Alike:
		t.send(id, redis.Mark, redis.Expires || known != nil && known.Has(base.Brief))
	case memory == merge.OfRedis && redis.There:
		t.next = append(t.next, base.Entry{ID: id, Mark: redis.Mark})
	case memory == merge.AsBefore:
		t.keep(id, known)
	}
	return true
}

// send notes that both sides have a document then.
func (t *toFiles) send(id uint64, mark base.Mark, brief bool) {
	mark = mark.Plain()
	if brief {
		mark |= base.Brief
	}
	t.sent = append(t.sent, base.Entry{ID: id, Mark: mark})
}

func (t *toFiles) countRow(row merge.Row, action merge.Action, id string, there bool) {
	r := &t.Report
	switch {
	case row == merge.Alike && action == merge.Stay:
		r.Same++
	case action == merge.Remove:
		r.Removed++
	case action == merge.Store && there:
		r.Overwritten++
	case action == merge.Store:
		r.Copied++
	case row == merge.Conflict && t.opts.Conflict == ConflictSkip:
		r.Skipped++
		r.SkippedIDs = noted(r.SkippedIDs, id)
	default:
		r.AheadInFile++
	}
}

// otherTTL reports whether Redis lets a document live for another time than
// the file does.
func (t *toFiles) otherTTL(d Moved, file *merge.FileDoc) bool {
	left := time.Duration(0)
	if file.Expires != 0 {
		left = engine.Millis(file.Expires - time.Now().UnixMilli())
	}
	return !sameTTL(d.TTL, left, t.opts.TTL)
}

// given reports whether a time to live in Redis may be the one that was given
// to a document for which the file has none.
func given(d Moved, file *merge.FileDoc, known base.Mark) bool {
	return file.Expires == 0 && (d.TTL == 0 || known.Has(base.Brief))
}
