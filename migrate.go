package kv

import (
	"context"
	"errors"
	"time"

	"github.com/ngraf/kv/internal/jsonscan"
)

// An OnConflict says what Migrate does with a document that the destination
// has under the same id, but with another value.
type OnConflict int

// What Migrate does with conflicts.
const (
	Skip      OnConflict = iota // leave the destination's document alone
	Overwrite                   // replace it
	Fail                        // stop there; what was copied before stays
)

// MigrateOptions say how Migrate copies. The zero value leaves everything
// alone that the destination has, and verifies.
type MigrateOptions struct {
	OnConflict OnConflict

	// Mirror makes the destination have what the source has, and nothing
	// else: conflicts are overwritten, and documents that the source has not
	// are removed. An empty source is refused. What is corrupt on either side
	// stays as it is in the destination.
	//
	// If the destination is a store of the json backend itself, not a wrapper
	// of one, all changes take effect in one atomic step: a migration that is
	// killed or fails leaves the old documents, all of them. The document
	// file of before is kept beside the new one, as
	// kv_store_<namespace>.json.previous-<time>, until somebody removes it.
	Mirror bool

	DryRun     bool // write nothing, and report what would be done
	SkipVerify bool // do not compare the two stores in the end

	// TTL is for documents that live for ever in the source, such as a file
	// that Python wrote. 0 means for ever. It is not given to documents that
	// the destination has already with some time of their own.
	TTL time.Duration

	// Progress, if not nil, is called after each page of documents, by the
	// goroutine that called Migrate.
	Progress func(Progress)
}

// Progress says how far a migration has come.
type Progress struct {
	Verifying bool  // the copying is done, and the figures count the comparison
	Documents int   // of the source that have been dealt with
	Bytes     int64 // of their values; 0 while verifying
	Total     int   // documents of the source, or 0 if that is not known
}

// A MigrateReport says what Migrate did, or would do in a dry run. Every
// document of the source is counted in one of Copied, Same, Skipped,
// Overwritten, Expired and Refused.
type MigrateReport struct {
	Namespace   string `json:"namespace"`
	DryRun      bool   `json:"dry_run,omitempty"`
	Copied      int    `json:"copied"`      // stored where there was none
	Same        int    `json:"same"`        // there already with an equal value
	Skipped     int    `json:"skipped"`     // conflicts that were left
	Overwritten int    `json:"overwritten"` // replaced, as the value or the time to live was another
	Removed     int    `json:"removed"`     // from the destination, by Mirror
	Expired     int    `json:"expired"`     // gone between being listed and being copied
	Refused     int    `json:"refused"`     // corrupt in the source, and left behind
	TTLKept     int    `json:"ttl_kept"`    // those of Same that were left with another time to live

	SkippedIDs []string `json:"skipped_ids,omitempty"` // the first 1,000
	RefusedIDs []string `json:"refused_ids,omitempty"` // the first 1,000

	// Previous is the file with the documents of before, after a Mirror into
	// json files that changed some.
	Previous string `json:"previous,omitempty"`

	Bytes    int64         `json:"bytes"`       // of the values written, in compact form
	Duration time.Duration `json:"duration_ns"` // of the whole call

	// Verified says that the comparison found no other differences than those
	// counted above. The two sums are of everything that it saw.
	Verified    bool     `json:"verified"`
	Source      Contents `json:"source,omitzero"`
	Destination Contents `json:"destination,omitzero"`
}

// listedIDs bounds the lists of ids in a report.
const listedIDs = 1000

// Migrate copies the documents of src to dst, which may be of any kind, with
// the time that each has left to live. It copies one namespace: that which
// the stores are of.
//
// Documents that dst has with an equal value (see [Verify]) are not written
// again, so a call that was cut short is resumed by making it once more; if dst
// is of the json backend and has no documents, it gets all of them in one step
// or, when the call is cut short, none, and the next begins anew. Their
// time to live is left alone, too, unless conflicts are overwritten: then a
// difference of more than a second counts as one. Presence and storing are
// one atomic step per id if dst is an [Inserter] of this package. In the end
// dst is flushed, and both are compared as by [Verify].
//
// Both stores may be in use. What is written to src while Migrate runs may be
// copied or not, in its old or its new state; each document that is copied is
// one that src had. The comparison then reports differences, and another call
// copies them, with Overwrite if they are of documents copied before. What
// others write to dst is treated as if it had been there before; with Mirror
// into json files, it makes the call fail with ErrUnavailable.
//
// Memory is bounded by some pages of about 8 MiB, or a few values where they
// are larger; Mirror into json files also holds all ids.
//
// An error is an [*Error] with the Op "migrate". The report says what was done
// before it. If the comparison finds differences, the error matches none of
// the kinds of failure.
func Migrate(ctx context.Context, dst, src Store, opts MigrateOptions) (MigrateReport, error) {
	m := &migration{dst: dst, src: src, opts: opts, began: time.Now(), theirs: newReader(dst), look: true}
	m.report.Namespace = namespaceOf(src, dst)
	m.report.DryRun = opts.DryRun
	err := m.run(ctx)
	m.report.Duration = time.Since(m.began)
	return m.report, failed("migrate", m.report.Namespace, err)
}

