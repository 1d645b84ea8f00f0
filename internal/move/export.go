package move

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strconv"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonscan"
)

// The stream that Export writes is NDJSON: one JSON object a line, each line
// ended by a line feed. The first is a header, and one names a namespace
// before its documents:
//
//	{"kv":"export","version":1,"created":"2026-11-22T21:50:00Z","sum":"…"}
//	{"namespace":"llm_response_cache","sum":"…"}
//	{"id":"…","expires":1795395000000,"value":{…},"sum":"…"}
//	{"end":true,"documents":1,"sha256":"…","sum":"…"}
//
// A value is compact, with its numbers, escapes and order of members as they
// were stored. expires is in milliseconds since 1970, and is left out for what
// lives for ever. sum, always last, is the CRC-32C of the line before it, so
// that the place of damage is known; sha256, in the last line, is that of all
// bytes before that line. A stream without it is not complete.
const exportVersion = 1

// sumMark stands before the checksum of a line, and sumEnd after it.
const (
	sumMark = `,"sum":"`
	sumEnd  = "\"}\n"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An ExportReport is kv.ExportReport.
type ExportReport struct {
	Namespace string
	Documents int
	Bytes     int64
	Refused   []string
}

// An Exporter writes the lines of a stream.
type Exporter struct {
	out       *bufio.Writer
	sum       hash.Hash
	Documents int
	buf       []byte
}

// NewExporter returns one that writes to w.
func NewExporter(w io.Writer) *Exporter {
	sum := sha256.New()
	return &Exporter{out: bufio.NewWriterSize(io.MultiWriter(w, sum), 256<<10), sum: sum}
}

// Begin writes the first line.
func (e *Exporter) Begin() error {
	return e.Line(`{"kv":"export","version":%d,"created":%q`, exportVersion, time.Now().UTC().Format(time.RFC3339))
}

// Namespace writes all documents of s.
func (e *Exporter) Namespace(ctx context.Context, namespace string, s *Side) (ExportReport, error) {
	r := ExportReport{Namespace: namespace, Refused: []string{}}
	if err := e.Line(`{"namespace":%q`, namespace); err != nil {
		return r, err
	}
	for p, err := range readAhead(ctx, s, s.Pages(ctx)) {
		if err != nil {
			return r, err
		}
		for _, d := range p.Docs {
			switch {
			case errors.Is(d.Err, fault.ErrCorrupt):
				r.Refused = append(r.Refused, d.ID)
			case d.Err == nil:
				// What reads the stream may keep it waiting for long.
				if err := e.Document(d.Item, p.At); err != nil {
					return r, err
				}
				r.Documents++
				r.Bytes += int64(d.Size())
			}
		}
	}
	return r, nil
}

// Document writes a document whose time to live counts from the time read.
func (e *Exporter) Document(it engine.Item, read time.Time) error {
	e.buf = append(e.buf[:0], `{"id":`...)
	e.buf = jsonscan.AppendString(e.buf, it.ID)
	if it.Expires() {
		e.buf = append(e.buf, `,"expires":`...)
		e.buf = strconv.AppendInt(e.buf, read.Add(it.TTL).UnixMilli(), 10)
	}
	e.buf = append(e.buf, `,"value":`...)
	e.buf = jsonscan.AppendCompact(e.buf, it.Value)
	e.Documents++
	return e.finish()
}

// Line writes a line that has no document. Its format leaves the object open.
func (e *Exporter) Line(format string, args ...any) error {
	e.buf = fmt.Appendf(e.buf[:0], format, args...)
	return e.finish()
}

// finish writes the line that has been begun, with its checksum.
func (e *Exporter) finish() error {
	sum := crc32.Checksum(e.buf, castagnoli)
	e.buf = fmt.Appendf(append(e.buf, sumMark...), "%08x%s", sum, sumEnd)
	_, err := e.out.Write(e.buf)
	return err
}

// End writes the last line.
func (e *Exporter) End() error {
	if err := e.out.Flush(); err != nil {
		return err
	}
	total := hex.EncodeToString(e.sum.Sum(nil))
	if err := e.Line(`{"end":true,"documents":%d,"sha256":%q`, e.Documents, total); err != nil {
		return err
	}
	return e.out.Flush()
}
