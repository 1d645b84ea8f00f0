package kv

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"
)

// A differenceKind says in what a document differs. It is kv.DifferenceKind.
type differenceKind int

const (
	onlyInA differenceKind = iota
	onlyInB
	otherValue
	otherTTL
	unreadable
)

// A difference is one document that two stores do not have alike.
type difference struct {
	id   string
	kind differenceKind
}

// contents are kv.Contents: the documents of a store, summed up.
type contents struct {
	Documents int
	Digest    string
}

func contentsOf(d *setDigest) contents { return contents{Documents: d.count(), Digest: d.String()} }

// verify compares two stores. It sums up what it saw of both, and notes each
// difference, before an error, too.
func verify(ctx context.Context, a, b *side, note func(difference)) (inA, inB contents, err error) {
	c := comparison{a: a, b: b, note: note}
	err = c.run(ctx)
	return contentsOf(&c.sumA), contentsOf(&c.sumB), err
}

// A comparison of two stores.
type comparison struct {
	a, b *side
	ttl  time.Duration    // of those in b that live for ever in a; 0: for ever
	note func(difference) // may be nil
	seen func(docs int)   // after each page of a; may be nil

	sumA, sumB setDigest
	found      map[differenceKind]int
	spoilt     int  // those of unreadable that are sound in a
	timeless   bool // one side knows no times to live
	spelling   spelling
}

func (c *comparison) run(ctx context.Context) error {
	c.found = make(map[differenceKind]int)
	c.timeless = c.a.expirer == nil || c.b.expirer == nil
	other := newReader(c.b)
	for p, err := range readAhead(ctx, c.a, c.a.pages(ctx)) {
		if err != nil {
			return c.a.named("the first store", err)
		}
		theirs, at, err := other.alike(ctx, p.docs)
		if err != nil {
			return c.b.named("the second store", err)
		}
		for i := range p.docs {
			c.compare(p.docs[i].after(at[i].Sub(p.at)), theirs[i])
		}
		if c.seen != nil {
			c.seen(len(p.docs))
		}
	}
	for p, err := range readAhead(ctx, c.b, c.b.beyond(ctx, c.a)) {
		if err != nil {
			return c.b.named("the stores", err)
		}
		for _, d := range p.docs {
			c.extra(d)
		}
	}
	return nil
}

// beyond lists the ids of s that other has not.
func (s *side) beyond(ctx context.Context, other *side) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for ids, err := range s.pages(ctx) {
			if err == nil {
				ids, err = other.missing(ctx, ids)
			}
			if (err != nil || len(ids) > 0) && !yield(ids, err) || err != nil {
				return
			}
		}
	}
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
		c.differ(a.id, unreadable)
		return
	}
	switch {
	case a.err != nil && b.err != nil:
		return
	case b.err != nil:
		c.only(&c.sumA, a, onlyInA)
		return
	case a.err != nil:
		c.only(&c.sumB, b, onlyInB)
		return
	}
	sum := c.spelling.hash(a.id, a.value)
	c.sumA.add(sum)
	if !bytes.Equal(a.value, b.value) && !c.spelling.sameAsHashed(a.id, b.value) {
		c.sumB.add(c.spelling.hash(b.id, b.value))
		c.differ(a.id, otherValue)
		return
	}
	c.sumB.add(sum)
	if !c.timeless && !sameTTL(a.ttl, b.ttl, c.ttl) {
		c.differ(a.id, otherTTL)
	}
}

// extra is what b has and a has not.
func (c *comparison) extra(b moved) {
	switch {
	case errors.Is(b.err, ErrCorrupt):
		c.differ(b.id, unreadable)
	case b.err == nil:
		c.only(&c.sumB, b, onlyInB)
	}
}

func (c *comparison) only(sum *setDigest, d moved, kind differenceKind) {
	if d.ttl > 0 && d.ttl <= ttlSlack {
		return
	}
	sum.add(c.spelling.hash(d.id, d.value))
	c.differ(d.id, kind)
}

func (c *comparison) differ(id string, kind differenceKind) {
	c.found[kind]++
	if c.note != nil {
		c.note(difference{id, kind})
	}
}

// ttlSlack is what two times to live may differ by.
const ttlSlack = time.Second

// manyYears are more than anybody counts. What is beyond 292 years is read as
// that, in a store that has it and in a copy made years ago.
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
