package kvllm

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// deepest is how far a body may be nested.
const deepest = 512

// A body is the text of a request, a JSON object (RFC 8259) that has been
// checked and whose objects are known.
type body struct {
	text    []byte
	objects []object // in the order in which they begin
}

// An object is one of a body's. Those within it follow it.
type object struct {
	members []member
	size    int // itself and the objects within it
}

// A member of an object.
type member struct {
	name, value span
	first       int // the first object of the value, if it has one
}

// A span is a part of a text.
type span struct{ from, to int }

func (b *body) part(s span) []byte { return b.text[s.from:s.to] }

// member returns the value of a member of the body, nil if there is none. Of
// several the last counts, as for most readers of JSON.
func (b *body) member(name string) []byte {
	for _, m := range slices.Backward(b.objects[0].members) {
		if string(b.spelled(m.name)) == name {
			return b.part(m.value)
		}
	}
	return nil
}

var errNotJSON = errors.New("not one JSON object in UTF-8")

// parseBody checks that a text is one JSON object.
func parseBody(text []byte) (*body, error) {
	s := scanner{text: text}
	s.space()
	if s.peek() != '{' || !s.value(0) {
		return nil, errNotJSON
	}
	if s.space(); s.at != len(text) || !utf8.Valid(text) {
		return nil, errNotJSON
	}
	return &body{text, s.objects}, nil
}

// A scanner checks a text from its beginning.
type scanner struct {
	text    []byte
	at      int
	objects []object
	open    []member // of objects that have not ended
}

