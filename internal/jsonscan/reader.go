package jsonscan

import (
	"bytes"
	"errors"
	"io"
)

const (
	// windowSize is how much of the file a Reader holds to begin with.
	windowSize = 1 << 20

	// growSlowly is the size from which on a window grows by a quarter, which
	// scans a large member five times over, and not twofold, which would hold
	// twice its size.
	growSlowly = 16 << 20

	// minWindow leaves room for a byte order mark.
	minWindow = 4

	// maxEmptyReads is how often a source may deliver nothing, without an
	// error, before it is given up, as in package bufio.
	maxEmptyReads = 100
)

var bom = []byte("\xEF\xBB\xBF")

// A Member is one member of the object a [Reader] reads.
type Member struct {
	// Name is the decoded name. It is valid UTF-8.
	Name []byte

	// Value is the value with the bytes it has in the file, without the white
	// space around it.
	Value []byte

	// Offset is the place of Value in the file.
	Offset int64

	// Err is nil if Value would pass [Check]. It is an [*Error] if Value is
	// not strict JSON although there is no doubt where it ends: it holds one
	// of Python's NaN, Infinity and -Infinity, a string that is not UTF-8, or
	// more levels than the limit. It tells the first of these errors. It is a
	// [*TooLongError] for a member over the bound, of which there is no Value.
	Err error
}

// A Reader reads the members of a file that is a single JSON object, or the
// elements of one that is an array, one by one and in one pass. It holds no more of the file than a window of about a
// mebibyte, or the largest member if that takes more.
type Reader struct {
	src    io.Reader
	srcErr error // why src delivers no more

	size  int64 // of the file, as far as that is known; else 0
	bound int   // of a member; 0: none
	any   bool  // the file may be an array
	array bool  // it is one

	buf  []byte // the window; what has been read and not consumed is buf[pos:end]
	pos  int
	end  int
	base int64 // offset of buf[0] in the file

	scan scanner
	name []byte // holds a name that had to be decoded
	err  error  // what all further calls of Next return
	bad  int    // the place in the window of the last error in the file
	open bool   // the object's opening bracket has been read
	more bool   // a member has been read
	bom  bool
}

// NewReader returns a Reader of the file src delivers. A member whose value
// has more than maxDepth arrays and objects open at a time is delivered with
// an error.
func NewReader(src io.Reader, maxDepth int) *Reader {
	return newReader(src, maxDepth, windowSize)
}

// NewSizedReader is NewReader for a file of about size bytes, which needs no
// larger window.
func NewSizedReader(src io.Reader, maxDepth int, size int64) *Reader {
	r := newReader(src, maxDepth, int(min(size+1, windowSize))) // +1 to see the end.
	r.size = size
	return r
}

func newReader(src io.Reader, maxDepth, window int) *Reader {
	return &Reader{
		src:  src,
		buf:  make([]byte, max(window, minWindow)),
		scan: scanner{maxDepth: maxDepth, lenient: true},
	}
}

// BOM reports whether the file starts with a UTF-8 byte order mark, which the
// Reader skips, as section 8.1 of RFC 8259 allows. It is known after the first
// call of [Reader.Next].
func (r *Reader) BOM() bool { return r.bom }

// Next returns the next member. Its slices are valid until the following call.
//
// The error is [io.EOF] after the object has been closed and only white space
// followed. It is an [*Error], with its offset in the file, if the file is not
// one JSON object, or if it cannot be told for sure where a value ends; a name
// that is not UTF-8 or holds a lone surrogate counts as that. Any other error
// is the source's own. After an error, Next returns the same error again.
func (r *Reader) Next() (Member, error) {
	if r.err != nil {
		return Member{}, r.err
	}
	m, err := r.next()
	r.err = err
	return m, err
}

func (r *Reader) next() (Member, error) {
	if !r.open {
		if err := r.start(); err != nil {
			return Member{}, err
		}
	}
	ch, err := r.peek()
	if err != nil {
		return Member{}, err
	}
	switch {
	case ch == r.closing():
		r.pos++
		return Member{}, r.finish()
	case ch == ',' && r.more:
		r.pos++
		if _, err := r.peek(); err != nil {
			return Member{}, err
		}
	case r.more:
		return Member{}, r.fail(errCharacter, r.pos)
	}
	r.more = true
	return r.member()
}

// start reads up to and including the object's opening bracket.
func (r *Reader) start() error {
	r.fill()
	if r.end < len(bom) && r.srcErr != nil && !errors.Is(r.srcErr, io.EOF) {
		return r.srcErr // What there is may be half a byte order mark.
	}
	if bytes.HasPrefix(r.buf[:r.end], bom) {
		r.bom = true
		r.pos = len(bom)
	}
	ch, err := r.peek()
	if err != nil {
		return err
	}
	r.array = r.any && ch == '['
	if ch != '{' && !r.array {
		return r.fail(errCharacter, r.pos)
	}
	r.pos++
	r.open = true
	return nil
}

// finish reads what is behind the object. It returns io.EOF if that is nothing
// but white space.
func (r *Reader) finish() error {
	_, err := r.peek()
	switch {
	case err == nil:
		return r.fail(errTrailing, r.pos)
	case errors.Is(r.srcErr, io.EOF):
		return io.EOF
	}
	return err
}

