package kvllm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/ngraf/kv"
)

// formatVersion is that of stored answers.
const formatVersion = 1

// A document is what is stored under an id: an answer of ours,
//
//	{"kvllm":{"v":1,"operation":"chat","model":"…",…},"body":"…"}
//
// with the body as it came in one string, or one of nano-graphrag's,
//
//	{"return":"…","model":"…"}
type document struct {
	raw json.RawMessage
}

// stored is the head of a document of ours.
type stored struct {
	Version int `json:"v"`
	*Answer
}

// MarshalJSON returns the document as it is to be stored.
func (d document) MarshalJSON() ([]byte, error) { return d.raw, nil }

// UnmarshalJSON takes any document.
func (d *document) UnmarshalJSON(b []byte) error {
	d.raw = bytes.Clone(b)
	return nil
}

// documentOf returns the document of an answer with this body.
func documentOf(a *Answer, body []byte) (json.RawMessage, error) {
	head, err := json.Marshal(stored{formatVersion, a})
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 0, len(head)+len(body)+len(body)/8+64)
	raw = append(raw, `{"kvllm":`...)
	raw = append(raw, head...)
	raw = append(raw, `,"body":"`...)
	raw = appendEscaped(raw, body)
	return append(raw, `"}`...), nil
}

// pythonDocument returns the document of an answer that nano-graphrag shares.
func pythonDocument(text, model string) (json.RawMessage, error) {
	if !utf8.ValidString(text) {
		return nil, errForeign
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(CachedAnswer{text, model})
	return b.Bytes(), err
}

var errForeign = errors.New("the document is no answer of a model")

// ParseAnswer returns the answer that a document of a store holds: one that a
// Transport has stored, or one of nano-graphrag's, of which only Model and the
// text are known. The error for any other document matches [kv.ErrCorrupt].
// The answer keeps doc, which must not change.
func ParseAnswer(doc json.RawMessage) (*Answer, error) {
	a, err := parseOurs(doc)
	if err != nil {
		a, err = parsePython(doc)
	}
	if err != nil {
		return nil, fmt.Errorf("kvllm: %w: %w", kv.ErrCorrupt, err)
	}
	return a, nil
}

// parseOurs reads the head, and finds the body without reading it.
func parseOurs(doc json.RawMessage) (*Answer, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	if !nextIs(dec, json.Delim('{')) || !nextIs(dec, "kvllm") {
		return nil, errForeign
	}
	a := new(Answer)
	head := stored{Answer: a}
	if err := dec.Decode(&head); err != nil || head.Version != formatVersion || !nextIs(dec, "body") {
		return nil, errForeign
	}
	if wires[a.Operation] == nil || a.Status < 200 || a.Status >= 300 {
		return nil, errForeign
	}
	rest := doc[dec.InputOffset():]
	from := bytes.IndexByte(rest, '"')
	to := bytes.LastIndexByte(rest, '"')
	if from < 0 || from == to || string(bytes.TrimSpace(rest[to+1:])) != "}" || string(bytes.TrimSpace(rest[:from])) != ":" {
		return nil, errForeign
	}
	a.Complete = true
	a.body = func() io.Reader { return newUnescaper(rest[from : to+1]) }
	return a, nil
}

func nextIs(dec *json.Decoder, want json.Token) bool {
	got, err := dec.Token()
	return err == nil && got == want
}

func parsePython(doc json.RawMessage) (*Answer, error) {
	var theirs struct{ Return, Model *string }
	if err := json.Unmarshal(doc, &theirs); err != nil || theirs.Return == nil || theirs.Model == nil {
		return nil, errForeign
	}
	body, err := completionOf(*theirs.Return, *theirs.Model)
	if err != nil {
		return nil, err
	}
	return &Answer{
		Operation: opChat, Model: *theirs.Model, Status: 200, ContentType: "application/json",
		Size: int64(len(body)), Finish: "stop", Complete: true,
		body: func() io.Reader { return bytes.NewReader(body) },
	}, nil
}

// An unescaper reads the text that a JSON string stands for. It needs no
// memory for it.
type unescaper struct {
	rest    []byte // of the string, its last quote included
	pending []byte // of a character that was too long
	room    [utf8.UTFMax]byte
}

// newUnescaper takes a string with its quotes.
func newUnescaper(quoted []byte) *unescaper { return &unescaper{rest: quoted[1:]} }

func (u *unescaper) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(u.pending) > 0 {
			m := copy(p[n:], u.pending)
			u.pending = u.pending[m:]
			n += m
			continue
		}
		part := u.rest[:min(len(u.rest), len(p)-n)]
		if i := bytes.IndexByte(part, '\\'); i >= 0 {
			part = part[:i]
		}
		if i := bytes.IndexByte(part, '"'); i >= 0 {
			part = part[:i]
		}
		n += copy(p[n:], part)
		u.rest = u.rest[len(part):]
		switch {
		case n == len(p):
		case len(u.rest) == 0:
			return n, io.ErrUnexpectedEOF
		case u.rest[0] == '"':
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil
		default:
			size := escapeLength(u.rest)
			if size == 0 {
				return n, io.ErrUnexpectedEOF
			}
			r, size := unescape(u.rest)
			u.pending = utf8.AppendRune(u.room[:0], r)
			u.rest = u.rest[size:]
		}
	}
	return n, nil
}

// A pacer reads a body at the pace at which it came.
type pacer struct {
	from  io.Reader
	steps []int // bytes and the milliseconds before they came, in turn
	left  int   // bytes of the current step
	sleep func(time.Duration) error
}

func (p *pacer) Read(b []byte) (int, error) {
	for p.left == 0 && len(p.steps) > 1 {
		if err := p.sleep(time.Duration(p.steps[1]) * time.Millisecond); err != nil {
			return 0, err
		}
		p.left, p.steps = p.steps[0], p.steps[2:]
	}
	if p.left > 0 {
		b = b[:min(len(b), p.left)]
	}
	n, err := p.from.Read(b)
	p.left = max(p.left-n, 0)
	return n, err
}

// stepsMost bounds how many steps of its pace are kept with an answer.
const stepsMost = 20_000

// A clock notes when the parts of a body come.
type clock struct {
	last  time.Time
	steps []int
}

func (c *clock) came(n int) {
	now := time.Now()
	wait := int(now.Sub(c.last).Milliseconds())
	if len(c.steps) > 0 && (wait == 0 || len(c.steps) >= stepsMost) {
		c.steps[len(c.steps)-2] += n
		return
	}
	c.last = now
	c.steps = append(c.steps, n, wait)
}