func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) next(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) space() {
	for s.at < len(s.text) && isSpace(s.text[s.at]) {
		s.at++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func (s *scanner) value(depth int) bool {
	switch c := s.peek(); {
	case depth >= deepest:
		return false
	case c == '{':
		return s.object(depth)
	case c == '[':
		return s.array(depth)
	case c == '"':
		return s.str()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.number()
}

func (s *scanner) literal(word string) bool {
	ok := bytes.HasPrefix(s.text[s.at:], []byte(word))
	s.at += len(word)
	return ok
}

func (s *scanner) object(depth int) bool {
	own, base := len(s.objects), len(s.open)
	s.objects = append(s.objects, object{})
	s.at++
	for s.space(); s.peek() != '}'; s.space() {
		if len(s.open) > base {
			if !s.next(',') {
				return false
			}
			s.space()
		}
		m := member{name: span{from: s.at + 1}}
		if !s.str() {
			return false
		}
		m.name.to = s.at - 1
		if s.space(); !s.next(':') {
			return false
		}
		s.space()
		m.value.from, m.first = s.at, len(s.objects)
		if !s.value(depth + 1) {
			return false
		}
		m.value.to = s.at
		s.open = append(s.open, m)
	}
	s.at++
	s.objects[own] = object{slices.Clone(s.open[base:]), len(s.objects) - own}
	s.open = s.open[:base]
	return true
}

func (s *scanner) array(depth int) bool {
	s.at++
	s.space()
	if s.next(']') {
		return true
	}
	for {
		if !s.value(depth + 1) {
			return false
		}
		s.space()
		if s.next(']') {
			return true
		}
		if !s.next(',') {
			return false
		}
		s.space()
	}
}

func (s *scanner) str() bool {
	if !s.next('"') {
		return false
	}
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return true
		case c < ' ':
			return false
		case c == '\\':
			n := escapeLength(s.text[s.at:])
			if n == 0 {
				return false
			}
			s.at += n
		default:
			s.at++
		}
	}
	return false
}

// escapeLength returns how long the escape is with which b begins, 0 if it is
// none.
func escapeLength(b []byte) int {
	switch {
	case len(b) < 2:
		return 0
	case b[1] == 'u' && codeUnit(b) >= 0:
		return 6
	case bytes.IndexByte([]byte(`"\/bfnrt`), b[1]) >= 0:
		return 2
	}
	return 0
}

// codeUnit returns the number in an escape \uXXXX, -1 if b does not begin with
// one.
func codeUnit(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	n := rune(0)
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			n = n<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return n
}

func (s *scanner) number() bool {
	s.next('-')
	if !s.next('0') && !s.digits() {
		return false
	}
	if s.next('.') && !s.digits() {
		return false
	}
	if s.next('e') || s.next('E') {
		if !s.next('-') {
			s.next('+')
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	from := s.at
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.at++
	}
	return s.at > from
}

// A canon writes a body in the one spelling that all texts share which mean
// the same: without white space, members sorted by name, each string with the
// fewest escapes, each number as digits and a power of ten. No two texts that
// differ in anything else have one spelling.
type canon struct {
	*body
	to  io.Writer
	buf []byte // what is still to be written
	obj int    // the next object
}

// writeCanonical writes the body, without those of its own members that skip
// names.
func (b *body) writeCanonical(to io.Writer, skip string) {
	c := canon{body: b, to: to, buf: make([]byte, 0, 1024)}
	c.object(skip)
	c.flush()
}

func (c *canon) flush() {
	_, _ = c.to.Write(c.buf) // To memory.
	c.buf = c.buf[:0]
}

func (c *canon) append(b []byte) {
	if len(c.buf)+len(b) > cap(c.buf) {
		c.flush()
	}
	if len(b) > cap(c.buf) {
		_, _ = c.to.Write(b)
		return
	}
	c.buf = append(c.buf, b...)
}

func (c *canon) byte(b byte) {
	if len(c.buf) == cap(c.buf) {
		c.flush()
	}
	c.buf = append(c.buf, b)
}

func (c *canon) object(skip string) {
	o := c.objects[c.obj]
	end := c.obj + o.size
	slices.SortStableFunc(o.members, func(a, b member) int {
		return bytes.Compare(c.spelled(a.name), c.spelled(b.name))
	})
	c.byte('{')
	comma := false
	for _, m := range o.members {
		name := c.spelled(m.name)
		if skip != "" && string(name) == skip {
			continue
		}
		if comma {
			c.byte(',')
		}
		comma = true
		c.byte('"')
		c.append(name)
		c.append([]byte(`":`))
		c.obj = m.first
		c.value(m.value)
	}
	c.byte('}')
	c.obj = end
}

// value writes a part of the text that is one value, objects apart.
func (c *canon) value(s span) {
	for s.from < s.to {
		switch b := c.text[s.from]; {
		case isSpace(b):
			s.from++
		case b == '{':
			from, n := s.from, c.obj
			c.object("")
			s.from = c.endOf(n, from)
		case b == '"':
			to := endOfString(c.text, s.from)
			c.byte('"')
			c.append(c.spelled(span{s.from + 1, to - 1}))
			c.byte('"')
			s.from = to
		case b == '-' || '0' <= b && b <= '9':
			to := s.from
			for to < s.to && bytes.IndexByte([]byte("+-.eE0123456789"), c.text[to]) >= 0 {
				to++
			}
			c.append(spelledNumber(c.text[s.from:to]))
			s.from = to
		default:
			c.byte(b)
			s.from++
		}
	}
}

// endOf returns where the object n ends, which begins at from.
func (c *canon) endOf(n, from int) int {
	at := from + 1
	for _, m := range c.objects[n].members {
		at = max(at, m.value.to)
	}
	return at + bytes.IndexByte(c.text[at:], '}') + 1
}

// endOfString returns where a string ends that begins at from.
func endOfString(text []byte, from int) int {
	for at := from + 1; ; at++ {
		switch text[at] {
		case '"':
			return at + 1
		case '\\':
			at++
		}
	}
}

// spelled returns a string, without its quotes, with the fewest escapes.
func (b *body) spelled(s span) []byte {
	text := b.part(s)
	n := bytes.IndexByte(text, '\\')
	if n < 0 {
		return text
	}
	out := make([]byte, 0, len(text))
	for ; n >= 0; n = bytes.IndexByte(text, '\\') {
		out = append(out, text[:n]...)
		r, size := unescape(text[n:])
		text = text[n+size:]
		if utf16.IsSurrogate(r) { // A lone one, for which there is no other spelling.
			out = append(out, `\u`...)
			out = append(out, strconv.FormatInt(int64(r), 16)...)
			continue
		}
		out = appendEscaped(out, utf8.AppendRune(nil, r))
	}
	return append(out, text...)
}

// unescape returns the character of the escape with which b begins, and how
// long that is: twelve bytes for a pair of surrogates. A lone surrogate comes
// as itself.
func unescape(b []byte) (rune, int) {
	if r := codeUnit(b); r >= 0 {
		if pair := utf16.DecodeRune(r, codeUnit(b[6:])); pair != utf8.RuneError {
			return pair, 12
		}
		return r, 6
	}
	switch b[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	return rune(b[1]), 2
}

// appendEscaped appends text as it stands in a JSON string, with the fewest
// escapes.
func appendEscaped(dst, text []byte) []byte {
	from := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			const digits = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xf])
		}
	}
	return append(dst, text[from:]...)
}

// spelledNumber returns a number as digits and a power of ten, so that 1, 1.0
// and 10e-1 are one. An exponent that no machine computes with stays as it is.
func spelledNumber(text []byte) []byte {
	if bytes.IndexAny(text, ".eE-") < 0 && text[len(text)-1] != '0' {
		return text
	}
	digits, exp, _ := bytes.Cut(bytes.ToLower(text), []byte("e"))
	whole, fraction, _ := bytes.Cut(digits, []byte("."))
	power := 0
	if len(exp) > 0 {
		n, err := strconv.Atoi(string(exp))
		if err != nil || n > 1e9 || n < -1e9 {
			return text
		}
		power = n
	}
	sign := bytes.HasPrefix(whole, []byte("-"))
	all := append(bytes.TrimPrefix(bytes.Clone(whole), []byte("-")), fraction...)
	power -= len(fraction)
	all = bytes.TrimLeft(all, "0")
	short := bytes.TrimRight(all, "0")
	if len(short) == 0 {
		return []byte("0")
	}
	power += len(all) - len(short)
	out := make([]byte, 0, len(short)+8)
	if sign {
		out = append(out, '-')
	}
	out = append(out, short...)
	if power != 0 {
		out = append(out, 'e')
		out = strconv.AppendInt(out, int64(power), 10)
	}
	return out
}
