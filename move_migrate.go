package kv

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ngraf/kv/internal/jsonscan"
)

// A conflictRule says what is done with a document that dst has under the same
// id, but with another value. It is kv.OnConflict.
type conflictRule int

const (
	conflictSkip conflictRule = iota
	conflictOverwrite
	conflictFail
)

// migrateOptions are kv.MigrateOptions.
type migrateOptions struct {
	conflict   conflictRule
	mirror     bool
	dryRun     bool
	skipVerify bool
	ttl        time.Duration
	progress   func(migrateProgress) // may be nil
}

// A migrateProgress is kv.Progress.
type migrateProgress struct {
	Verifying bool
	Documents int
	Bytes     int64
	Total     int
}

// A migrateReport is kv.MigrateReport, which documents it, without what
// belongs to the whole call.
type migrateReport struct {
	Namespace   string
	DryRun      bool
	Copied      int
	Same        int
	Skipped     int
	Overwritten int
	Removed     int
	Expired     int
	Refused     int
	TTLKept     int
	SkippedIDs  []string
	RefusedIDs  []string
	Previous    string
	Bytes       int64
	Duration    time.Duration
	Verified    bool
	Source      contents
	Destination contents
}

// listedIDs bounds the lists of ids in a report.
const listedIDs = 1000

// migrate copies the documents of src to dst. The report says what was done
// before an error.
func migrate(ctx context.Context, dst, src *side, opts migrateOptions) (migrateReport, error) {
	began := time.Now()
	m := &migration{dst: dst, src: src, opts: opts, theirs: newReader(dst), look: true}
	m.report.Namespace = cmp.Or(src.namespace, dst.namespace)
	m.report.DryRun = opts.dryRun
	err := m.run(ctx)
	m.report.Duration = time.Since(began)
	return m.report, err
}

// A migration is one call of migrate.
type migration struct {
	dst, src *side
	opts     migrateOptions
	report   migrateReport
	progress migrateProgress
	theirs   *reader // of dst
	look     bool    // look at what dst has before storing, for it had some of the last page
	spelling spelling
}

func (m *migration) run(ctx context.Context) error {
	if err := m.check(); err != nil {
		return err
	}
	if m.dst.engine != nil && !m.opts.dryRun {
		if err := m.dst.begin(ctx, true); err != nil {
			return m.atDestination(err)
		}
	}
	if e, ok := m.src.engine.(sized); ok {
		m.progress.Total = e.count()
	}
	if err := m.transfer(ctx); err != nil || m.opts.dryRun {
		return err
	}
	if err := m.dst.store.Flush(ctx); err != nil {
		return m.atDestination(err)
	}
	if m.opts.skipVerify {
		return nil
	}
	return m.verify(ctx)
}

// transfer makes the changes to dst, in one step where it can.
func (m *migration) transfer(ctx context.Context) error {
	switch e, ok := m.dst.engine.(fileEngine); {
	case !m.opts.mirror && ok:
		return m.copyToFile(ctx, e)
	case !m.opts.mirror:
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
	case m.dst.engine != nil && m.dst.engine == m.src.engine:
		return invalidf("the source and the destination are the same namespace")
	case m.opts.conflict < conflictSkip || m.opts.conflict > conflictFail:
		return invalidf("OnConflict is %d; use Skip, Overwrite or Fail", m.opts.conflict)
	case m.opts.mirror && m.opts.conflict == conflictFail:
		return invalidf("Mirror overwrites conflicts, and cannot fail on them")
	case m.opts.ttl < 0:
		return invalidf("the time to live %v is negative; 0 means for ever", m.opts.ttl)
	}
	m.opts.ttl = roundTTL(m.opts.ttl)
	if m.opts.mirror {
		m.opts.conflict = conflictOverwrite
	}
	return nil
}

