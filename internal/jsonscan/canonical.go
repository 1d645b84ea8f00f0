package jsonscan

import (
	"bytes"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendCanonical appends b to dst in the one spelling that texts share which
// differ only in white space and in how their strings are escaped: without
// white space, and with each string as [AppendString] writes it. So what
// Python writes with ensure_ascii, and without, becomes the same. An escape
// of a lone surrogate, for which there is no other spelling, stays one.
// Numbers keep their spelling, and members their order and repeats.
//
// The result is never longer than b, and dst may be b[:0]. b must have passed
// [Check] or come from a [Reader].
func AppendCanonical(dst, b []byte) []byte {
	dst = slices.Grow(dst, len(b))
	start := 0 // of the run that is to be copied next
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			end := skipString(b, i)
			if n := bytes.IndexByte(b[i:end], '\\'); n >= 0 {
				dst = append(dst, b[start:i+n]...)
				dst = appendRespelled(dst, b[i+n:end])
				start = end
			}
			i = end
		case isSpace(c):
			dst = append(dst, b[start:i]...)
			i = skipSpace(b, i)
			start = i
		default:
			i++
		}
	}
	return append(dst, b[start:]...)
}

// appendRespelled appends the rest of a string with each character spelled as
// AppendString does it.
func appendRespelled(dst, b []byte) []byte {
	for {
		n := bytes.IndexByte(b, '\\')
		if n < 0 || n+1 >= len(b) {
			return append(dst, b...)
		}
		dst = append(dst, b[:n]...)
		b = b[n:]
		r, size := rune(unescaped(b[1])), 2
		if b[1] == 'u' {
			r, size = hexRune(b), 6
		}
		if size > len(b) {
			return append(dst, b...)
		}
		if pair := utf16.DecodeRune(r, hexRune(b[min(6, len(b)):])); size == 6 && pair != utf8.RuneError {
			r, size = pair, 12
		}
		switch {
		case utf16.IsSurrogate(r):
			dst = append(dst, '\\', 'u')
			dst = append(dst, bytes.ToLower(b[2:6])...)
		case r < 0x20, r == '"', r == '\\':
			dst = appendEscape(dst, byte(r))
		default:
			dst = utf8.AppendRune(dst, r)
		}
		b = b[size:]
	}
}
