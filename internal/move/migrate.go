package move

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonscan"
)

// A ConflictRule says what is done with a document that dst has under the same
// id, but with another value. It is kv.OnConflict.
type ConflictRule int

// The rules, in the order of kv's.
const (
	ConflictSkip ConflictRule = iota
	ConflictOverwrite
	ConflictFail
	// ConflictKeep decides for what the destination has, so that it is a
	// conflict no more. Of files and Redis alone this is remembered.
	ConflictKeep
)

// Options are kv.MigrateOptions.
type Options struct {
	Conflict   ConflictRule
	Mirror     bool
	Delete     bool // files to Redis: what was removed from the files is removed, if Redis did not change it
	DryRun     bool
	SkipVerify bool
	TTL        time.Duration
	Progress   func(Progress) // may be nil
}

// A Progress is kv.Progress.
type Progress struct {
	Verifying bool
	Documents int
	Bytes     int64
	Total     int
}

// A Report is kv.MigrateReport, which documents it, without what
// belongs to the whole call.
type Report struct {
	Namespace    string
	DryRun       bool
	Copied       int
	Same         int
	Skipped      int
	Overwritten  int
	Removed      int
	Expired      int
	Refused      int
	TTLKept      int
	AheadInFile  int  // documents that the file has, or has removed, and Redis does not know
	AheadInRedis int  // likewise
	Older        bool // the files are an older copy, and changed nothing
	SkippedIDs   []string
	RefusedIDs   []string
	Previous     string
	Bytes        int64
	Duration     time.Duration
	Verified     bool
	Source       Contents
	Destination  Contents
}

// listedIDs bounds the lists of ids in a report.
const listedIDs = 1000

// Migrate copies the documents of src to dst. The report says what was done
// before an error.
func Migrate(ctx context.Context, dst, src *Side, opts Options) (Report, error) {
	began := time.Now()
	m := &migration{dst: dst, src: src, opts: opts, theirs: NewReader(dst), look: true}
	m.Report.Namespace = cmp.Or(src.Namespace, dst.Namespace)
	m.Report.DryRun = opts.DryRun
	err := m.run(ctx)
	m.Report.Duration = time.Since(began)
	return m.Report, err
}

// A migration is one call of migrate.
type migration struct {
	dst, src *Side
	opts     Options
	Report   Report
	progress Progress
	theirs   *Reader // of dst
	look     bool    // look at what dst has before storing, for it had some of the last page
	spelling digest.Spelling
}

func (m *migration) run(ctx context.Context) error {
	if err := m.check(); err != nil {
		return err
	}
	if m.dst.Engine != nil && !m.opts.DryRun {
		if err := m.dst.Begin(ctx, true); err != nil {
			return m.atDestination(err)
		}
	}
	if e, ok := m.src.Engine.(engine.Sized); ok {
		m.progress.Total = e.Count()
	}
	if p := pairOf(m); p != nil {
		return p.run(ctx)
	}
	return m.apart(ctx)
}

// apart copies where nothing is known of a common state.
func (m *migration) apart(ctx context.Context) error {
	if err := m.transfer(ctx); err != nil || m.opts.DryRun {
		return err
	}
	if err := m.dst.Store.Flush(ctx); err != nil {
		return m.atDestination(err)
	}
	if m.opts.SkipVerify {
		return nil
	}
	return m.verify(ctx)
}

// transfer makes the changes to dst, in one step where it can.
func (m *migration) transfer(ctx context.Context) error {
	switch e, ok := m.dst.Engine.(fileEngine); {
	case !m.opts.Mirror && ok:
		return m.copyToFile(ctx, e)
	case !m.opts.Mirror:
		return m.copy(ctx)
	case ok:
		return m.replace(ctx, e)
	}
	return m.mirror(ctx)
}

func (m *migration) atSource(err error) error      { return m.src.named("the source", err) }
func (m *migration) atDestination(err error) error { return m.dst.named("the destination", err) }

func (m *migration) check() error {
	switch {
	case m.dst.Engine != nil && m.dst.Engine == m.src.Engine:
		return fault.Invalidf("the source and the destination are the same namespace")
	case m.opts.Conflict < ConflictSkip || m.opts.Conflict > ConflictKeep:
		return fault.Invalidf("OnConflict is %d; use Skip, Overwrite, Fail or Keep", m.opts.Conflict)
	case m.opts.Mirror && m.opts.Conflict == ConflictFail:
		return fault.Invalidf("Mirror overwrites conflicts, and cannot fail on them")
	case m.opts.TTL < 0:
		return fault.Invalidf("the time to live %v is negative; 0 means for ever", m.opts.TTL)
	}
	m.opts.TTL = engine.RoundTTL(m.opts.TTL)
	if m.opts.Mirror {
		m.opts.Conflict = ConflictOverwrite
	}
	return nil
}

