package kvmove

import (
	"cmp"
	"context"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/move"
)

// A DifferenceKind says in what a document differs between two stores.
type DifferenceKind string

// The kinds of differences.
const (
	OnlyInA    DifferenceKind = "only in a"
	OnlyInB    DifferenceKind = "only in b"
	OtherValue DifferenceKind = "value"
	OtherTTL   DifferenceKind = "time to live" // by more than a second; the values are equal
	Unreadable DifferenceKind = "unreadable"   // corrupt in a or b, or in both
)

// A Difference is one document that two stores do not have alike.
type Difference struct {
	ID   string         `json:"id"`
	Kind DifferenceKind `json:"kind"`
}

// Contents are the documents of a store, summed up. Stores with equal
// contents have the same ids with equal values, whatever the backend. Times
// to live and what is corrupt do not count.
type Contents struct {
	Documents int `json:"documents"`
	// Digest is the sum, modulo 2^256, of the SHA-256 of each document, in
	// hexadecimal. It does not depend on their order.
	Digest string `json:"digest"`
}

// A VerifyReport says how two stores compare.
type VerifyReport struct {
	A           Contents      `json:"a"`
	B           Contents      `json:"b"`
	Differences []Difference  `json:"differences,omitempty"`
	Duration    time.Duration `json:"duration_ns"`
}

// Verify compares two stores and lists every difference. Values are equal if
// they differ in nothing but white space and the escapes of their strings;
// the spelling of numbers and the order of members count. A document that has
// a second left to live, at most, may be absent on the other side. If one of
// the stores knows no times to live, those are not compared; all above 200
// years are the same.
//
// Memory is bounded, but for the differences. Documents that are written or
// removed meanwhile may be listed, or not.
//
// After an error, which is a [*kv.Error] with the Op "verify", the report says
// what was found before it.
func Verify(ctx context.Context, a, b kv.Store) (VerifyReport, error) {
	began := time.Now()
	var r VerifyReport
	inA, inB := sideOf(a), sideOf(b)
	sumA, sumB, err := move.Verify(ctx, inA, inB, func(d move.Difference) {
		r.Differences = append(r.Differences, Difference{d.ID, differenceKinds[d.Kind]})
	})
	r.A, r.B = Contents(sumA), Contents(sumB)
	r.Duration = time.Since(began)
	return r, failed("verify", cmp.Or(inA.Namespace, inB.Namespace), err)
}

var differenceKinds = [...]DifferenceKind{
	move.OnlyInA:    OnlyInA,
	move.OnlyInB:    OnlyInB,
	move.OtherValue: OtherValue,
	move.OtherTTL:   OtherTTL,
	move.Unreadable: Unreadable,
}
