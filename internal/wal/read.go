package wal

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// A Record is one record as it is read.
type Record struct {
	Payload []byte // valid until the next call
	Offset  int64  // of the payload in the file
}

// A Reader reads a log from its beginning.
type Reader struct {
	src    io.ReaderAt
	size   int64
	header int64 // length of the header's payload
	salt   func(header []byte) (uint64, bool)

	// Plausible, if set, says whether a payload of n bytes that begins like
	// this may be one, so that what is none need not be read behind a damage.
	Plausible func(begin []byte, n int64) bool

	at     int64 // of the next record
	seed   uint64
	window []byte
	from   int64 // offset of window[0]
}

const windowSize = 1 << 20

// plausible is how much of a payload Plausible is shown.
const plausible = 16

// NewReader reads a log of size bytes whose header's payload has a fixed
// length. salt returns the log's salt, which is not 0, from that payload, and
// false if it is of another kind.
func NewReader(src io.ReaderAt, size int64, header int, salt func(header []byte) (uint64, bool)) *Reader {
	return &Reader{src: src, size: size, header: int64(header), salt: salt}
}

// Header reads the first record. A log whose header is not good is a
// [*Damage]; if that is Torn, nothing was ever logged behind it.
func (r *Reader) Header() (Record, error) {
	whole := recordsAt + overhead + r.header
	bad := func(reason string) (Record, error) {
		return Record{}, &Damage{Cut: r.size, Torn: r.size <= whole, Reason: reason}
	}
	if r.size < whole {
		return bad("a log without its whole header")
	}
	head, err := r.bytes(0, int(whole))
	if err != nil {
		return Record{}, err
	}
	if string(head[:recordsAt]) != magic {
		return bad("not a log of this version")
	}
	seed, ok := r.salt(head[recordsAt+overhead:])
	if !ok {
		return bad("a header of another kind")
	}
	r.seed = seed
	payload, _, reason, err := r.record(recordsAt)
	if err != nil {
		return Record{}, err
	}
	if payload == nil || int64(len(payload)) != r.header {
		return bad("in the header, " + reason)
	}
	r.at = whole
	return Record{Payload: payload, Offset: recordsAt + overhead}, nil
}

// Next returns the next record, io.EOF behind the last, or a [*Damage].
func (r *Reader) Next() (Record, error) {
	if r.at == r.size {
		return Record{}, io.EOF
	}
	payload, _, reason, err := r.record(r.at)
	if err != nil {
		return Record{}, err
	}
	if payload == nil {
		return Record{}, r.damage(r.at, reason)
	}
	record := Record{Payload: payload, Offset: r.at + overhead}
	r.at = record.Offset + int64(len(payload))
	return record, nil
}

// Skip goes on behind a damage that has a Next.
func (r *Reader) Skip(d *Damage) { r.at = d.Next }

// At is the offset behind the last good record.
func (r *Reader) At() int64 { return r.at }

// record returns the payload of the record at offset and up to where the log
// had been synced when it was written, or why there is none.
func (r *Reader) record(offset int64) (payload []byte, synced int64, reason string, err error) {
	if r.size-offset < overhead {
		return nil, 0, "a record without its end", nil
	}
	head, err := r.bytes(offset, overhead)
	if err != nil {
		return nil, 0, "", err
	}
	n := int64(binary.LittleEndian.Uint32(head))
	want := binary.LittleEndian.Uint32(head[4:])
	unsynced := binary.LittleEndian.Uint32(head[8:])
	switch {
	case n == 0 || n > maxPayload:
		return nil, 0, "a record of no valid length", nil
	case n > r.size-offset-overhead:
		return nil, 0, "a record without its end", nil
	}
	payload, err = r.bytes(offset+overhead, int(n))
	if err != nil {
		return nil, 0, "", err
	}
	if sum(payload, offset, unsynced, r.seed) != want {
		return nil, 0, "a record with a wrong checksum", nil
	}
	if unsynced < math.MaxUint32 { // Which stands for any number.
		synced = offset - int64(unsynced)
	}
	return payload, synced, "", nil
}

// bytes returns n bytes at offset, through a window on the file.
func (r *Reader) bytes(offset int64, n int) ([]byte, error) {
	if offset < r.from || offset+int64(n) > r.from+int64(len(r.window)) {
		want := int(min(int64(max(n, windowSize)), r.size-offset))
		if cap(r.window) < want {
			r.window = make([]byte, want)
		}
		r.window, r.from = r.window[:want], offset
		got, err := r.src.ReadAt(r.window, offset)
		if got < n && err != nil {
			r.window = r.window[:0]
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		r.window = r.window[:got]
	}
	at := int(offset - r.from)
	return r.window[at : at+n], nil
}

// damage tells what a crash leaves from other damage: it looks for a record
// behind the bad one that was written when the bad one had been synced.
func (r *Reader) damage(offset int64, reason string) error {
	d := &Damage{Offset: offset, Cut: r.size - offset, Torn: true, Reason: reason}
	const most = 1 << 32 // Bytes to check before giving up on a hostile file.
	work := int64(0)
	for at := offset + 1; at < r.size-overhead; at++ {
		head, err := r.bytes(at, overhead)
		if err != nil {
			return err
		}
		n := int64(binary.LittleEndian.Uint32(head))
		if n == 0 || n > maxPayload || n > r.size-at-overhead {
			continue
		}
		if unsynced := binary.LittleEndian.Uint32(head[8:]); int64(unsynced) > at && unsynced < math.MaxUint32 {
			continue // As text is, read as a number.
		}
		if r.Plausible != nil {
			begin, err := r.bytes(at+overhead, int(min(n, plausible)))
			if err != nil {
				return err
			}
			if !r.Plausible(begin, n) {
				continue
			}
		}
		if work += n; work > most {
			d.Torn = false
			return d
		}
		payload, synced, _, err := r.record(at)
		if err != nil {
			return err
		}
		if payload == nil {
			continue
		}
		if d.Next == 0 {
			d.Next = at
		}
		if synced > offset {
			d.Torn = false
			return d
		}
		at += overhead + int64(len(payload)) - 1
	}
	return d
}
