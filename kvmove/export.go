package kvmove

import (
	"context"
	"io"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/move"
)

// An Opener opens a namespace, as [kv.Factory.Open] does. What it returns is
// closed by the function that it was given to.
type Opener func(ctx context.Context, namespace string) (kv.Store, error)

// An ExportReport says what became of one namespace.
type ExportReport struct {
	Namespace string   `json:"namespace"`
	Documents int      `json:"documents"` // written
	Bytes     int64    `json:"bytes"`     // of these, ids and values
	Refused   []string `json:"refused"`   // ids whose value is not JSON; they are left out
}

// Export writes the documents of namespaces to w, with the moments at which
// they expire, in the order in which Keys lists them. Values that are not JSON
// are left out and reported. What is written to a namespace meanwhile may or
// may not be seen; each document is whole. The reports are those of the
// namespaces that are complete. Nothing is buffered after it returns. Memory is
// bounded by some pages of about 8 MiB, or a few values where they are larger.
func Export(ctx context.Context, w io.Writer, open Opener, namespaces ...string) ([]ExportReport, error) {
	e := move.NewExporter(w)
	var reports []ExportReport
	if err := e.Begin(); err != nil {
		return nil, failedStream("export", "", err)
	}
	for _, namespace := range namespaces {
		s, err := open(ctx, namespace)
		if err != nil {
			return reports, failedStream("export", namespace, err)
		}
		report, err := e.Namespace(ctx, namespace, sideOf(s))
		if err := both(err, s.Close()); err != nil {
			return reports, failedStream("export", namespace, err)
		}
		reports = append(reports, ExportReport(report))
	}
	if err := e.End(); err != nil {
		return reports, failedStream("export", "", err)
	}
	return reports, nil
}

// A Mode says what [Import] does about documents that are there already.
type Mode int

const (
	Merge     Mode = iota // they stay; only absent ids are stored
	MergeOver             // those in the stream replace them, others stay
	Replace               // as overwrite, and those that are not in the stream are removed at the end
	IfEmpty               // the import fails, before it has written anything, if there is one
)

// An ImportReport says what became of one namespace.
type ImportReport struct {
	Namespace string `json:"namespace"`
	Documents int    `json:"documents"` // in the stream, without those of Refused
	Stored    int    `json:"stored"`
	Skipped   int    `json:"skipped"` // were there already
	Expired   int    `json:"expired"` // had no time left to live
	Removed   int    `json:"removed"` // were not in the stream; see Replace
	Refused   int    `json:"refused"` // cannot be stored; what is there under their ids stays

	Refusals []Refusal `json:"refusals,omitempty"` // the first 1,000 of Refused
}

// A Refusal says which document of a stream was left out: one that is over
// [kv.Config].MaxValueBytes or another limit of the contract, or what is no
// JSON or has no id in an export of nano-graphrag.
type Refusal struct {
	// Place is the line in a stream of Export, counted from 1, and the element
	// or member in an export of nano-graphrag, from 0.
	Place int    `json:"place"`
	ID    string `json:"id,omitempty"` // empty if it is not known, too
	Why   string `json:"why"`          // without ids and values
}

// VerifyExport reads a stream that Export wrote to its end, and returns what
// is in it. The error matches [kv.ErrCorrupt], and names the line, if a checksum is
// wrong or the stream is not complete.
func VerifyExport(ctx context.Context, r io.Reader) ([]ImportReport, error) {
	return Import(ctx, r, func(context.Context, string) (kv.Store, error) { return nil, nil }, Merge)
}

// Import stores the documents of a stream that [Export] wrote, with what is
// left of their times to live. Every namespace is opened by open; where that
// returns no store and no error, the namespace is read and passed over.
//
// The checksum of a line is compared before its document is stored, that of
// the whole at the end. A caller who wants to know that the stream is good
// before anything is written calls [VerifyExport] first. A stream that is
// damaged is an error that matches [kv.ErrCorrupt] and names the line; the reports
// say what was stored before. Repeating an Import is safe.
func Import(ctx context.Context, r io.Reader, open Opener, mode Mode) ([]ImportReport, error) {
	in := move.NewIntake(r, func(ctx context.Context, namespace string) (*move.Side, error) {
		s, err := open(ctx, namespace)
		return sideOf(s), err
	}, move.ImportMode(mode))
	err := in.Run(ctx)
	var reports []ImportReport
	for _, report := range in.Reports() {
		reports = append(reports, imported(report))
	}
	return reports, failedStream("import", in.Namespace(), both(err, in.Close()))
}

// ImportPython stores the documents of an export of one namespace that
// nano-graphrag's backup wrote (kv/<namespace>.json in an .ngbak archive).
//
// Exports from Redis are an object, id to value. Exports from JSON files are
// an array without ids; there the namespace tells how the original computes
// them: of full_docs and text_chunks from the content, of community_reports
// from the title. Those of other namespaces, of the LLM cache above all,
// cannot be had from the value; such elements are refused, and with Replace
// nothing is then removed, and the error matches [kv.ErrInvalid].
// Times to live are not in these exports: every document gets that of its
// namespace, as with Upsert. If dst is nil and mode is Merge, nothing is
// stored, and the report says what there is.
//
// Format: nano_graphrag/backup/exporters/kv_exporter.py.
func ImportPython(ctx context.Context, r io.Reader, dst kv.Store, namespace string, mode Mode) (ImportReport, error) {
	report, err := move.ImportPython(ctx, r, sideOf(dst), namespace, move.ImportMode(mode))
	return imported(report), failedStream("import", namespace, err)
}

// imported is the report of an import as callers know it.
func imported(r move.ImportReport) ImportReport {
	report := ImportReport{
		Namespace: r.Namespace,
		Documents: r.Documents,
		Stored:    r.Stored,
		Skipped:   r.Skipped,
		Expired:   r.Expired,
		Removed:   r.Removed,
		Refused:   r.Refused,
	}
	for _, refusal := range r.Refusals {
		report.Refusals = append(report.Refusals, Refusal(refusal))
	}
	return report
}
