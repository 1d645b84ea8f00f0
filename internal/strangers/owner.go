package strangers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/fault"
)

// A group is the owners of one namespace. Who drops it is alone in it.
type group struct {
	Namespace
	report   *Report
	dropping sync.RWMutex
	owners   []*owner
}

// An owner alone writes some documents, one call after the other.
type owner struct {
	*group
	docs []*doc
}

// A doc is a document, and what its owner knows of it.
type doc struct {
	id string

	mu sync.Mutex // Others ask what they have read.
	Ledger
}

func newGroup(n Namespace, r *Report, number int) []*owner {
	g := &group{Namespace: n, report: r}
	for i := range perNamespace {
		o := &owner{group: g}
		for k := range perOwner {
			o.docs = append(o.docs, &doc{id: fmt.Sprintf("doc-%d-%d-%d", number, i, k)})
		}
		g.owners = append(g.owners, o)
	}
	return g.owners
}

// content is a version of a document. Most are small, and a few larger than
// what travels in company.
func content(id string, v Version) json.RawMessage {
	size := int(v) * 37 % 200
	switch {
	case v%61 == 0:
		size += 40 << 10
	case v%17 == 0:
		size += 3 << 10
	}
	return json.RawMessage(fmt.Sprintf(`{"id":%q,"version":%d,"pad":"%s"}`, id, v, strings.Repeat("x", size)))
}

// versionIn returns which version of a document a value is, or -1.
func versionIn(id string, value json.RawMessage) Version {
	if value == nil {
		return Absent
	}
	var named struct{ Version Version }
	if json.Unmarshal(value, &named) != nil || named.Version <= Absent || string(content(id, named.Version)) != string(value) {
		return -1
	}
	return named.Version
}

func (d *doc) locked(do func(l *Ledger)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do(&d.Ledger)
}

func (d *doc) next() (v Version) {
	d.locked(func(l *Ledger) { v = l.Issue() })
	return v
}

// wrote notes what a write has come to.
func (d *doc) wrote(v Version, ok bool) {
	d.locked(func(l *Ledger) {
		if ok {
			l.Acknowledge(v)
		} else {
			l.Doubt(v)
		}
	})
}

// read looks at a value that was read, by the owner or by somebody else, who
// does not know what may be there.
func (o *owner) read(d *doc, value json.RawMessage, mine bool) {
	o.report.Reads.Add(1)
	v := versionIn(d.id, value)
	d.locked(func(l *Ledger) {
		err := l.Check(v)
		if err != nil && (mine || errors.Is(err, ErrWrong)) {
			o.report.note(err, "%s is version %d (%.80s), %d was acknowledged, in doubt are %v and computed %v",
				d.id, v, value, l.acknowledged, l.doubted, l.computed)
		}
	})
}

// own returns some of the owner's documents.
func (o *owner) own(most int) []*doc {
	var some []*doc
	for _, i := range rand.Perm(len(o.docs))[:1+rand.N(most)] {
		some = append(some, o.docs[i])
	}
	return some
}

// call makes one call.
func (o *owner) call(p *phase) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch rand.N(4) {
	case 0:
		if p.stay() {
			defer p.left()
			ctx = context.Background()
			if p.patience > 0 {
				ctx, cancel = context.WithTimeout(ctx, p.patience)
				defer cancel()
			}
			break
		}
		fallthrough
	case 1:
		defer time.AfterFunc(rand.N(patience), cancel).Stop()
	default:
		ctx, cancel = context.WithTimeout(ctx, rand.N(patience))
		defer cancel()
	}
	kind := rand.N(100)
	if kind == 0 {
		o.drop(ctx)
		return
	}
	o.dropping.RLock()
	defer o.dropping.RUnlock()
	switch {
	case kind < 30:
		o.get(ctx, o.own(1)[0])
	case kind < 40:
		o.getMany(ctx)
	case kind < 70:
		_ = o.upsert(ctx, o.own(1))
	case kind < 80:
		_ = o.upsert(ctx, o.own(perOwner))
	case kind < 90 || o.Compute == nil:
		o.remove(ctx, o.own(2))
	default:
		o.compute(ctx, o.own(1)[0])
	}
}

func (o *owner) get(ctx context.Context, d *doc) {
	value, err := o.Get(ctx, d.id)
	if o.report.answered("Get", err) {
		o.read(d, value, true)
	}
}

// getMany reads documents of the owner and of his neighbours.
func (o *owner) getMany(ctx context.Context) {
	docs := o.own(perOwner)
	mine := len(docs)
	for range rand.N(10) {
		docs = append(docs, o.owners[rand.N(len(o.owners))].own(1)...)
	}
	ids := make([]string, len(docs))
	for i, d := range docs {
		ids[i] = d.id
	}
	values, err := o.GetMany(ctx, ids)
	if !o.report.answered("GetMany", err) {
		return
	}
	for i, d := range docs {
		o.read(d, values[i], i < mine)
	}
}

// readOwn reads all documents of the owner.
func (o *owner) readOwn(ctx context.Context) {
	for _, d := range o.docs {
		o.get(ctx, d)
	}
	o.getMany(ctx)
}

func (o *owner) upsert(ctx context.Context, docs []*doc) error {
	items := make(map[string]json.RawMessage, len(docs))
	versions := make([]Version, len(docs))
	for i, d := range docs {
		versions[i] = d.next()
		items[d.id] = content(d.id, versions[i])
	}
	err := o.Upsert(ctx, items)
	ok := o.report.answered("Upsert", err)
	for i, d := range docs {
		d.wrote(versions[i], ok)
	}
	return err
}

func (o *owner) remove(ctx context.Context, docs []*doc) {
	ids := make([]string, len(docs))
	for i, d := range docs {
		ids[i] = d.id
	}
	_, err := o.Delete(ctx, ids...)
	ok := o.report.answered("Delete", err)
	for _, d := range docs {
		d.wrote(Absent, ok)
	}
}

func (o *owner) drop(ctx context.Context) {
	o.dropping.Lock()
	defer o.dropping.Unlock()
	ok := o.report.answered("Drop", o.Drop(ctx))
	for _, other := range o.owners {
		for _, d := range other.docs {
			d.wrote(Absent, ok)
		}
	}
}

// compute asks for a document, or stores a new version.
func (o *owner) compute(ctx context.Context, d *doc) {
	v := d.next()
	value, err := o.Compute(ctx, d.id, func() json.RawMessage { return content(d.id, v) })
	switch ok := o.report.answered("Compute", err); {
	case !ok:
		d.locked(func(l *Ledger) { l.DoubtComputed(v) })
	case versionIn(d.id, value) == v:
		d.wrote(v, true)
	default: // There was one. What this call might have computed was not wanted.
		o.read(d, value, true)
	}
}

// settle writes all documents of the owner, as often as it takes for the write
// to be acknowledged.
func (o *owner) settle(ctx context.Context) error {
	items := make(map[string]json.RawMessage, len(o.docs))
	versions := make([]Version, len(o.docs))
	for i, d := range o.docs {
		versions[i] = d.next()
		items[d.id] = content(d.id, versions[i])
	}
	for !o.report.answered("Upsert", o.Upsert(ctx, items)) {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: a write was not acknowledged within a minute", fault.ErrUnavailable)
		}
	}
	for i, d := range o.docs {
		d.locked(func(l *Ledger) { l.Settle(versions[i]) })
	}
	return nil
}