// copy stores what src has, page by page; the next is read meanwhile.
func (m *migration) copy(ctx context.Context) error {
	for p, err := range readAhead(ctx, m.src, m.src.pages(ctx)) {
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

// sound returns the documents of a page that can be stored, as they are to be.
func (m *migration) sound(p pageOf) []moved {
	docs := make([]moved, 0, len(p.docs))
	passed := time.Since(p.at)
	for _, d := range p.docs {
		d = d.after(passed)
		switch {
		case errors.Is(d.err, ErrCorrupt):
			m.report.Refused++
			m.report.RefusedIDs = noted(m.report.RefusedIDs, d.id)
			continue
		case d.err != nil:
			m.report.Expired++
			continue
		}
		// What is read of a file is laid out in lines.
		d.value = jsonscan.AppendCompact(d.value[:0], d.value)
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
func (m *migration) put(ctx context.Context, docs []moved) error {
	fresh := docs
	if m.look || m.opts.dryRun {
		var err error
		if fresh, err = m.settle(ctx, docs, 0); err != nil {
			return err
		}
	}
	m.look = len(fresh) < len(docs)
	if m.opts.dryRun || len(fresh) == 0 {
		m.report.Copied += len(fresh)
		return nil
	}
	n, err := m.fill(ctx, fresh, false)
	m.report.Copied += n
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
func (m *migration) settle(ctx context.Context, docs []moved, n int) (fresh []moved, err error) {
	theirs, at, err := m.theirs.alike(ctx, docs)
	if err != nil {
		return nil, err
	}
	var replace []moved
	read := time.Now()
	same := 0
	for i, d := range docs {
		switch m.verdict(d, theirs[i].after(read.Sub(at[i]))) {
		case verdictFresh:
			fresh = append(fresh, d)
		case verdictSame:
			same++
		case verdictOther:
			replace = append(replace, d)
		case verdictSkip:
			m.report.Skipped++
			m.report.SkippedIDs = noted(m.report.SkippedIDs, d.id)
		case verdictFail:
			return nil, newWithID(d.id, errConflict)
		}
	}
	m.report.Same += max(same-n, 0)
	if m.opts.dryRun || len(replace) == 0 {
		m.report.Overwritten += len(replace)
		return fresh, nil
	}
	n, err = m.fill(ctx, replace, true)
	m.report.Overwritten += n
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

func (m *migration) verdict(d, theirs moved) verdict {
	overwrite := m.opts.conflict == conflictOverwrite
	switch {
	case errors.Is(theirs.err, ErrNotFound):
		return verdictFresh
	case theirs.err == nil && m.spelling.same(d.value, theirs.value):
		if sameTTL(d.ttl, theirs.ttl, m.opts.ttl) || m.dst.expirer == nil {
			return verdictSame
		}
		if overwrite {
			return verdictOther
		}
		m.report.TTLKept++
		return verdictSame
	case overwrite:
		return verdictOther
	case m.opts.conflict == conflictFail:
		return verdictFail
	}
	return verdictSkip
}

// fill stores documents, with the time to live that they are to have. To
// insert again after a lost reply is safe here: what is there already is
// compared.
func (m *migration) fill(ctx context.Context, docs []moved, replace bool) (int, error) {
	items := make([]item, len(docs))
	bytes := int64(0)
	for i, d := range docs {
		items[i] = d.item
		if d.ttl == 0 {
			items[i].ttl = m.opts.ttl
		}
		bytes += int64(len(d.value))
	}
	n, err := untilKnown(ctx, func() (int, error) { return m.dst.put(ctx, items, replace) })
	if err == nil {
		m.report.Bytes += bytes
	}
	return n, err
}

// advance reports progress.
func (m *migration) advance(p pageOf) {
	m.progress.Documents += len(p.docs)
	for _, d := range p.docs {
		m.progress.Bytes += int64(len(d.value))
	}
	if m.opts.progress != nil {
		m.opts.progress(m.progress)
	}
}