// peek skips white space and returns the byte behind it.
func (r *Reader) peek() (byte, error) {
	for {
		r.pos = skipSpace(r.buf[:r.end], r.pos)
		if r.pos < r.end {
			return r.buf[r.pos], nil
		}
		if !r.fill() {
			return 0, r.fail(errEnd, r.end)
		}
	}
}

// Skip goes on behind an [*Error] of the file, at the next line that begins a
// member in Python's layout, and returns where it begins. The error is
// [io.EOF] if there is none.
func (r *Reader) Skip() (next int64, err error) {
	const begins = "\n  \""
	for r.pos = r.bad; ; {
		if i := bytes.Index(r.buf[r.pos:r.end], []byte(begins)); i >= 0 {
			r.pos += i + len(begins) - 1
			r.err, r.open, r.more = nil, true, false
			return r.base + int64(r.pos), nil
		}
		r.pos = max(r.pos, r.end-(len(begins)-1))
		if !r.fill() {
			return 0, r.srcErr
		}
	}
}

// member reads the member that starts at r.pos. If the window ends within it,
// it is scanned anew with more data: since the window is filled to the brim and
// grows by a part of its size, that costs no more than some times the members'
// own lengths.
func (r *Reader) member() (Member, error) {
	for {
		m, i, c := r.scanMember(r.buf[:r.end], r.pos)
		if c == errNone {
			if r.exceeds(i - r.pos) {
				m.Value, m.Err = nil, &TooLongError{r.bound}
			}
			r.pos = i
			return m, nil
		}
		if c != errEnd {
			return Member{}, r.fail(c, i)
		}
		if r.exceeds(r.end - r.pos) {
			return r.passOver()
		}
		if !r.fill() {
			return Member{}, r.fail(errEnd, r.end)
		}
	}
}

// scanMember scans the member that starts at b[i], and returns it and the
// position behind it.
func (r *Reader) scanMember(b []byte, i int) (m Member, end int, c code) {
	if !r.array {
		if m.Name, i, c = r.scanName(b, i); c != errNone {
			return m, i, c
		}
		if i, c = scanColon(b, i); c != errNone {
			return m, i, c
		}
	}
	start := i
	if i, c = r.scan.value(b, i); c != errNone {
		return m, i, c
	}
	// A number or a literal is whole only if something else follows.
	if i >= len(b) {
		return m, i, errEnd
	}
	if ch := b[i]; ch != ',' && ch != r.closing() && !isSpace(ch) {
		return m, i, errCharacter
	}
	m.Value = b[start:i:i]
	m.Offset = r.base + int64(start)
	if s := &r.scan; s.soft != errNone {
		m.Err = newError(s.soft, r.base+int64(s.softAt), s.maxDepth)
	}
	return m, i, errNone
}

// scanName scans the name that starts at b[i].
func (r *Reader) scanName(b []byte, i int) (name []byte, end int, c code) {
	if b[i] != '"' {
		return nil, i, errCharacter
	}
	start := i
	if i, c = scanString(b, i+1); c != errNone {
		return nil, i, c
	}
	name = b[start+1 : i-1 : i-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		var n int
		r.name, n = appendUnescaped(r.name[:0], name)
		if n < len(name) {
			return nil, start + 1 + n, errSurrogate
		}
		name = r.name
	}
	return name, i, errNone
}

// fail returns the error for c at r.buf[i], or the source's own error if that
// is why the data ends.
func (r *Reader) fail(c code, i int) error {
	if c == errEnd && r.srcErr != nil && !errors.Is(r.srcErr, io.EOF) {
		return r.srcErr
	}
	r.bad = i
	return newError(c, r.base+int64(i), r.scan.maxDepth)
}

// fill reads until the window is full or the source has no more, and reports
// whether it has read anything. What has not been consumed moves to the start
// of the window; only if it takes all of the window does the window grow.
func (r *Reader) fill() bool {
	if r.srcErr != nil {
		return false
	}
	if r.pos > 0 {
		copy(r.buf, r.buf[r.pos:r.end])
		r.base += int64(r.pos)
		r.end -= r.pos
		r.pos = 0
	} else if r.end == len(r.buf) {
		buf := make([]byte, r.grown())
		copy(buf, r.buf)
		r.buf = buf
	}
	before := r.end
	for empty := 0; r.end < len(r.buf) && r.srcErr == nil; {
		var n int
		n, r.srcErr = r.src.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads && r.srcErr == nil {
			r.srcErr = io.ErrNoProgress
		}
	}
	return r.end > before
}

// grown is the size of the next window. It holds no more than the file has.
func (r *Reader) grown() int {
	n := int64(len(r.buf))
	rest := r.size - r.base + 1 // To see the end.
	if n < growSlowly {
		n *= 2
	} else {
		n += n / 4
	}
	if rest > int64(len(r.buf)) {
		n = min(n, rest)
	}
	if r.bound > 0 { // One more, to see that a member exceeds it.
		n = min(n, int64(max(r.bound, len(r.buf)))+1)
	}
	return int(n)
}
