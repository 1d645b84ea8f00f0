package kv

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"
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
// After an error, which is an [*Error] with the Op "verify", the report says
// what was found before it.
func Verify(ctx context.Context, a, b Store) (VerifyReport, error) {
	began := time.Now()
	var r VerifyReport
	c := comparison{a: a, b: b, note: func(d Difference) { r.Differences = append(r.Differences, d) }}
	err := c.run(ctx)
	r.A, r.B = c.sumA.contents(), c.sumB.contents()
	r.Duration = time.Since(began)
	return r, failed("verify", namespaceOf(a, b), err)
}

// A comparison of two stores.
type comparison struct {
	a, b Store
	ttl  time.Duration    // of those in b that live for ever in a; 0: for ever
	note func(Difference) // may be nil
	seen func(docs int)   // after each page of a; may be nil

	sumA, sumB setDigest
	found      map[DifferenceKind]int
	spoilt     int  // those of Unreadable that are sound in a
	timeless   bool // one side knows no times to live
	spelling   spelling
}

func (c *comparison) run(ctx context.Context) error {
	c.found = make(map[DifferenceKind]int)
	c.timeless = !expires(c.a) || !expires(c.b)
	other := newReader(c.b)
	for p, err := range readAhead(ctx, c.a, pages(ctx, c.a)) {
		if err != nil {
			return onSide("the first store", err)
		}
		theirs, at, err := other.alike(ctx, p.docs)
		if err != nil {
			return onSide("the second store", err)
		}
		for i := range p.docs {
			c.compare(p.docs[i].after(at[i].Sub(p.at)), theirs[i])
		}
		if c.seen != nil {
			c.seen(len(p.docs))
		}
	}
	for p, err := range readAhead(ctx, c.b, lacking(ctx, c.a, c.b)) {
		if err != nil {
			return onSide("the stores", err)
		}
		for _, d := range p.docs {
			c.extra(d)
		}
	}
	return nil
}

// lacking lists the ids of s that other has not.
func lacking(ctx context.Context, other, s Store) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for ids, err := range pages(ctx, s) {
			if err == nil {
				ids, err = missing(ctx, other, ids)
			}
			if (err != nil || len(ids) > 0) && !yield(ids, err) || err != nil {
				return
			}
		}
	}
}

// missing is Missing, but an id that no store accepts is not missed.
func missing(ctx context.Context, s Store, ids []string) ([]string, error) {
	good := make([]string, 0, len(ids))
	for _, id := range ids {
		if checkID(id) == nil {
			good = append(good, id)
		}
	}
	return s.Missing(ctx, good)
}

// compare compares a document of a with what b has under its id.
func (c *comparison) compare(a, b moved) {
	if errors.Is(a.err, ErrCorrupt) || errors.Is(b.err, ErrCorrupt) {
		if a.err == nil {
			c.spoilt++
			c.sumA.add(c.spelling.hash(a.id, a.value))
		}
		if b.err == nil {
			c.sumB.add(c.spelling.hash(b.id, b.value))
		}
		c.differ(a.id, Unreadable)
		return
	}
	switch {
	case a.err != nil && b.err != nil:
		return
	case b.err != nil:
		c.only(&c.sumA, a, OnlyInA)
		return
	case a.err != nil:
		c.only(&c.sumB, b, OnlyInB)
		return
	}
	sum := c.spelling.hash(a.id, a.value)
	c.sumA.add(sum)
	if !bytes.Equal(a.value, b.value) && !c.spelling.sameAsHashed(a.id, b.value) {
		c.sumB.add(c.spelling.hash(b.id, b.value))
		c.differ(a.id, OtherValue)
		return
	}
	c.sumB.add(sum)
	if !c.timeless && !sameTTL(a.ttl, b.ttl, c.ttl) {
		c.differ(a.id, OtherTTL)
	}
}

// extra is what b has and a has not.
func (c *comparison) extra(b moved) {
	switch {
	case errors.Is(b.err, ErrCorrupt):
		c.differ(b.id, Unreadable)
	case b.err == nil:
		c.only(&c.sumB, b, OnlyInB)
	}
}

func (c *comparison) only(sum *setDigest, d moved, kind DifferenceKind) {
	if d.ttl > 0 && d.ttl <= ttlSlack {
		return
	}
	sum.add(c.spelling.hash(d.id, d.value))
	c.differ(d.id, kind)
}

func (c *comparison) differ(id string, kind DifferenceKind) {
	c.found[kind]++
	if c.note != nil {
		c.note(Difference{id, kind})
	}
}

// ttlSlack is what two times to live may differ by.
const ttlSlack = time.Second

// manyYears are more than anybody counts. [Expirer] reads what is beyond 292
// years as that, in a store that has it and in a copy made years ago.
const manyYears = 200 * 365 * 24 * time.Hour

// sameTTL compares times to live; what lives for ever in a may have the time
// given in b, or what is left of it.
func sameTTL(a, b, given time.Duration) bool {
	if a == 0 && given > 0 {
		return b > 0 && b-given <= ttlSlack
	}
	a, b = min(a, manyYears), min(b, manyYears)
	return (a == 0) == (b == 0) && (a-b).Abs() <= ttlSlack
}

// after is d when some time has passed.
func (d moved) after(passed time.Duration) moved {
	if d.err != nil || d.ttl == 0 {
		return d
	}
	if d.ttl = roundTTL(d.ttl - passed); d.ttl <= 0 {
		d.err = ErrNotFound
	}
	return d
}

// expires reports whether a store knows times to live.
func expires(s Store) bool {
	_, ok := As[Expirer](s)
	return ok
}

// namespaceOf is that of the first store that is of a built-in backend.
func namespaceOf(stores ...Store) string {
	for _, s := range stores {
		if own, ok := As[*store](s); ok {
			return own.namespace
		}
	}
	return ""
}

// failed makes one *Error of what calls of two stores returned.
func failed(op, namespace string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Namespace: namespace, Err: err}
	var inner *Error
	var named *withID
	switch {
	case errors.As(err, &inner):
		e.ID = inner.ID
	case errors.As(err, &named):
		e.ID = named.id
	}
	return e
}

// onSide says of which store an error is.
func onSide(side string, err error) error {
	text := err.Error()
	if e, ok := err.(*Error); ok { //nolint:errorlint // Only the outermost is replaced.
		text = e.Err.Error()
	}
	return &veiled{side + ": " + text, err}
}
