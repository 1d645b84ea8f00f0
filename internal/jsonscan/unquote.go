package jsonscan

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// Unquote decodes a JSON string with its quotation marks. It reports false if
// b is not one, or if it stands for something that is not text: bytes that are
// not UTF-8, or a lone surrogate (RFC 8259, section 8.2), for which a Go string
// has no room.
func Unquote(b []byte) (s string, valid bool) {
	if len(b) < 2 || b[0] != '"' {
		return "", false
	}
	if end, c := scanString(b, 1); c != errNone || end != len(b) {
		return "", false
	}
	b = b[1 : len(b)-1]
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b), true
	}
	text, n := appendUnescaped(make([]byte, 0, len(b)), b)
	if n < len(b) {
		return "", false
	}
	return string(text), true
}

// appendUnescaped appends the decoded form of b, the valid inside of a string.
// It returns how much of b it has decoded, which is all of it unless there is
// a lone surrogate.
func appendUnescaped(dst, b []byte) ([]byte, int) {
	i := 0
	for {
		n := bytes.IndexByte(b[i:], '\\')
		if n < 0 {
			return append(dst, b[i:]...), len(b)
		}
		dst = append(dst, b[i:i+n]...)
		i += n
		if b[i+1] != 'u' {
			dst = append(dst, unescaped(b[i+1]))
			i += 2
			continue
		}
		r, size := hexRune(b[i:]), 6
		if utf16.IsSurrogate(r) {
			r, size = utf16.DecodeRune(r, hexRune(b[i+6:])), 12
			if r == utf8.RuneError {
				return dst, i
			}
		}
		dst = utf8.AppendRune(dst, r)
		i += size
	}
}

// hexRune returns the code unit of the escape \uXXXX at the start of b, or 0 if
// there is none.
func hexRune(b []byte) (r rune) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0
	}
	for _, c := range b[2:6] {
		r = r<<4 | rune(hex[c])
	}
	return r
}

// unescaped returns the character the escape of a reverse solidus and c stands
// for.
func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}
