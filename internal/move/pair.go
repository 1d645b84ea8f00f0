package move

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ngraf/kv/internal/base"
	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/merge"
	"github.com/ngraf/kv/internal/redisstore"
)

// A pair are the files of a namespace and its keys in Redis, of which it is
// remembered what they last had in common. What goes where is in merge.
type pair struct {
	*migration
	files   merge.Files
	redis   merge.Redis
	way     merge.Way
	session *merge.Session
	look    jsonstore.Look
}

// pairOf returns nil for stores of another kind.
func pairOf(m *migration) *pair {
	files, redis, way := m.src, m.dst, merge.ToRedis
	if _, ok := files.Engine.(merge.Files); !ok {
		files, redis, way = m.dst, m.src, merge.ToFiles
	}
	f, ok := files.Engine.(merge.Files)
	r, too := redis.Engine.(merge.Redis)
	if !ok || !too {
		return nil
	}
	return &pair{migration: m, files: f, redis: r, way: way}
}

func (p *pair) rule() merge.Rule {
	winner := [...]merge.Winner{
		ConflictSkip: merge.Nobody, ConflictOverwrite: merge.Source, ConflictFail: merge.Stop, ConflictKeep: merge.Destination,
	}
	return merge.Rule{Way: p.way, Conflict: winner[p.opts.Conflict], Delete: p.opts.Delete}
}

