package jsonstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ngraf/kv/internal/fault"
)

// A record changes a state as one record of the journal does.
type record func(jsonState)

func putRecord(id string, d document) record { return func(s jsonState) { s[id] = d } }
func removeRecord(id string) record          { return func(s jsonState) { delete(s, id) } }
func dropRecord(s jsonState)                 { clear(s) }

// last is what is there, as far as it was acknowledged.
func (r *rig) last() jsonState { return r.chain[r.acked] }

// write makes a call that writes, and settles what became of its records.
func (r *rig) write(records []record, call func(context.Context) error) {
	if r.wrong != nil {
		return
	}
	for _, change := range records {
		next := maps.Clone(r.chain[len(r.chain)-1])
		change(next)
		r.chain = append(r.chain, next)
	}
	switch err := call(context.Background()); {
	case err == nil:
		r.acked = len(r.chain) - 1
		if r.policy == policyAlways {
			r.promise(r.acked)
		}
	case !r.injected:
		r.fail("an error without a cause: %w", err)
	case !errors.Is(err, fault.ErrUnavailable):
		r.fail("not ErrUnavailable: %w", err)
	default:
		r.branches = append(r.branches, r.chain[r.acked+1:]...)
		r.chain = r.chain[:r.acked+1]
	}
}

// promise notes that all up to chain[to] must survive from now on.
func (r *rig) promise(to int) {
	if to > r.durable {
		r.durable = to
	}
	r.branches = nil
}

// fresh makes a new value for an id, which names it.
func (r *rig) fresh(id string) string {
	r.seq++
	return fmt.Sprintf(`{"id":%q,"seq":%d,"text":%s}`, id, r.seq, freshTexts[r.seq%len(freshTexts)])
}

// freshTexts are texts of several sizes.
var freshTexts = func() (texts []string) {
	for _, size := range []int{0, 40, 300, 700, 1500} {
		texts = append(texts, fmt.Sprintf("%q", strings.Repeat("é", size/2)))
	}
	return texts
}()

func (r *rig) items(ids []string) map[string]json.RawMessage {
	items := make(map[string]json.RawMessage)
	for _, id := range ids {
		items[id] = json.RawMessage(r.fresh(id))
	}
	return items
}

// upsert is a step that stores new values; ttl 0 is for ever.
func doUpsert(ttl time.Duration, ids ...string) func(*rig) {
	return func(r *rig) { r.store1(ttl, r.items(ids)) }
}

// again is a step that stores the values that are there, with another time to
// live.
func doAgain(ttl time.Duration, ids ...string) func(*rig) {
	return func(r *rig) {
		items := make(map[string]json.RawMessage)
		for _, id := range ids {
			if d, ok := r.last().at(r.now)[id]; ok {
				items[id] = json.RawMessage(d.value)
			}
		}
		r.store1(ttl, items)
	}
}

func (r *rig) store1(ttl time.Duration, items map[string]json.RawMessage) {
	expires := int64(0)
	if ttl > 0 {
		expires = r.now + ttl.Milliseconds()
	}
	var records []record
	for _, id := range slices.Sorted(maps.Keys(items)) {
		records = append(records, putRecord(id, document{string(items[id]), expires}))
	}
	r.write(records, func(ctx context.Context) error { return r.store.UpsertTTL(ctx, items, ttl) })
}

func doInsert(ids ...string) func(*rig) {
	return func(r *rig) {
		items := r.items(ids)
		var records []record
		for _, id := range slices.Sorted(maps.Keys(items)) {
			if _, ok := r.last().at(r.now)[id]; !ok {
				records = append(records, putRecord(id, document{value: string(items[id])}))
			}
		}
		r.write(records, func(ctx context.Context) error {
			n, err := r.store.Insert(ctx, items)
			if err == nil && n != len(records) {
				r.fail("Insert stored %d, not %d", n, len(records))
			}
			return err
		})
	}
}

func doDelete(ids ...string) func(*rig) {
	return func(r *rig) {
		var records []record
		for _, id := range ids {
			if _, ok := r.last().at(r.now)[id]; ok {
				records = append(records, removeRecord(id))
			}
		}
		r.write(records, func(ctx context.Context) error {
			n, err := r.store.Delete(ctx, ids...)
			if err == nil && n != len(records) {
				r.fail("Delete removed %d, not %d", n, len(records))
			}
			return err
		})
	}
}

func doDrop(r *rig) { r.write([]record{dropRecord}, r.store.Drop) }

