package kvllm

import (
	"bytes"
	"slices"
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

// parseBody returns nil if a text is not one JSON object in UTF-8.
func parseBody(text []byte) *body {
	s := scanner{text: text}
	s.space()
	if s.peek() != '{' || !s.value(0) {
		return nil
	}
	if s.space(); s.at != len(text) || !utf8.Valid(text) {
		return nil
	}
	return &body{text, s.objects}
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
