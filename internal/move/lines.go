package move

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"unicode/utf8"

	"github.com/ngraf/kv/internal/fault"
)

// An exportLine is any line of a stream; which, is told by what it has.
type exportLine struct {
	KV        string          `json:"kv"`
	Version   int             `json:"version"`
	Namespace *string         `json:"namespace"`
	ID        *string         `json:"id"`
	Expires   int64           `json:"expires"`
	Value     json.RawMessage `json:"value"`
	End       bool            `json:"end"`
	Documents int             `json:"documents"`
	SHA256    string          `json:"sha256"`

	tooLong int64 // bytes of a line whose value was not held; 0: it was
}

// An exportReader reads the lines of a stream and compares their checksums.
type exportReader struct {
	in        *bufio.Reader
	sum       hash.Hash
	buf       []byte // the line, or the beginning of one that is too long
	most      int64  // bytes of a line that is held
	line      int
	documents int
}

func newExportReader(r io.Reader) *exportReader {
	return &exportReader{in: bufio.NewReaderSize(r, 256<<10), sum: sha256.New(), most: aroundValue}
}

// sumLength is how long the end of a line is, with the checksum.
const sumLength = len(sumMark) + 8 + len(sumEnd)

// next returns the next line. The last one has End set, and has been compared
// with all that came before.
func (e *exportReader) next() (exportLine, error) {
	tooLong, err := e.read()
	if err != nil {
		return exportLine{}, err
	}
	if tooLong > 0 {
		return e.beginning(tooLong)
	}
	text, end := e.buf[:max(0, len(e.buf)-sumLength)], e.buf[max(0, len(e.buf)-sumLength):]
	if err := e.checkSum(end, crc32.Checksum(text, castagnoli)); err != nil {
		return exportLine{}, err
	}
	var l exportLine
	if !utf8.Valid(text) || json.Unmarshal(e.buf, &l) != nil || !l.known(e.line) {
		return l, e.corrupt("the line is not as Export writes it")
	}
	switch {
	case e.line == 1 && l.KV != "export":
		return l, e.corrupt("this is not an export of kv")
	case e.line == 1 && l.Version != exportVersion:
		return l, e.corrupt(fmt.Sprintf("version %d of the format is not known; use a newer kv", l.Version))
	case l.ID != nil:
		e.documents++
	case l.End:
		return l, e.ended(l)
	}
	_, _ = e.sum.Write(e.buf) // A hash returns no error.
	return l, nil
}

// known reports whether a line is one of those that there are, in its place.
func (l *exportLine) known(number int) bool {
	kinds := 0
	for _, is := range []bool{l.Namespace != nil, l.ID != nil, l.End} {
		if is {
			kinds++
		}
	}
	if number == 1 {
		return kinds == 0 || l.KV != "export" // Which is said otherwise.
	}
	return kinds == 1 && l.KV == "" && (l.ID == nil || l.Value != nil)
}

// ended compares the last line with all that came before. An export ends there:
// of several in one file the rest would be missed by who believes in the first.
func (e *exportReader) ended(l exportLine) error {
	if l.SHA256 != hex.EncodeToString(e.sum.Sum(nil)) || l.Documents != e.documents {
		return e.corrupt("the checksum of the whole is wrong: lines are missing or have been added")
	}
	switch _, err := e.in.ReadByte(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("behind line %d: %w", e.line, err)
	}
	return e.corrupt("the export ends here, and something follows; several exports are imported from a file each")
}

// checkSum compares the checksum that stands at the end of a line.
func (e *exportReader) checkSum(end []byte, sum uint32) error {
	if len(end) < sumLength || !bytes.HasPrefix(end, []byte(sumMark)) || !bytes.HasSuffix(end, []byte(sumEnd)) {
		if e.line == 1 {
			return e.corrupt("this is not an export of kv")
		}
		return e.corrupt("the checksum is missing")
	}
	if string(end[len(sumMark):len(sumMark)+8]) != fmt.Sprintf("%08x", sum) {
		return e.corrupt("the checksum is wrong")
	}
	return nil
}

// read reads a line into buf. Of one that is longer than most, buf has the
// beginning, and read returns its length after it has compared its checksum.
func (e *exportReader) read() (tooLong int64, err error) {
	e.line++
	e.buf = e.buf[:0]
	for {
		part, err := e.in.ReadSlice('\n')
		if int64(len(e.buf)+len(part)) > e.most {
			return e.passOver(part, err)
		}
		e.buf = append(e.buf, part...)
		if err == nil {
			return 0, nil
		}
		if err := e.cut(err); err != nil {
			return 0, err
		}
	}
}

// cut is why a line ended without a line feed; nil: it goes on.
func (e *exportReader) cut(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return e.corrupt("the stream ends here and is not complete")
	case !errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("line %d: %w", e.line, err)
	}
	return nil
}

// passOver reads a line to its end, of which buf and part are the beginning.
func (e *exportReader) passOver(part []byte, err error) (length int64, _ error) {
	_, _ = e.sum.Write(e.buf)
	length = int64(len(e.buf))
	sum := crc32.New(castagnoli)
	n := max(0, len(e.buf)-sumLength)
	_, _ = sum.Write(e.buf[:n])
	tail := bytes.Clone(e.buf[n:]) // What may be the end of the line.
	e.buf = e.buf[:min(len(e.buf), aroundValue)]
	e.buf = append(e.buf, part[:min(len(part), aroundValue-len(e.buf))]...)
	for {
		_, _ = e.sum.Write(part)
		length += int64(len(part))
		tail = append(tail, part...)
		n := max(0, len(tail)-sumLength)
		_, _ = sum.Write(tail[:n])
		tail = append(tail[:0], tail[n:]...)
		if err == nil {
			return length, e.checkSum(tail, sum.Sum32())
		}
		if err := e.cut(err); err != nil {
			return 0, err
		}
		part, err = e.in.ReadSlice('\n')
	}
}

// beginning is what of a line that was not held is in buf.
func (e *exportReader) beginning(length int64) (exportLine, error) {
	id := new(string)
	text, ok := bytes.CutPrefix(e.buf, []byte(`{"id":`))
	if !ok || json.NewDecoder(bytes.NewReader(text)).Decode(id) != nil {
		return exportLine{}, e.corrupt("the line is not as Export writes it")
	}
	e.documents++
	return exportLine{ID: id, tooLong: length}, nil
}

func (e *exportReader) corrupt(what string) error {
	return fmt.Errorf("%w: line %d: %s", fault.ErrCorrupt, e.line, what)
}
