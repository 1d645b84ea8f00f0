package move

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"
	"unicode/utf8"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// An ImportMode says what is done about documents that are there already. It
// is kv.ImportMode.
type ImportMode int

// The modes, in the order of kv's.
const (
	ImportMerge ImportMode = iota
	ImportOverwrite
	ImportReplace
	ImportIfEmpty
)

// An ImportReport is kv.ImportReport.
type ImportReport struct {
	Namespace string
	Documents int
	Stored    int
	Skipped   int
	Expired   int
	Removed   int
}

// maxLine bounds a line of a stream: a value and an id at their limits, the id
// with every byte escaped.
const maxLine = engine.LimitMaxValueBytes + 6*engine.MaxIDBytes + 1<<10

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
		case line.ID != nil:
			err = l.put(ctx, engine.Item{ID: *line.ID, Value: line.Value}, line.Expires)
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
		if err := l.prune(ctx); err != nil {
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
	dst    *Side // nil: the namespace is passed over
	mode   ImportMode
	report ImportReport
	items  []engine.Item // to be stored together
	bytes  int
	seen   map[string]struct{} // ids, for ImportReplace
}

func newLoader(dst *Side, namespace string, mode ImportMode) *loader {
	return &loader{dst: dst, mode: mode, report: ImportReport{Namespace: namespace}}
}

// check refuses a namespace that is not empty, if it has to be.
func (l *loader) check(ctx context.Context) error {
	if l.dst == nil || l.mode != ImportIfEmpty {
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
func (l *loader) put(ctx context.Context, it engine.Item, expires int64) error {
	l.report.Documents++
	if l.dst == nil {
		return nil
	}
	if expires != 0 {
		if it.TTL = time.Until(time.UnixMilli(expires)); it.TTL < time.Millisecond {
			l.report.Expired++
			return nil
		}
	}
	if l.mode == ImportReplace {
		if l.seen == nil {
			l.seen = make(map[string]struct{})
		}
		l.seen[it.ID] = struct{}{}
	}
	l.items = append(l.items, it)
	l.bytes += it.Size()
	if len(l.items) == BulkPage || l.bytes > BulkBytes {
		return l.flush(ctx)
	}
	return nil
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
	for ids, err := range l.dst.Pages(ctx) {
		if err != nil {
			return errors.Join(err, l.Close())
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
			return errors.Join(err, l.Close())
		}
	}
	return l.Close()
}

// An exportLine is any line of a stream; which, is told by what it has.
type exportLine struct {
	KV        string          `json:"kv"`
	Version   int             `json:"version"`
	Namespace *string         `json:"namespace"`
	ID        *string         `json:"id"`
	Expires   int64           `json:"expires"`
	Value     json.RawMessage `json:"value"`
	End       bool            `json:"end"`
	Documents int             `json:"documents"`
	SHA256    string          `json:"sha256"`
}

// An exportReader reads the lines of a stream and compares their checksums.
type exportReader struct {
	in        *bufio.Reader
	sum       hash.Hash
	buf       []byte
	line      int
	documents int
}

func newExportReader(r io.Reader) *exportReader {
	return &exportReader{in: bufio.NewReaderSize(r, 256<<10), sum: sha256.New()}
}

// next returns the next line. The last one has End set, and has been compared
// with all that came before.
func (e *exportReader) next() (exportLine, error) {
	var l exportLine
	if err := e.read(); err != nil {
		return l, err
	}
	body, ok := bytes.CutSuffix(e.buf, []byte(sumEnd))
	at := len(body) - 8
	if !ok || at < len(sumMark) || string(body[at-len(sumMark):at]) != sumMark {
		if e.line == 1 {
			return l, e.corrupt("this is not an export of kv")
		}
		return l, e.corrupt("the checksum is missing")
	}
	text := body[:at-len(sumMark)]
	if string(body[at:]) != fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)) {
		return l, e.corrupt("the checksum is wrong")
	}
	if !utf8.Valid(text) || json.Unmarshal(e.buf, &l) != nil {
		return l, e.corrupt("the line is not as Export writes it")
	}
	switch {
	case e.line == 1 && l.KV != "export":
		return l, e.corrupt("this is not an export of kv")
	case e.line == 1 && l.Version != exportVersion:
		return l, e.corrupt(fmt.Sprintf("version %d of the format is not known; use a newer kv", l.Version))
	case l.ID != nil:
		e.documents++
	case l.End && l.SHA256 != hex.EncodeToString(e.sum.Sum(nil)), l.End && l.Documents != e.documents:
		return l, e.corrupt("the checksum of the whole is wrong: lines are missing or have been added")
	}
	_, _ = e.sum.Write(e.buf) // A hash returns no error.
	return l, nil
}

// read reads a line into buf.
func (e *exportReader) read() error {
	e.line++
	e.buf = e.buf[:0]
	for {
		part, err := e.in.ReadSlice('\n')
		e.buf = append(e.buf, part...)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, io.EOF):
			return e.corrupt("the stream ends here and is not complete")
		case !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("line %d: %w", e.line, err)
		case len(e.buf) > maxLine:
			return e.corrupt("the line is too long")
		}
	}
}

func (e *exportReader) corrupt(what string) error {
	return fmt.Errorf("%w: line %d: %s", fault.ErrCorrupt, e.line, what)
}
