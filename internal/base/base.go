// Package base is the memory of a namespace: the last state that its files and
// Redis had in common, as hashes, and which contents of files have been seen.
package base

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"iter"
	"slices"

	"github.com/ngraf/kv/internal/digest"
)

// A Mark is what is remembered of a document beside its id:
//
//	bits 26-63  of the canonical value, see digest.Spelling
//	bits  2-25  the second at which the file lets it expire, 0 for never
//	bit   1     Open
//	bit   0     Brief
//
// Two values have one mark by chance once in 2^38. Seconds begin anew after 194
// days.
type Mark uint64

const (
	// Brief: its copy in Redis has a time to live, so that its absence there
	// does not say that somebody removed it.
	Brief Mark = 1 << iota
	// Open: both sides had changed it, and nobody has decided yet. The mark
	// is that of the file.
	Open

	lifeBits  Mark = 1<<26 - 1<<2
	valueBits Mark = 1<<64 - 1<<26
	flagBits       = Brief | Open
)

// MarkOf returns the mark of a document of a file with this hash, which
// expires at a moment in Unix milliseconds, 0 for never.
func MarkOf(h digest.Hash, expires int64) Mark {
	m := Mark(binary.LittleEndian.Uint64(h[:])) & valueBits
	if expires == 0 {
		return m
	}
	return m | Mark(uint64(expires)/1000%lives+1)<<2
}

// lives is how many seconds a mark can tell apart.
const lives = 1<<24 - 1

// sameLife reports whether two marks are of about one moment: on its way there
// and back it loses some milliseconds.
func (m Mark) sameLife(other Mark) bool {
	a, b := uint64(m&lifeBits)>>2, uint64(other&lifeBits)>>2
	if a == 0 || b == 0 {
		return a == b
	}
	apart := (a + lives - b) % lives
	return min(apart, lives-apart) <= 2
}

// SameValue reports whether two marks are of one value.
func (m Mark) SameValue(other Mark) bool { return (m^other)&valueBits == 0 }

// Same reports whether two marks are of one value that expires at one moment.
func (m Mark) Same(other Mark) bool { return m.SameValue(other) && m.sameLife(other) }

// Plain returns the mark without its flags.
func (m Mark) Plain() Mark { return m &^ flagBits }

// Has reports whether the mark has a flag.
func (m Mark) Has(flag Mark) bool { return m&flag != 0 }

// IDOf is what stands for an id. Two ids of a million have one by chance once
// in 30 million namespaces; the second is then taken for changed.
func IDOf(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.LittleEndian.Uint64(sum[:])
}

// An Entry is what is remembered of one document.
type Entry struct {
	ID   uint64
	Mark Mark
}

// A Base is what is remembered of all documents, sorted by ID.
type Base []Entry

// Find returns the place of an id, and whether it is there.
func (b Base) Find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(b, id, func(e Entry, id uint64) int {
		switch {
		case e.ID < id:
			return -1
		case e.ID > id:
			return 1
		}
		return 0
	})
}

// Sorted puts entries that come in any order in theirs. Of several with one
// ID the last counts.
func Sorted(entries []Entry) Base {
	slices.SortStableFunc(entries, func(a, b Entry) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	kept := entries[:0]
	for i, e := range entries {
		if i+1 == len(entries) || entries[i+1].ID != e.ID {
			kept = append(kept, e)
		}
	}
	return kept
}

// entryBytes is what an entry takes in Redis, perChunk how many stand in one
// string.
const (
	entryBytes = 16
	perChunk   = 1 << 20 / entryBytes
)

// Chunks encodes a base. There is one chunk at least.
func (b Base) Chunks() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := b; ; {
			part := rest[:min(len(rest), perChunk)]
			text := make([]byte, 0, len(part)*entryBytes)
			for _, e := range part {
				text = binary.LittleEndian.AppendUint64(text, e.ID)
				text = binary.LittleEndian.AppendUint64(text, uint64(e.Mark))
			}
			rest = rest[len(part):]
			if !yield(text) || len(rest) == 0 {
				return
			}
		}
	}
}

var errDamaged = errors.New("a chunk of it is damaged")

// Add appends a chunk. It accepts what Chunks has made, in its order.
func (b Base) Add(chunk []byte) (Base, error) {
	if len(chunk)%entryBytes != 0 {
		return nil, errDamaged
	}
	b = slices.Grow(b, len(chunk)/entryBytes)
	for ; len(chunk) > 0; chunk = chunk[entryBytes:] {
		e := Entry{binary.LittleEndian.Uint64(chunk), Mark(binary.LittleEndian.Uint64(chunk[8:]))}
		if n := len(b); n > 0 && b[n-1].ID >= e.ID {
			return nil, errDamaged
		}
		b = append(b, e)
	}
	return b, nil
}