// A migration is one call of Migrate.
type migration struct {
	dst, src Store
	opts     MigrateOptions
	began    time.Time
	report   MigrateReport
	progress Progress
	theirs   *reader // of dst
	look     bool    // look at what dst has before storing, for it had some of the last page
	spelling spelling
}

func (m *migration) run(ctx context.Context) error {
	if err := m.check(); err != nil {
		return err
	}
	if own, ok := m.dst.(*store); ok && !m.opts.DryRun {
		if err := own.beginWrite(ctx); err != nil {
			return onSide("the destination", err)
		}
	}
	if e := jsonEngineOf(m.src); e != nil {
		m.progress.Total = e.count()
	}
	var err error
	switch e := jsonEngineOf(m.dst); {
	case !m.opts.Mirror && e != nil:
		err = m.copyToFile(ctx, e)
	case !m.opts.Mirror:
		err = m.copy(ctx)
	case e != nil:
		err = m.replace(ctx, e)
	default:
		err = m.mirror(ctx)
	}
	if err != nil || m.opts.DryRun {
		return err
	}
	if err := m.dst.Flush(ctx); err != nil {
		return onSide("the destination", err)
	}
	if m.opts.SkipVerify {
		return nil
	}
	return m.verify(ctx)
}

func (m *migration) check() error {
	mine, ok := m.dst.(*store)
	other, too := m.src.(*store)
	switch {
	case ok && too && mine.engine == other.engine:
		return invalidf("the source and the destination are the same namespace")
	case m.opts.OnConflict < Skip || m.opts.OnConflict > Fail:
		return invalidf("OnConflict is %d; use Skip, Overwrite or Fail", m.opts.OnConflict)
	case m.opts.Mirror && m.opts.OnConflict == Fail:
		return invalidf("Mirror overwrites conflicts, and cannot fail on them")
	case m.opts.TTL < 0:
		return invalidf("the time to live %v is negative; 0 means for ever", m.opts.TTL)
	}
	m.opts.TTL = roundTTL(m.opts.TTL)
	if m.opts.Mirror {
		m.opts.OnConflict = Overwrite
	}
	return nil
}

// copy stores what src has, page by page; the next is read meanwhile.
func (m *migration) copy(ctx context.Context) error {
	for p, err := range readAhead(ctx, m.src, pages(ctx, m.src)) {
		if err != nil {
			return onSide("the source", err)
		}
		if err := m.put(ctx, m.sound(p)); err != nil {
			return onSide("the destination", err)
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

// put stores documents in dst by the rules of conflicts.
func (m *migration) put(ctx context.Context, docs []moved) error {
	fresh := docs
	if m.look || m.opts.DryRun {
		var err error
		if fresh, err = m.settle(ctx, docs, 0); err != nil {
			return err
		}
	}
	m.look = len(fresh) < len(docs)
	if m.opts.DryRun || len(fresh) == 0 {
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
			return nil, &withID{d.id, errors.New("a document with the same id and another value is there; it was left alone, and the copying stopped")}
		}
	}
	m.report.Same += max(same-n, 0)
	if m.opts.DryRun || len(replace) == 0 {
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
	overwrite := m.opts.OnConflict == Overwrite
	switch {
	case errors.Is(theirs.err, ErrNotFound):
		return verdictFresh
	case theirs.err == nil && m.spelling.same(d.value, theirs.value):
		if sameTTL(d.ttl, theirs.ttl, m.opts.TTL) || !expires(m.dst) {
			return verdictSame
		}
		if overwrite {
			return verdictOther
		}
		m.report.TTLKept++
		return verdictSame
	case overwrite:
		return verdictOther
	case m.opts.OnConflict == Fail:
		return verdictFail
	}
	return verdictSkip
}

// fill stores documents, with the time to live that they are to have. To
// insert again after a lost reply is safe here: what is there already is
// compared.
func (m *migration) fill(ctx context.Context, docs []moved, replace bool) (int, error) {
	const attempts = 3
	items := make([]item, len(docs))
	bytes := int64(0)
	for i, d := range docs {
		items[i] = d.item
		if d.ttl == 0 {
			items[i].ttl = m.opts.TTL
		}
		bytes += int64(len(d.value))
	}
	total := 0
	for attempt := 1; ; attempt++ {
		n, err := fill(ctx, m.dst, items, replace)
		total += n
		if err != nil && attempt < attempts && errors.Is(err, ErrOutcomeUnknown) && ctx.Err() == nil {
			continue
		}
		if err == nil {
			m.report.Bytes += bytes
		}
		return total, err
	}
}

// advance reports progress.
func (m *migration) advance(p pageOf) {
	m.progress.Documents += len(p.docs)
	for _, d := range p.docs {
		m.progress.Bytes += int64(len(d.value))
	}
	if m.opts.Progress != nil {
		m.opts.Progress(m.progress)
	}
}
