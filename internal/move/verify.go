package move

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"

	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/merge"
)

// A DifferenceKind says in what a document differs. It is kv.DifferenceKind.
type DifferenceKind int

// The kinds, in the order of kv's.
const (
	OnlyInA DifferenceKind = iota
	OnlyInB
	OtherValue
	OtherTTL
	Unreadable
)

// A Difference is one document that two stores do not have alike.
type Difference struct {
	ID   string
	Kind DifferenceKind
}

// Contents are kv.Contents: the documents of a store, summed up.
type Contents struct {
	Documents int
	Digest    string
}

func contentsOf(d *digest.Set) Contents { return Contents{Documents: d.Count(), Digest: d.String()} }

// Verify compares two stores. It sums up what it saw of both, and notes each
// difference, before an error, too.
func Verify(ctx context.Context, a, b *Side, note func(Difference)) (inA, inB Contents, err error) {
	c := comparison{a: a, b: b, note: note}
	err = c.run(ctx)
	return contentsOf(&c.sumA), contentsOf(&c.sumB), err
}

// A comparison of two stores.
type comparison struct {
	a, b *Side
	ttl  time.Duration    // of those in b that live for ever in a; 0: for ever
	note func(Difference) // may be nil
	seen func(docs int)   // after each page of a; may be nil

	sumA, sumB digest.Set
	found      map[DifferenceKind]int
	spoilt     int  // those of Unreadable that are sound in a
	timeless   bool // one side knows no times to live
	spelling   digest.Spelling
}

func (c *comparison) run(ctx context.Context) error {
	c.found = make(map[DifferenceKind]int)
	c.timeless = c.a.Expirer == nil || c.b.Expirer == nil
	other := NewReader(c.b)
	for p, err := range readAhead(ctx, c.a, c.a.Pages(ctx)) {
		if err != nil {
			return c.a.named("the first store", err)
		}
		theirs, at, err := other.alike(ctx, p.Docs)
		if err != nil {
			return c.b.named("the second store", err)
		}
		for i := range p.Docs {
			c.compare(p.Docs[i].After(at[i].Sub(p.At)), theirs[i])
		}
		if c.seen != nil {
			c.seen(len(p.Docs))
		}
	}
	for p, err := range readAhead(ctx, c.b, c.b.beyond(ctx, c.a)) {
		if err != nil {
			return c.b.named("the stores", err)
		}
		for _, d := range p.Docs {
			c.extra(d)
		}
	}
	return nil
}

// beyond lists the ids of s that other has not.
func (s *Side) beyond(ctx context.Context, other *Side) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for ids, err := range s.Pages(ctx) {
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
func (c *comparison) compare(a, b Moved) {
	if errors.Is(a.Err, fault.ErrCorrupt) || errors.Is(b.Err, fault.ErrCorrupt) {
		if a.Err == nil {
			c.spoilt++
			c.sumA.Add(c.spelling.Hash(a.ID, a.Value))
		}
		if b.Err == nil {
			c.sumB.Add(c.spelling.Hash(b.ID, b.Value))
		}
		c.differ(a.ID, Unreadable)
		return
	}
	switch {
	case a.Err != nil && b.Err != nil:
		return
	case b.Err != nil:
		c.only(&c.sumA, a, OnlyInA)
		return
	case a.Err != nil:
		c.only(&c.sumB, b, OnlyInB)
		return
	}
	sum := c.spelling.Hash(a.ID, a.Value)
	c.sumA.Add(sum)
	if !bytes.Equal(a.Value, b.Value) && !c.spelling.SameAsHashed(a.ID, b.Value) {
		c.sumB.Add(c.spelling.Hash(b.ID, b.Value))
		c.differ(a.ID, OtherValue)
		return
	}
	c.sumB.Add(sum)
	if !c.timeless && !sameTTL(a.TTL, b.TTL, c.ttl) {
		c.differ(a.ID, OtherTTL)
	}
}

// extra is what b has and a has not.
func (c *comparison) extra(b Moved) {
	switch {
	case errors.Is(b.Err, fault.ErrCorrupt):
		c.differ(b.ID, Unreadable)
	case b.Err == nil:
		c.only(&c.sumB, b, OnlyInB)
	}
}

func (c *comparison) only(sum *digest.Set, d Moved, kind DifferenceKind) {
	if d.TTL > 0 && d.TTL <= merge.TTLSlack {
		return
	}
	sum.Add(c.spelling.Hash(d.ID, d.Value))
	c.differ(d.ID, kind)
}

func (c *comparison) differ(id string, kind DifferenceKind) {
	c.found[kind]++
	if c.note != nil {
		c.note(Difference{id, kind})
	}
}

// sameTTL is for comparisons.
func sameTTL(a, b, given time.Duration) bool { return merge.SameTTL(a, b, given) }
