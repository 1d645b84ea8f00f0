package jsonscan

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// The scanners of strings look at eight bytes at a time. In a word read in
// little-endian order the lowest set bit of a mask belongs to the first byte.
//
// The masks below subtract from all eight bytes at once. A borrow can spoil
// the bytes above the one it comes from, but it only ever comes from a byte
// that is a hit itself, so the lowest hit is always right, and that is the
// only one used.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// hits marks the bytes of v that end a run of plain characters: quotation
// mark, reverse solidus, control characters below 0x20 (RFC 8259, section 7).
// Bytes from 0x80 on may be marked or not; the caller adds or clears them.
func hits(v uint64) uint64 {
	quote := v ^ '"'*ones
	slash := v ^ '\\'*ones
	return (v - 0x20*ones) | (quote - ones) | (slash - ones)
}

// plain holds the bytes a string may hold that need no second look.
var plain = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// skipPlain returns the index of the first byte of b at or after i that is
// not a plain ASCII character of a string, or len(b).
func skipPlain(b []byte, i int) int {
	for len(b)-i >= 16 {
		v, w := binary.LittleEndian.Uint64(b[i:]), binary.LittleEndian.Uint64(b[i+8:])
		m, n := (hits(v)|v)&highs, (hits(w)|w)&highs
		if m|n != 0 {
			if m != 0 {
				return i + bits.TrailingZeros64(m)>>3
			}
			return i + 8 + bits.TrailingZeros64(n)>>3
		}
		i += 16
	}
	for i < len(b) && plain[b[i]] {
		i++
	}
	return i
}

// blockSize is how many bytes marks looks at.
const blockSize = 64

// scanString scans the rest of a string from i, a position behind its opening
// quotation mark and between two characters, and returns the position behind
// its closing one. After errUTF8, the position is that of the first byte at
// fault, and scanning may go on one byte further: no byte from 0x80 on can be
// mistaken for the end of the string.
func scanString(b []byte, i int) (int, code) {
	for hasMarks && len(b)-i >= blockSize {
		start := i
		i += blockSize
		for m := marks((*[blockSize]byte)(b[start:])); m != 0; {
			at := start + bits.TrailingZeros64(m)
			next, c := at+2, errNone
			switch ch := b[at]; {
			case ch == '\\' && next <= len(b) && simpleEscape[b[at+1]]: // Nearly all are.
			case ch == '"':
				return at + 1, errNone
			default:
				next, c = scanSpecial(b, at)
			}
			if c != errNone {
				return next, c
			}
			if next >= i {
				i = next
				break
			}
			m = m >> (next - start) << (next - start)
		}
	}
	for {
		i = skipPlain(b, i)
		if i >= len(b) {
			return len(b), errEnd
		}
		if b[i] == '"' {
			return i + 1, errNone
		}
		var c code
		if i, c = scanSpecial(b, i); c != errNone {
			return i, c
		}
	}
}

// scanSpecial scans what begins with a byte that is neither plain nor a
// quotation mark.
func scanSpecial(b []byte, i int) (int, code) {
	switch ch := b[i]; {
	case ch == '\\':
		return scanEscape(b, i)
	case ch < 0x20:
		return i, errControl
	}
	return scanUTF8(b, i)
}

// scanEscape scans the escape whose reverse solidus is b[i].
func scanEscape(b []byte, i int) (int, code) {
	if i+1 >= len(b) {
		return len(b), errEnd
	}
	if simpleEscape[b[i+1]] {
		return i + 2, errNone
	}
	if b[i+1] != 'u' {
		return i, errEscape
	}
	for j := i + 2; j < i+6; j++ {
		if j >= len(b) {
			return len(b), errEnd
		}
		if hex[b[j]] < 0 {
			return i, errEscape
		}
	}
	return i + 6, errNone
}

// simpleEscape holds the characters of escapes of two.
var simpleEscape = [256]bool{'n': true, '"': true, '\\': true, '/': true, 'b': true, 'f': true, 'r': true, 't': true}

// hex holds the values of the hexadecimal digits and -1 for all other bytes.
var hex = func() (t [256]int8) {
	for c := range t {
		switch {
		case '0' <= c && c <= '9':
			t[c] = int8(c - '0')
		case 'a' <= c && c <= 'f':
			t[c] = int8(c - 'a' + 10)
		case 'A' <= c && c <= 'F':
			t[c] = int8(c - 'A' + 10)
		default:
			t[c] = -1
		}
	}
	return t
}()

// scanUTF8 scans the run of characters beyond ASCII that starts at b[i]. What
// is UTF-8 is laid down in RFC 3629, section 4; the shapes that make up nearly
// all of the world's text are matched in place, the rest by package utf8.
func scanUTF8(b []byte, i int) (int, code) {
	for i < len(b) && b[i] >= utf8.RuneSelf {
		if len(b)-i >= 8 {
			v := binary.LittleEndian.Uint64(b[i:])
			if isThree(v) {
				i += 3
				if isThree(v >> 24) {
					i += 3
				}
				continue
			}
			// Two bytes; a lead byte of 0xC0 or 0xC1 would be overlong.
			if v&0xC0E0 == 0x80C0 && v&0x1E != 0 {
				i += 2
				continue
			}
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			if !utf8.FullRune(b[i:]) {
				return len(b), errEnd
			}
			return i, errUTF8
		}
		i += n
	}
	return i, errNone
}

// isThree reports whether the low bytes of v are a character of three bytes.
func isThree(v uint64) bool {
	if v&0xC0C0F0 != 0x8080E0 {
		return false
	}
	// Bit 5 of the second byte tells the overlong forms behind 0xE0 and the
	// surrogates behind 0xED from the rest.
	t := v & 0x200F
	return t != 0 && t != 0x200D
}

// skipString returns the position behind the valid string that starts at b[i].
func skipString(b []byte, i int) int {
	i++
	for {
		for len(b)-i >= 8 {
			v := binary.LittleEndian.Uint64(b[i:])
			quote, slash := v^'"'*ones, v^'\\'*ones
			if m := ((quote - ones) | (slash - ones)) &^ v & highs; m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' {
			i++
		}
		if i >= len(b) {
			return len(b)
		}
		if b[i] == '"' {
			return i + 1
		}
		if i += 2; i > len(b) {
			return len(b)
		}
	}
}
