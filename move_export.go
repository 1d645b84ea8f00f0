package kv

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

// An exportReport is kv.ExportReport.
type exportReport struct {
	Namespace string
	Documents int
	Bytes     int64
	Refused   []string
}

// An exporter writes the lines of a stream.
type exporter struct {
	out       *bufio.Writer
	sum       hash.Hash
	documents int
	buf       []byte
}

func newExporter(w io.Writer) *exporter {
	sum := sha256.New()
	return &exporter{out: bufio.NewWriterSize(io.MultiWriter(w, sum), 256<<10), sum: sum}
}

// begin writes the first line.
func (e *exporter) begin() error {
	return e.line(`{"kv":"export","version":%d,"created":%q`, exportVersion, time.Now().UTC().Format(time.RFC3339))
}

// namespace writes all documents of s.
func (e *exporter) namespace(ctx context.Context, namespace string, s *side) (exportReport, error) {
	r := exportReport{Namespace: namespace, Refused: []string{}}
	if err := e.line(`{"namespace":%q`, namespace); err != nil {
		return r, err
	}
	for p, err := range readAhead(ctx, s, s.pages(ctx)) {
		if err != nil {
			return r, err
		}
		for _, d := range p.docs {
			switch {
			case errors.Is(d.err, ErrCorrupt):
				r.Refused = append(r.Refused, d.id)
			case d.err == nil:
				// What reads the stream may keep it waiting for long.
				if err := e.document(d.item, p.at); err != nil {
					return r, err
				}
				r.Documents++
				r.Bytes += int64(d.size())
			}
		}
	}
	return r, nil
}

// document writes a document whose time to live counts from the time read.
func (e *exporter) document(it item, read time.Time) error {
	e.buf = append(e.buf[:0], `{"id":`...)
	e.buf = jsonscan.AppendString(e.buf, it.id)
	if it.expires() {
		e.buf = append(e.buf, `,"expires":`...)
		e.buf = strconv.AppendInt(e.buf, read.Add(it.ttl).UnixMilli(), 10)
	}
	e.buf = append(e.buf, `,"value":`...)
	e.buf = jsonscan.AppendCompact(e.buf, it.value)
	e.documents++
	return e.finish()
}

// line writes a line that has no document. Its format leaves the object open.
func (e *exporter) line(format string, args ...any) error {
	e.buf = fmt.Appendf(e.buf[:0], format, args...)
	return e.finish()
}

// finish writes the line that has been begun, with its checksum.
func (e *exporter) finish() error {
	sum := crc32.Checksum(e.buf, castagnoli)
	e.buf = fmt.Appendf(append(e.buf, sumMark...), "%08x%s", sum, sumEnd)
	_, err := e.out.Write(e.buf)
	return err
}

// end writes the last line.
func (e *exporter) end() error {
	if err := e.out.Flush(); err != nil {
		return err
	}
	total := hex.EncodeToString(e.sum.Sum(nil))
	if err := e.line(`{"end":true,"documents":%d,"sha256":%q`, e.documents, total); err != nil {
		return err
	}
	return e.out.Flush()
}
