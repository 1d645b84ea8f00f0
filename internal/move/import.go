package move

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// An ImportMode says what is done about documents that are there already. It
// is kvmove.Mode.
type ImportMode int

// The modes, in the order of kvmove's.
const (
	ImportMerge ImportMode = iota
	ImportOverwrite
	ImportReplace
	ImportIfEmpty
)

// An ImportReport is kvmove.ImportReport.
type ImportReport struct {
	Namespace string
	Documents int
	Stored    int
	Skipped   int
	Expired   int
	Removed   int
	Refused   int
	Refusals  []Refusal // the first of them
}

// A Refusal is kvmove.Refusal.
type Refusal struct {
	Place int
	ID    string
	Why   string
}

// aroundValue is what stands around a value in its line or member, at most: an
// id with every byte escaped, and less.
const aroundValue = 6*engine.MaxIDBytes + 1<<10

// An Intake reads a stream and has a loader for each of its namespaces.
type Intake struct {
	lines   *exportReader
	open    func(ctx context.Context, namespace string) (*Side, error) // nil and no error: pass over
	mode    ImportMode
	loaders []*loader
	reading string // the namespace whose turn it is
}

// NewIntake returns one that reads r and stores in what open opens.
func NewIntake(r io.Reader, open func(ctx context.Context, namespace string) (*Side, error), mode ImportMode) *Intake {
	return &Intake{lines: newExportReader(r), open: open, mode: mode}
}

// now is the loader of the namespace that is being read, or nil.
func (in *Intake) now() *loader {
	if len(in.loaders) == 0 {
		return nil
	}
	return in.loaders[len(in.loaders)-1]
}

// Namespace returns the one that is being read or finished, if there is one.
func (in *Intake) Namespace() string { return in.reading }

// Reports returns what became of each namespace so far.
func (in *Intake) Reports() []ImportReport {
	var reports []ImportReport
	for _, l := range in.loaders {
		reports = append(reports, l.report)
	}
	return reports
}

