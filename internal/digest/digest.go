// Package digest sums up sets of documents, and tells whether two spellings of
// a value are one.
package digest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"

	"github.com/ngraf/kv/internal/jsonscan"
)

// A Set is the digest of a set of documents, in whatever order they are added:
// the sum, modulo 2^256, of the SHA-256 of each (AdHash of Bellare and Micciancio,
// A New Paradigm for Collision-Free Hashing, 1997). Unlike with exclusive or,
// a document that comes twice counts twice. It finds accidents; against
// somebody who chooses the documents a sum needs to be far longer.
type Set struct {
	sum [4]uint64 // the lowest first
	n   int
}

// A Hash is the digest of one document.
type Hash [sha256.Size]byte

// Add adds a document.
func (d *Set) Add(h Hash) {
	carry := uint64(0)
	for i := range d.sum {
		d.sum[i], carry = bits.Add64(d.sum[i], binary.LittleEndian.Uint64(h[8*i:]), carry)
	}
	d.n++
}

// Sub takes a document out again.
func (d *Set) Sub(h Hash) {
	borrow := uint64(0)
	for i := range d.sum {
		d.sum[i], borrow = bits.Sub64(d.sum[i], binary.LittleEndian.Uint64(h[8*i:]), borrow)
	}
	d.n--
}

// Count returns how many documents have been added.
func (d *Set) Count() int { return d.n }

// String returns the sum in hexadecimal digits, the lowest byte first.
func (d *Set) String() string {
	var b []byte
	for _, word := range d.sum {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return hex.EncodeToString(b)
}

// A Spelling makes canonical forms, in memory that it keeps.
type Spelling struct{ a, b []byte }

// Hash returns the digest of the length of the id, the id and the canonical
// value.
func (s *Spelling) Hash(id string, value []byte) Hash {
	s.a = binary.LittleEndian.AppendUint32(s.a[:0], uint32(len(id)))
	s.a = append(s.a, id...)
	s.a = jsonscan.AppendCanonical(s.a, value)
	return sha256.Sum256(s.a)
}

// SameAsHashed reports whether a value has the canonical form of the one that
// Hash was last called with, for the same id.
func (s *Spelling) SameAsHashed(id string, value []byte) bool {
	s.b = jsonscan.AppendCanonical(s.b[:0], value)
	return bytes.Equal(s.a[4+len(id):], s.b)
}

// Same reports whether two values have one canonical form.
func (s *Spelling) Same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	s.a = jsonscan.AppendCanonical(s.a[:0], a)
	s.b = jsonscan.AppendCanonical(s.b[:0], b)
	return bytes.Equal(s.a, s.b)
}
