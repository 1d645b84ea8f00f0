package jsonscan

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
)

// AppendIndent appends b to dst, laid out as Python's json.dump(v, indent=2)
// does it: one member or element to a line, two spaces per level, empty
// containers as {} and []. Each new line starts with prefix; the first does
// not, so that the value can stand behind a name. White space between the
// tokens of b is dropped, the tokens themselves are copied as they are.
//
// b must have passed [Check] or come from a [Reader]. The layout takes space
// in proportion to the square of the nesting: limit it first.
func AppendIndent(dst, b []byte, prefix string) []byte {
	dst = slices.Grow(dst, len(b))
	line := append(make([]byte, 0, 64), '\n') // what begins a line at this level
	line = append(line, prefix...)
	top := len(line)
	for i := 0; i < len(b); {
		switch c := b[i]; c {
		case ' ', '\n', '\r', '\t':
			i++
		case '"':
			end := skipString(b, i)
			dst = append(dst, b[i:end]...)
			i = end
		case '{', '[':
			dst = append(dst, c)
			i = skipSpace(b, i+1)
			// In ASCII, both closing brackets are 2 above their partners.
			if i < len(b) && b[i] == c+2 {
				dst = append(dst, c+2)
				i++
				break
			}
			line = append(line, "  "...)
			dst = append(dst, line...)
		case '}', ']':
			line = line[:max(len(line)-2, top)]
			dst = append(dst, line...)
			dst = append(dst, c)
			i++
		case ',':
			dst = append(dst, c)
			dst = append(dst, line...)
			i++
		case ':':
			dst = append(dst, ": "...)
			i++
		default:
			end := skipScalar(b, i)
			dst = append(dst, b[i:end]...)
			i = end
		}
	}
	return dst
}

// IndentedSize is how many bytes AppendIndent would append to an empty slice.
func IndentedSize(b []byte, prefix string) (size int64) {
	line := int64(1 + len(prefix))
	for i := 0; i < len(b); {
		switch c := b[i]; c {
		case ' ', '\n', '\r', '\t':
			i++
		case '"':
			end := skipString(b, i)
			size += int64(end - i)
			i = end
		case '{', '[':
			i = skipSpace(b, i+1)
			if i < len(b) && b[i] == c+2 {
				size += 2
				i++
				break
			}
			line += 2
			size += 1 + line
		case '}', ']':
			line -= 2
			size += line + 1
			i++
		case ',':
			size += 1 + line
			i++
		case ':':
			size += 2
			i++
		default:
			end := skipScalar(b, i)
			size += int64(end - i)
			i = end
		}
	}
	return size
}

// AppendCompact appends b to dst without the white space between its tokens.
// b must have passed [Check] or come from a [Reader].
func AppendCompact(dst, b []byte) []byte {
	dst = slices.Grow(dst, len(b))
	start := 0 // of the run that is to be copied next
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			i = skipString(b, i)
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

// CompactSize is how many bytes AppendCompact would append to an empty slice.
// Of what is not JSON it is some number up to the length.
func CompactSize(b []byte) (size int64) {
	size = int64(len(b))
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			i = skipString(b, i)
		case isSpace(c):
			next := skipSpace(b, i)
			size -= int64(next - i)
			i = next
		default:
			i++
		}
	}
	return size
}

// Project appends to dst an object of those members of the object b whose
// names are in fields, in the order and with the bytes they have in b, and
// without white space between them. Names are compared decoded, so a name with
// escapes matches the field it stands for. Of a repeated name, all members are
// kept. If b is not an object, it is appended whole.
//
// b must have passed [Check] or come from a [Reader].
func Project(dst, b []byte, fields []string) []byte {
	b = trimSpace(b)
	if len(b) == 0 || b[0] != '{' {
		return append(dst, b...)
	}
	dst = append(dst, '{')
	first := true
	for i := skipSpace(b, 1); i < len(b) && b[i] == '"'; {
		nameEnd := skipString(b, i)
		name := b[i:nameEnd]
		start := skipSpace(b, nameEnd)
		start = skipSpace(b, min(start+1, len(b))) // +1 for the colon
		end := skipValue(b, start)
		if isField(name, fields) {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(dst, name...)
			dst = append(dst, ':')
			dst = append(dst, b[start:end]...)
		}
		i = skipSpace(b, end)
		if i < len(b) && b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	return append(dst, '}')
}

// isField reports whether the string token name, decoded, is in fields.
func isField(name []byte, fields []string) bool {
	if len(name) < 2 {
		return false
	}
	if bytes.IndexByte(name, '\\') < 0 {
		name = name[1 : len(name)-1]
		for _, f := range fields {
			if string(name) == f {
				return true
			}
		}
		return false
	}
	s, ok := Unquote(name)
	return ok && slices.Contains(fields, s)
}

// skipValue returns the position behind the valid value that starts at b[i].
func skipValue(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			i = skipString(b, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ' ', '\n', '\r', '\t', ',', ':':
			i++
			continue
		default:
			i = skipScalar(b, i)
		}
		if depth <= 0 {
			break
		}
	}
	return i
}

// skipScalar returns the position behind the valid number or literal that
// starts at b[i]. It makes headway whatever b[i] is.
func skipScalar(b []byte, i int) int {
	for i++; i < len(b) && !delimiter[b[i]]; i++ {
	}
	return i
}

// delimiter holds the bytes that end a number or a literal.
var delimiter = [256]bool{
	' ': true, '\n': true, '\r': true, '\t': true,
	',': true, ':': true, '"': true, '[': true, ']': true, '{': true, '}': true,
}

// trimSpace returns b without the white space around it.
func trimSpace(b []byte) []byte {
	b = b[skipSpace(b, 0):]
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// AppendString appends s to dst as a JSON string, escaping only what RFC 8259,
// section 7, does not allow to stand for itself, in the form Python's
// json.dumps(s, ensure_ascii=False) gives it. s must be valid UTF-8.
func AppendString(dst []byte, s string) []byte {
	dst = slices.Grow(dst, len(s)+2)
	dst = append(dst, '"')
	start := 0 // of the run that is to be copied next
	for i := indexEscaped(s, 0); i < len(s); i = indexEscaped(s, start) {
		dst = append(dst, s[start:i]...)
		dst = appendEscape(dst, s[i])
		start = i + 1
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// indexEscaped returns the index of the first byte of s at or after i that has
// to be escaped, or len(s).
func indexEscaped(s string, i int) int {
	b := []byte(s) // Read only, so the compiler does not copy it.
	for len(b)-i >= 8 {
		v := binary.LittleEndian.Uint64(b[i:])
		if m := hits(v) &^ v & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
	for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// appendEscape appends the escape for c.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xF])
}
