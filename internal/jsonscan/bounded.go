package jsonscan

import (
	"bytes"
	"io"
	"strconv"
)

// NewAnyReader returns a Reader of the file that src delivers, which is an
// object or an array. What is in an array has no names.
func NewAnyReader(src io.Reader, maxDepth int) *Reader {
	r := NewReader(src, maxDepth)
	r.any = true
	return r
}

// Open reports whether the file has begun, and whether it is an array. Both are
// known after the first call of [Reader.Next].
func (r *Reader) Open() (open, array bool) { return r.open, r.array }

// Bound keeps r from holding a member of more than so many bytes, its name
// included: it is delivered with an error, and without its value, if there is
// no doubt where it ends. Of such a member only strings and brackets are
// looked at.
func (r *Reader) Bound(bytes int) *Reader {
	r.bound = bytes
	return r
}

// A TooLongError says that a member was passed over.
type TooLongError struct {
	Bound int // in bytes
}

func (e *TooLongError) Error() string {
	return "it takes more than " + strconv.Itoa(e.Bound) + " bytes of the file"
}

func (r *Reader) exceeds(n int) bool { return r.bound > 0 && n > r.bound }

// closing is the bracket that ends the file.
func (r *Reader) closing() byte {
	if r.array {
		return ']'
	}
	return '}'
}

// passOver reads to the end of the member that starts at r.pos, of which the
// window has only a part.
func (r *Reader) passOver() (Member, error) {
	m := Member{Err: &TooLongError{r.bound}}
	if !r.array {
		if name, _, c := r.scanName(r.buf[:r.end], r.pos); c == errNone {
			m.Name = bytes.Clone(name)
		}
	}
	text, depth := false, 0
	for {
		for ; r.pos < r.end; r.pos++ {
			ch := r.buf[r.pos]
			switch {
			case text && ch == '\\':
				if r.pos++; r.pos == r.end && !r.fill() {
					return Member{}, r.fail(errEnd, r.end)
				}
			case ch == '"':
				text = !text
			case text:
			case ch == '{', ch == '[':
				depth++
			case depth > 0 && (ch == '}' || ch == ']'):
				depth--
			case depth == 0 && (ch == ',' || ch == r.closing()):
				return m, nil
			case depth == 0 && (ch == '}' || ch == ']'):
				return Member{}, r.fail(errCharacter, r.pos)
			}
		}
		if !r.fill() {
			return Member{}, r.fail(errEnd, r.end)
		}
	}
}
