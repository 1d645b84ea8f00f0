// Package wal is a log of checksummed records in one file. It knows nothing
// of what the records mean.
//
// The file begins with a header, a record of its own behind the magic bytes:
//
//	magic   8 bytes, the version in the last
//	record  the header's payload, which the user of the log chooses
//
// and goes on with records:
//
//	length    4 bytes, little endian, of the payload; never 0
//	checksum  4 bytes, little endian
//	unsynced  4 bytes, little endian
//	payload
//
// The checksum is CRC-32C of the payload, the record's offset in the file,
// the bytes of unsynced and the log's salt. So a record counts only where it
// was written: one that was moved, or that a log before this one left on the
// disk, does not.
//
// A record also says how many of the bytes before it were not known to be on
// the disk when it was written. A machine that dies may lose any of those and
// keep what stands behind them, for disks do not write in order; a bad record
// that was synced is something else.
package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

const (
	magic      = "kv-log\n\x01"
	overhead   = 12
	recordsAt  = int64(len(magic))
	maxPayload = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum is the CRC-32C of b.
func Sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Extend is the CRC-32C of what sum is of, followed by b.
func Extend(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// An Encoder lays out records for a place in a log.
type Encoder struct {
	Buf    []byte // the records, back to back
	At     int64  // the offset in the file of Buf[0]
	Synced int64  // the offset up to which the log is on the disk for sure
	salt   uint64
}

// NewEncoder returns an Encoder for the log of this salt.
func NewEncoder(salt uint64) *Encoder { return &Encoder{salt: salt} }

// Salt is the log's.
func (e *Encoder) Salt() uint64 { return e.salt }

// Header begins a new log: the magic bytes and the first record.
func (e *Encoder) Header(payload []byte) {
	e.Buf, e.At = append(e.Buf[:0], magic...), 0
	start := e.Begin()
	e.Buf = append(e.Buf, payload...)
	e.End(start)
}

// Begin begins a record. Its payload is then appended to Buf, and End called
// with what Begin returned.
func (e *Encoder) Begin() (start int) {
	start = len(e.Buf)
	e.Buf = append(e.Buf, make([]byte, overhead)...)
	return start
}

// End completes the record that began at start.
func (e *Encoder) End(start int) {
	payload := e.Buf[start+overhead:]
	at := e.At + int64(start)
	unsynced := uint32(min(at-e.Synced, math.MaxUint32))
	binary.LittleEndian.PutUint32(e.Buf[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(e.Buf[start+4:], sum(payload, at, unsynced, e.salt))
	binary.LittleEndian.PutUint32(e.Buf[start+8:], unsynced)
}

// Reset empties Buf and moves it to the offset at.
func (e *Encoder) Reset(at int64) { e.Buf, e.At = e.Buf[:0], at }

// Next is the offset behind Buf.
func (e *Encoder) Next() int64 { return e.At + int64(len(e.Buf)) }

func sum(payload []byte, offset int64, unsynced uint32, salt uint64) uint32 {
	var place [20]byte
	binary.LittleEndian.PutUint64(place[:], uint64(offset))
	binary.LittleEndian.PutUint64(place[8:], salt)
	binary.LittleEndian.PutUint32(place[16:], unsynced)
	return Extend(Sum(payload), place[:])
}

// Damage says where a log stops making sense.
type Damage struct {
	Offset int64 // of the first byte that is not a good record
	Cut    int64 // number of bytes from there to the end
	Torn   bool  // nothing says that it was ever on the disk: the mark of a crash
	Next   int64 // offset of the next good record, 0 if none was found
	Reason string
}

func (d *Damage) Error() string { return fmt.Sprintf("%s at offset %d", d.Reason, d.Offset) }