// copy stores what src has, page by page; the next is read meanwhile.
func (m *migration) copy(ctx context.Context) error {
	for p, err := range readAhead(ctx, m.src, m.src.Pages(ctx)) {
		if err != nil {
			return m.atSource(err)
		}
		if err := m.put(ctx, m.sound(p)); err != nil {
			return m.atDestination(err)
		}
		m.advance(p)
	}
	return nil
}

// Sound returns the documents of a page that can be stored, as they are to be.
func (m *migration) sound(p PageOf) []Moved {
	docs := make([]Moved, 0, len(p.Docs))
	passed := time.Since(p.At)
	for _, d := range p.Docs {
		d = d.After(passed)
		switch {
		case errors.Is(d.Err, fault.ErrCorrupt):
			m.Report.Refused++
			m.Report.RefusedIDs = noted(m.Report.RefusedIDs, d.ID)
			continue
		case d.Err != nil:
			m.Report.Expired++
			continue
		}
		// What is read of a file is laid out in lines.
		d.Value = jsonscan.AppendCompact(d.Value[:0], d.Value)
		docs = append(docs, d)
	}
	return docs
}

func noted(ids []string, id string) []string {
	if len(ids) < listedIDs {
		ids = append(ids, id)
	}
	return ids
}

var errConflict = errors.New("a document with the same id and another value is there; it was left alone, and the copying stopped")

// put stores documents in dst by the rules of conflicts.
func (m *migration) put(ctx context.Context, docs []Moved) error {
	fresh := docs
	if m.look || m.opts.DryRun {
		var err error
		if fresh, err = m.settle(ctx, docs, 0); err != nil {
			return err
		}
	}
	m.look = len(fresh) < len(docs)
	if m.opts.DryRun || len(fresh) == 0 {
		m.Report.Copied += len(fresh)
		return nil
	}
	n, err := m.fill(ctx, fresh, false)
	m.Report.Copied += n
	if err != nil || n == len(fresh) {
		return err
	}
	m.look = true
	_, err = m.settle(ctx, fresh, n)
	return err
}

// settle compares documents with those that dst has, n of which have just
// been stored, does what is to be done about conflicts, and returns those
// that dst lacks.
func (m *migration) settle(ctx context.Context, docs []Moved, n int) (fresh []Moved, err error) {
	theirs, at, err := m.theirs.alike(ctx, docs)
	if err != nil {
		return nil, err
	}
	var replace []Moved
	read := time.Now()
	same := 0
	for i, d := range docs {
		switch m.verdict(d, theirs[i].After(read.Sub(at[i]))) {
		case verdictFresh:
			fresh = append(fresh, d)
		case verdictSame:
			same++
		case verdictOther:
			replace = append(replace, d)
		case verdictSkip:
			m.Report.Skipped++
			m.Report.SkippedIDs = noted(m.Report.SkippedIDs, d.ID)
		case verdictFail:
			return nil, fault.WithID(d.ID, errConflict)
		}
	}
	m.Report.Same += max(same-n, 0)
	if m.opts.DryRun || len(replace) == 0 {
		m.Report.Overwritten += len(replace)
		return fresh, nil
	}
	n, err = m.fill(ctx, replace, true)
	m.Report.Overwritten += n
	return fresh, err
}

// A verdict is what is to be done with a document.
type verdict int

const (
	verdictFresh verdict = iota // dst has none
	verdictSame                 // dst has an equal one
	verdictOther                // what dst has is to be replaced
	verdictSkip
	verdictFail
)

func (m *migration) verdict(d, theirs Moved) verdict {
	overwrite := m.opts.Conflict == ConflictOverwrite
	switch {
	case errors.Is(theirs.Err, fault.ErrNotFound):
		return verdictFresh
	case theirs.Err == nil && m.spelling.Same(d.Value, theirs.Value):
		if sameTTL(d.TTL, theirs.TTL, m.opts.TTL) || m.dst.Expirer == nil {
			return verdictSame
		}
		if overwrite {
			return verdictOther
		}
		m.Report.TTLKept++
		return verdictSame
	case overwrite:
		return verdictOther
	case m.opts.Conflict == ConflictFail:
		return verdictFail
	}
	return verdictSkip
}

// fill stores documents, with the time to live that they are to have. To
// insert again after a lost reply is safe here: what is there already is
// compared.
func (m *migration) fill(ctx context.Context, docs []Moved, replace bool) (int, error) {
	items := make([]engine.Item, len(docs))
	bytes := int64(0)
	for i, d := range docs {
		items[i] = d.Item
		if d.TTL == 0 {
			items[i].TTL = m.opts.TTL
		}
		bytes += int64(len(d.Value))
	}
	n, err := engine.RetryUnknown(ctx, func() (int, error) { return m.dst.put(ctx, items, replace) })
	if err == nil {
		m.Report.Bytes += bytes
	}
	return n, err
}

// advance reports progress.
func (m *migration) advance(p PageOf) {
	m.progress.Documents += len(p.Docs)
	for _, d := range p.Docs {
		m.progress.Bytes += int64(len(d.Value))
	}
	if m.opts.Progress != nil {
		m.opts.Progress(m.progress)
	}
}