func (p *pair) run(ctx context.Context) (err error) {
	if p.opts.DryRun {
		p.session, err = merge.Peek(ctx, p.redis)
	} else {
		p.session, err = merge.Begin(ctx, p.redis, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		return p.atRedis(err)
	}
	defer p.session.End()
	if p.look, err = p.files.Look(); err != nil {
		return p.atFiles(err)
	}
	report, progress := p.Report, p.progress
	return p.session.Proven(ctx, func() error {
		p.Report, p.progress = report, progress
		switch {
		case p.opts.Mirror:
			return p.mirrored(ctx)
		case p.way == merge.ToRedis:
			return p.toRedis(ctx)
		}
		return p.toFiles(ctx)
	})
}

func (p *pair) atRedis(err error) error {
	if p.way == merge.ToRedis {
		return p.atDestination(err)
	}
	return p.atSource(err)
}

func (p *pair) atFiles(err error) error {
	if p.way == merge.ToRedis {
		return p.atSource(err)
	}
	return p.atDestination(err)
}

func (p *pair) index(ctx context.Context) (*merge.Index, error) {
	most := int64(engine.LimitMaxValueBytes)
	if p.way == merge.ToRedis && p.dst.MaxValue > 0 {
		most = p.dst.MaxValue
	}
	x, err := merge.IndexOf(ctx, p.files, time.Now().UnixMilli(), most)
	if err != nil {
		return nil, p.atFiles(err)
	}
	return x, nil
}

// fleeting reports whether all that is in Redis may expire.
func (p *pair) fleeting() bool {
	if p.way == merge.ToRedis {
		return p.dst.TTL > 0 || p.opts.TTL > 0
	}
	return p.src.TTL > 0
}

// dealt says which files the base is of afterwards.
func (p *pair) dealt(ctx context.Context, x *merge.Index) (merge.Dealt, error) {
	now, err := p.files.Look()
	if err != nil {
		return merge.Dealt{}, p.atFiles(err)
	}
	d := merge.Dealt{Look: now, Contents: []uint64{x.Content}}
	if !now.There {
		return d, nil
	}
	raw, err := now.Digest(ctx)
	if err != nil {
		return d, p.atFiles(err)
	}
	if again, err := p.files.Look(); err != nil || again.State != now.State {
		return merge.Dealt{Contents: d.Contents}, err // Somebody writes to them.
	}
	d.Contents = append(d.Contents, raw)
	return d, nil
}

// mirrored makes the destination have what the source has, whatever was before,
// and takes that for the base.
func (p *pair) mirrored(ctx context.Context) error {
	before, err := p.index(ctx)
	if err != nil {
		return err
	}
	copies := p.way == merge.ToFiles && p.session.IsStrange(p.look, before.Content)
	if err := p.apart(ctx); err != nil || p.opts.DryRun || copies {
		return err
	}
	x, err := p.index(ctx)
	if err != nil {
		return err
	}
	dealt, err := p.dealt(ctx, x)
	if err != nil {
		return err
	}
	next := make([]base.Entry, 0, x.Len())
	for d := range x.All() {
		if d.State == merge.Refused {
			continue
		}
		e := d.Entry
		if p.fleeting() || d.Expires != 0 {
			e.Mark |= base.Brief
		}
		next = append(next, e)
	}
	return p.session.Write(next, dealt)
}

// toRedis writes what is due, and looks at all that Redis then has.
func (p *pair) toRedis(ctx context.Context) error {
	x, err := p.index(ctx)
	if err != nil {
		return err
	}
	p.Report.Refused, p.Report.RefusedIDs, p.Report.Expired = x.RefusedCount(), x.Refused, x.Expired
	p.progress.Total = x.Len()
	t := &merge.Transfer{
		Session: p.session, Files: p.files, Index: x, Rule: p.rule(), TTL: p.opts.TTL, Fleeting: p.fleeting(), DryRun: p.opts.DryRun,
		Lives: p.opts.Conflict == ConflictOverwrite,
		Clock: func() int64 { return time.Now().UnixMilli() },
		Progress: func(docs int, bytes int64) {
			p.progress.Documents += docs
			p.progress.Bytes += bytes
			if p.opts.Progress != nil {
				p.opts.Progress(p.progress)
			}
		},
	}
	dealt, err := p.dealt(ctx, x)
	if err != nil {
		return err
	}
	p.Report.Older = p.opts.Conflict != ConflictOverwrite && p.session.Head.IsOlder(p.look.Newest, dealt.Contents...)
	if p.Report.Older {
		t.Next, dealt = p.session.Known, merge.Dealt{Look: dealt.Look, Older: true}
	} else {
		err = t.Run(ctx)
		p.count(t)
		if err != nil {
			return p.atDestination(err)
		}
		t.Vanished()
	}
	s, err := p.survey(ctx, t, x)
	if err != nil || p.opts.DryRun {
		return err
	}
	if err := t.Finish(ctx, dealt); err != nil {
		return p.atDestination(err)
	}
	if p.opts.SkipVerify {
		return nil
	}
	p.Report.Source, p.Report.Destination = contentsOf(&x.Sum), contentsOf(&s.Sum)
	return p.verdictOn(s.Lost, s.Other)
}

func (p *pair) count(t *merge.Transfer) {
	r := &p.Report
	r.Copied, r.Overwritten, r.Same, r.Skipped, r.SkippedIDs = t.Stored, t.Replaced, t.Same, t.Conflicts, t.ConflictIDs
	r.Bytes, r.TTLKept = t.Bytes, t.TTLKept
}

// survey looks at all that Redis has, removes what is to be removed, and drops
// from the base what neither side has.
func (p *pair) survey(ctx context.Context, t *merge.Transfer, x *merge.Index) (*merge.Survey, error) {
	s := &merge.Survey{Index: x, Known: p.session.Known, Fleeting: p.fleeting()}
	if !p.opts.DryRun {
		s.Known = base.Sorted(t.Next)
	}
	if p.opts.SkipVerify && !p.opts.Delete && !p.opts.DryRun {
		return s, nil
	}
	remove := p.opts.Delete && !p.Report.Older
	removed := make(map[uint64]bool)
	progress := Progress{Verifying: true, Total: p.progress.Documents}
	err := redisPages(ctx, p.dst, func(page PageOf) error {
		var ids, seen []string
		for _, d := range page.Docs {
			if d.Err != nil {
				continue
			}
			if s.See(d.ID, s.Sight(d.ID, d.Value)) == merge.FileRemoved && remove {
				ids, seen = append(ids, d.ID), append(seen, redisstore.Digest(d.Value))
				removed[base.IDOf(d.ID)] = true
				s.Sum.Sub(new(digest.Spelling).Hash(d.ID, d.Value))
			}
		}
		progress.Documents += len(page.Docs)
		if p.opts.Progress != nil && !p.opts.DryRun {
			p.opts.Progress(progress)
		}
		if len(ids) == 0 || p.opts.DryRun {
			p.Report.Removed += len(ids)
			return nil
		}
		n, err := t.Remove(ctx, ids, seen)
		p.Report.Removed += n
		return err
	})
	if err != nil {
		return nil, p.atDestination(err)
	}
	nowhere := s.Rest()
	kept := s.Known[:0]
	for _, e := range s.Known {
		if !nowhere[e.ID] && !removed[e.ID] {
			kept = append(kept, e)
		}
	}
	t.Next = kept
	p.Report.Same += s.Rows[merge.Alike] - t.Same - p.sent(t)
	p.Report.AheadInFile = s.FileAhead() - len(removed)
	p.Report.AheadInRedis = s.RedisAhead()
	if p.opts.DryRun {
		p.Report.AheadInFile = max(0, s.Rows[merge.FileRemoved]-len(removed))
		if p.opts.Conflict == ConflictKeep {
			p.Report.AheadInRedis += t.Conflicts // Which would be decided.
		}
	}
	return s, nil
}

// sent is how many documents were written.
func (p *pair) sent(t *merge.Transfer) int {
	if p.opts.DryRun {
		return 0
	}
	return t.Stored + t.Replaced
}

// redisPages reads all that a side has, but not for how long it lives.
func redisPages(ctx context.Context, s *Side, do func(PageOf) error) error {
	r := NewReader(s)
	r.timeless = true
	for page, err := range r.ahead(ctx, s.Pages(ctx)) {
		if err == nil {
			err = do(page)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// verdictOn says what the comparison found.
func (p *pair) verdictOn(lost, other int) error {
	p.Report.Verified = lost == 0 && other == 0
	if p.Report.Verified {
		return nil
	}
	return fmt.Errorf("the comparison after the copy finds differences, as if one of the stores was written to meanwhile: documents "+
		"%d only in the source, %d with another value; migrate again, or list them with Verify", lost, other)
}

// A StatusReport says how the files and Redis stand to each other.
type StatusReport struct {
	Namespace    string
	Time         time.Time // of the base; zero: there is none
	Files        int       // documents
	Redis        int
	Alike        int
	AheadInFile  int
	AheadInRedis int
	Conflicts    int
	Older        bool // the files are an older copy
}

// Status says what Migrate would find, and changes nothing.
func Status(ctx context.Context, files, redis *Side) (StatusReport, error) {
	p := pairOf(&migration{src: files, dst: redis})
	if p == nil || p.way != merge.ToRedis {
		return StatusReport{}, fault.Invalidf("only the files and the keys of one namespace have a last common state; compare other stores with Verify")
	}
	r := StatusReport{Namespace: redis.Namespace}
	session, err := merge.Peek(ctx, p.redis)
	if err != nil {
		return r, redis.named("Redis", err)
	}
	p.session = session
	if p.look, err = p.files.Look(); err != nil {
		return r, files.named("the files", err)
	}
	x, err := p.index(ctx)
	if err != nil {
		return r, err
	}
	s := &merge.Survey{Index: x, Known: session.Known, Fleeting: redis.TTL > 0}
	err = redisPages(ctx, redis, func(page PageOf) error {
		for _, d := range page.Docs {
			if d.Err == nil {
				s.See(d.ID, s.Sight(d.ID, d.Value))
			}
		}
		return nil
	})
	if err != nil {
		return r, redis.named("Redis", err)
	}
	s.Rest()
	if session.Head.Exists() {
		r.Time = session.Head.Time
	}
	r.Files, r.Redis, r.Alike = x.Len(), s.Sum.Count(), s.Rows[merge.Alike]
	r.AheadInFile, r.AheadInRedis, r.Conflicts = s.FileAhead(), s.RedisAhead(), s.Conflicts()
	r.Older = session.Head.IsOlder(p.look.Newest, x.Content)
	return r, nil
}
