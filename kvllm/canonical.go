package kvllm

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

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
	if !bytes.ContainsAny(text, ".eE-") && text[len(text)-1] != '0' {
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