// flush keeps what was acknowledged before it.
func doFlush(r *rig) {
	if r.wrong == nil {
		r.durably(func() error { return r.store.Flush(context.Background()) })
	}
}

// tick is what the timer of everysec does.
func doTick(r *rig) {
	if r.wrong == nil {
		r.durably(func() error { return errors.Join(r.engine.syncLast(), r.engine.alone(r.engine.mark)) })
	}
}

func (r *rig) durably(call func() error) {
	before := r.acked
	switch err := call(); {
	case err == nil:
		r.promise(before)
	case !r.injected:
		r.fail("an error without a cause: %w", err)
	}
}

// compactWith is a step that writes while a compaction runs.
func doCompact(steps ...func(*rig)) func(*rig) {
	return func(r *rig) {
		r.during = func(r *rig) {
			for _, step := range steps {
				step(r)
			}
		}
		doFlush(r)
		r.during = nil
	}
}

func doWait(d time.Duration) func(*rig) { return func(r *rig) { r.now += d.Milliseconds() } }

func (r *rig) close() {
	r.durably(func() error { return r.store.Close() })
	if n := r.fs.Handles(); n != 0 {
		r.fail("%d files left open after Close", n)
	}
}

// reopen opens what has not crashed: what was acknowledged is there.
func (r *rig) reopen() {
	var err error
	r.engine, r.store, err = r.open(r.fs)
	for try := 0; try < 2 && err != nil && r.injected; try++ { // As many as can be injected.
		if n := r.fs.Handles(); n != 0 {
			r.fail("%d files left open after a failed open", n)
		}
		r.engine, r.store, err = r.open(r.fs)
	}
	if err != nil {
		r.fail("does not open: %w", err)
		return
	}
	if !r.injected {
		return
	}
	seen, err := r.look()
	same := func(s jsonState) bool { return maps.Equal(seen, s.at(r.now)) }
	switch i := slices.IndexFunc(r.branches, same); {
	case err != nil:
		r.fail("cannot be read: %w", err)
	case same(r.last()):
	case i >= 0:
		r.chain = append(r.chain, r.branches[i])
		r.acked = len(r.chain) - 1
	default:
		r.fail("has %v when reopened, not %v", brief(seen), brief(r.last().at(r.now)))
	}
}

// look observes without being watched.
func (r *rig) look() (jsonState, error) {
	hook := r.fs.SetHook(nil)
	defer func() { r.fs.SetHook(hook) }()
	return observe(r.engine, r.store)
}

func doReopen(r *rig) {
	r.close()
	r.reopen()
}

// script is the history that the proofs go through.
func script() []func(*rig) {
	batch := []string{"b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"}
	const short, long = 10 * time.Second, 10 * time.Minute
	return []func(*rig){
		doUpsert(0, "a"), doUpsert(0, "b", "c", "d"), doInsert("a", "e"), doDelete("b", "absent"),
		doUpsert(short, "a", "f"), doUpsert(0, "d"), doFlush, doFlush,
		doUpsert(0, batch...), doTick, doDelete("c", "d"), doInsert("c", "d"), doUpsert(long, "g"),
		doCompact(doUpsert(0, "d"), doDelete("e"), doUpsert(0, "e", "h"), doUpsert(0, batch...)),
		doUpsert(0, "b1"), doTick, doDelete("b2"), doReopen,
		// Another time to live alone does not change the document file.
		doUpsert(0, "x", "y"), doFlush, doAgain(long, "x"), doFlush, doAgain(0, "x"), doFlush, doReopen,
		doAgain(short, "y"), doWait(11 * time.Second), doInsert("y", "a"), doFlush,
		// One that has expired goes, one that came in its place stays.
		doUpsert(short, "f"), doFlush, doWait(11 * time.Second), doFlush, doUpsert(0, "f"), doUpsert(0, "z"),
		doCompact(doDrop, doUpsert(0, "a"), doUpsert(long, "f"), doTick), doDelete("a"), doUpsert(0, "a", "b"),
		doDrop, doUpsert(0, "b", "c"), doFlush, doCompact(), doUpsert(0, "b"), doReopen,
		doUpsert(long, "c"), doAgain(0, "c"), doDelete("b"), doReopen,
		doCompact(doUpsert(0, "q")), doUpsert(0, batch...), doUpsert(0, "r"), doDelete(batch...), doTick,
		doCompact(doUpsert(0, batch...), doTick, doUpsert(0, "s")), doDrop, doUpsert(0, "last"),
	}
}
