package kvllm

import (
	"bytes"
	"strings"
)

// A form is how a body is to be read.
type form int

const (
	whole  form = iota // one JSON text
	events             // server-sent events
	rows               // one JSON text a line
)

// formOf returns the form that a Content-Type stands for.
func formOf(contentType string) form {
	kind, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "text/event-stream":
		return events
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return rows
	}
	return whole
}

// A lineReader cuts what comes into lines, which end with LF, CR LF or CR.
type lineReader struct {
	part []byte // of a line that has not ended
	cr   bool   // the last byte was a CR
}

func (l *lineReader) read(b []byte, do func(line []byte)) {
	for len(b) > 0 {
		if l.cr {
			l.cr = false
			if b[0] == '\n' {
				b = b[1:]
				continue
			}
		}
		n := bytes.IndexAny(b, "\r\n")
		if n < 0 {
			l.part = append(l.part, b...)
			return
		}
		line := b[:n]
		if len(l.part) > 0 {
			l.part = append(l.part, line...)
			line = l.part
		}
		l.cr = b[n] == '\r'
		b = b[n+1:]
		do(line)
		l.part = l.part[:0]
	}
}

// An eventReader reads server-sent events as the HTML standard has them
// (section 9.2.6): data on several lines is put together, and counts when an
// empty line comes. Other fields say nothing here.
type eventReader struct {
	lines lineReader
	begun bool // with a byte order mark or without
	data  []byte
	any   bool // there is data
}

func (e *eventReader) read(b []byte, do func(data []byte)) {
	e.lines.read(b, func(line []byte) {
		if !e.begun {
			e.begun = true
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(line) == 0 {
			if e.any {
				do(e.data)
			}
			e.data, e.any = e.data[:0], false
			return
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(name) != "data" {
			return
		}
		if e.any {
			e.data = append(e.data, '\n')
		}
		e.data = append(e.data, bytes.TrimPrefix(value, []byte(" "))...)
		e.any = true
	})
}