// Run reads the stream to its end.
func (in *Intake) Run(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := in.lines.next()
		if err != nil {
			return err
		}
		switch l := in.now(); {
		case line.Namespace != nil:
			err = in.begin(ctx, *line.Namespace)
		case line.ID != nil && l == nil:
			err = in.lines.corrupt("a document before the first namespace")
		case line.ID != nil && line.tooLong > 0:
			l.pass(in.lines.line, *line.ID, fault.Invalidf("its line has %d bytes; STORAGE_MAX_VALUE_BYTES allows values of %d", line.tooLong, l.max))
		case line.ID != nil:
			err = l.put(ctx, in.lines.line, engine.Item{ID: *line.ID, Value: line.Value}, line.Expires)
		case line.End:
			return in.end(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// begin goes on to another namespace.
func (in *Intake) begin(ctx context.Context, namespace string) error {
	if l := in.now(); l != nil {
		if err := l.finish(ctx); err != nil {
			return err
		}
	}
	in.reading = namespace
	s, err := in.open(ctx, namespace)
	if err != nil {
		return err
	}
	l := newLoader(s, namespace, in.mode)
	in.lines.most = l.max + aroundValue
	in.loaders = append(in.loaders, l)
	return l.check(ctx)
}

// end comes when the stream is known to be whole.
func (in *Intake) end(ctx context.Context) error {
	if l := in.now(); l != nil {
		if err := l.finish(ctx); err != nil {
			return err
		}
	}
	if in.mode != ImportReplace {
		return nil
	}
	for _, l := range in.loaders {
		in.reading = l.report.Namespace
		s, err := in.open(ctx, in.reading)
		if err != nil {
			return err
		}
		if s == nil {
			continue
		}
		l.dst = s
		if err := errors.Join(l.prune(ctx), l.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Close closes what an error has left open.
func (in *Intake) Close() error {
	if l := in.now(); l != nil {
		return l.Close()
	}
	return nil
}

// A loader stores documents in one namespace, many at a time.
type loader struct {
	dst     *Side // nil: the namespace is passed over
	mode    ImportMode
	max     int64 // bytes of a value
	report  ImportReport
	items   []engine.Item // to be stored together
	bytes   int
	seen    map[string]struct{} // ids, for ImportReplace
	unnamed int                 // of the refused ones, those whose id is not known
}

func newLoader(dst *Side, namespace string, mode ImportMode) *loader {
	l := &loader{dst: dst, mode: mode, max: engine.DefaultMaxValueBytes, report: ImportReport{Namespace: namespace}}
	if dst != nil { // What a store of others allows is not known.
		l.max = cmp.Or(dst.MaxValue, engine.LimitMaxValueBytes)
	}
	return l
}

// check refuses a namespace that cannot be written to, or that is not empty and
// has to be.
func (l *loader) check(ctx context.Context) error {
	if l.dst == nil {
		return nil
	}
	if l.dst.Engine != nil {
		if err := l.dst.Begin(ctx, true); err != nil {
			return err
		}
	}
	if l.mode != ImportIfEmpty {
		return nil
	}
	for _, err := range l.dst.Store.Keys(ctx) {
		if err != nil {
			return err
		}
		return fault.Invalidf("there are documents already; import into an empty namespace, or choose another mode")
	}
	return nil
}

// put takes a document. expires is in milliseconds since 1970; 0: never.
func (l *loader) put(ctx context.Context, place int, it engine.Item, expires int64) error {
	if l.dst == nil {
		l.report.Documents++
		return nil
	}
	if err := cmp.Or(engine.CheckID(it.ID), engine.CheckValue(it.ID, it.Value, l.max)); err != nil {
		l.refuse(place, it.ID, err)
		return nil
	}
	l.report.Documents++
	if expires != 0 {
		if it.TTL = time.Until(time.UnixMilli(expires)); it.TTL < time.Millisecond {
			l.report.Expired++
			return nil
		}
	}
	l.see(it.ID)
	l.items = append(l.items, it)
	l.bytes += it.Size()
	if len(l.items) == BulkPage || l.bytes > BulkBytes {
		return l.flush(ctx)
	}
	return nil
}

// pass is put for a document that is too large to be held.
func (l *loader) pass(place int, id string, why error) {
	if l.dst == nil {
		l.report.Documents++
		return
	}
	l.refuse(place, id, why)
}

// refuse leaves a document out, and what there is under its id alone.
func (l *loader) refuse(place int, id string, why error) {
	l.see(id)
	l.report.Refused++
	if len(l.report.Refusals) < listedIDs {
		text := strings.TrimPrefix(why.Error(), fault.ErrInvalid.Error()+": ")
		l.report.Refusals = append(l.report.Refusals, Refusal{Place: place, ID: strings.Clone(id), Why: text})
	}
}

// refuseUnnamed is refuse for a document whose id is not known.
func (l *loader) refuseUnnamed(place int, why error) {
	l.refuse(place, "", why)
	l.unnamed++
}

func (l *loader) see(id string) {
	if l.mode != ImportReplace {
		return
	}
	if l.seen == nil {
		l.seen = make(map[string]struct{})
	}
	l.seen[id] = struct{}{}
}

// flush stores the documents that have been taken.
func (l *loader) flush(ctx context.Context) error {
	if len(l.items) == 0 {
		return nil
	}
	n, err := l.dst.put(ctx, l.items, l.mode == ImportOverwrite || l.mode == ImportReplace)
	l.report.Stored += n
	if err != nil {
		return err
	}
	l.report.Skipped += len(l.items) - n
	l.items, l.bytes = l.items[:0], 0
	return nil
}

// finish stores the last documents and closes the store.
func (l *loader) finish(ctx context.Context) error {
	if err := l.flush(ctx); err != nil {
		return err
	}
	return l.Close()
}

func (l *loader) Close() error {
	if l.dst == nil {
		return nil
	}
	s := l.dst.Store
	l.dst = nil
	return s.Close()
}

// prune removes the documents that were not taken.
func (l *loader) prune(ctx context.Context) error {
	if l.unnamed > 0 {
		return fault.Invalidf("%d documents of the import have no id, so that it is not known which of those that are there it lacks; none was removed", l.unnamed)
	}
	for ids, err := range l.dst.Pages(ctx) {
		if err != nil {
			return err
		}
		others := ids[:0]
		for _, id := range ids {
			if _, ok := l.seen[id]; !ok {
				others = append(others, id)
			}
		}
		n, err := l.dst.Store.Delete(ctx, others...)
		l.report.Removed += n
		if err != nil {
			return err
		}
	}
	return nil
}
