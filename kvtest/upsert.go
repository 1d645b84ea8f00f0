package kvtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ngraf/kv"
)

func upsertCases() []Case {
	return []Case{
		{Name: "stores every item", Sentence: sUpsert, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `[2]`, "c", `{"d":3}`)
			e.want(s, "a", `1`, "b", `[2]`, "c", `{"d":3}`)
		}},
		{Name: "replaces the whole value", Sentence: sUpsert, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `{"x":1,"y":2}`, "b", `{"x":1}`, "c", `"a longer text"`)
			e.put(s, "a", `{"y":3}`, "b", `null`, "c", `1`)
			e.want(s, "a", `{"y":3}`, "b", `null`, "c", `1`)
		}},
		{Name: "leaves other ids alone", Sentence: sUpsert, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `2`)
			e.put(s, "b", `3`, "c", `4`)
			e.want(s, "a", `1`, "b", `3`, "c", `4`)
		}},
		{Name: "null replaces a value", Sentence: sNull, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			e.put(s, "a", `null`)
			e.want(s, "a", `null`)
		}},
	}
}

func batchCases() []Case {
	return []Case{
		{Name: "repeated Upsert is safe", Sentence: sRepeat, check: func(e *env) {
			s := e.open(space)
			docs := []string{"a", `1`, "b", `{"c":[2]}`}
			for range 3 {
				e.put(s, docs...)
			}
			// A write that its context ended may have been applied or not.
			err := s.Upsert(cancelled(e), items("c", `3`))
			if err == nil {
				e.breach("Upsert with a cancelled context: nil, want an error")
			}
			e.put(s, "c", `3`)
			e.want(s, append(docs, "c", `3`)...)
		}},
		{Name: "10,000 items", Sentence: sStored, check: func(e *env) {
			s := e.open(space)
			all := numbered("k", 10_000)
			e.must(s.Upsert(e.ctx, all), "Upsert")
			got, err := s.GetMany(e.ctx, sorted(all))
			e.must(err, "GetMany")
			for i, id := range sorted(all) {
				if i >= len(got) || !same(got[i], string(all[id])) {
					e.halt("item %s of 10,000 is not what was stored", id)
				}
			}
		}},
		{Name: "value of 16 MiB", Sentence: sStored, check: func(e *env) {
			const size = 16 << 20
			if e.h.MaxValueBytes < size {
				e.Skipf("the harness allows %d bytes a value", e.h.MaxValueBytes)
			}
			s := e.open(space)
			big := text(size)
			e.put(s, "big", big, "small", `1`)
			e.want(s, "big", big, "small", `1`)
		}},
		{Name: "one bad value and nothing is written", Sentence: sChecked, check: func(e *env) {
			e.wantRefused(e.open(space), "Upsert", upsert, badBatch(`{"bad":`))
		}},
		{Name: "one bad id and nothing is written", Sentence: sChecked, check: func(e *env) {
			batch := goodBatch()
			batch["~\xff"] = json.RawMessage(`1`)
			e.wantRefused(e.open(space), "Upsert", upsert, batch)
		}},
	}
}

// A write is Upsert, Insert or UpsertTTL, the last two if the store has them.
type write func(e *env, s kv.Store, items map[string]json.RawMessage) error

func upsert(e *env, s kv.Store, items map[string]json.RawMessage) error {
	return s.Upsert(e.ctx, items)
}

func insert(e *env, s kv.Store, items map[string]json.RawMessage) error {
	_, err := as[kv.Inserter](e, s).Insert(e.ctx, items)
	return err
}

func upsertTTL(e *env, s kv.Store, items map[string]json.RawMessage) error {
	return as[kv.Expirer](e, s).UpsertTTL(e.ctx, items, hour)
}

// goodBatch has so many items that a store which checks as it writes has
// hardly a chance to meet the bad one first.
func goodBatch() map[string]json.RawMessage { return numbered("good", 20) }

// badBatch adds an item whose value should be refused. It sorts last.
func badBatch(value string) map[string]json.RawMessage {
	batch := goodBatch()
	batch["~bad"] = json.RawMessage(value)
	return batch
}

// wantRefused checks that a batch is refused and that nothing of it is there,
// neither where there was a value nor where there was none.
func (e *env) wantRefused(s kv.Store, call string, do write, batch map[string]json.RawMessage) {
	e.Helper()
	e.put(s, "good000000", `"old"`)
	e.wantErr(call, do(e, s, batch), kv.ErrInvalid)
	e.want(s, "good000000", `"old"`)
	for _, id := range sorted(goodBatch())[1:] {
		if _, err := s.Get(e.ctx, id); !errors.Is(err, kv.ErrNotFound) {
			e.halt("after a refused %s Get of one of its items: error %v, want ErrNotFound", call, err)
		}
	}
	if _, ok := batch["~bad"]; ok {
		e.wantAbsent(s, "~bad")
	}
}

// text is a JSON string of so many bytes, quotes included.
func text(size int) string { return `"` + strings.Repeat("x", size-2) + `"` }

// cancelled is a context that is done.
func cancelled(e *env) context.Context {
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	return ctx
}

func limitCases() []Case {
	var cases []Case
	for _, depth := range []int{511, 512} {
		cases = append(cases, Case{Name: fmt.Sprintf("depth %d is accepted", depth), Sentence: sValue, check: func(e *env) {
			s := e.open(space)
			e.put(s, "array", nested(depth), "object", strings.Repeat(`{"a":`, depth)+`1`+strings.Repeat(`}`, depth))
			e.want(s, "array", nested(depth))
		}})
	}
	for _, depth := range []int{513, 100_000} {
		cases = append(cases, Case{Name: fmt.Sprintf("depth %d is refused", depth), Sentence: sValue, check: func(e *env) {
			s := e.open(space)
			e.wantRefused(s, "Upsert", upsert, badBatch(nested(depth)))
			e.wantRefused(s, "Upsert", upsert, badBatch(strings.Repeat(`{"a":`, depth)+`1`+strings.Repeat(`}`, depth)))
		}})
	}
	cases = append(cases, Case{Name: "brackets in strings and siblings are no depth", Sentence: sValue, check: func(e *env) {
		s := e.open(space)
		wide := `["` + strings.Repeat(`[{\"`, 1000) + `"` + strings.Repeat(`,[],{}`, 1000) + `]`
		e.put(s, "wide", wide)
		e.want(s, "wide", wide)
	}})
	for _, over := range []int{-1, 0, 1} {
		name := fmt.Sprintf("value of the limit%+d bytes", over)
		cases = append(cases, Case{Name: name, Sentence: sValue, check: func(e *env) {
			if e.h.MaxValueBytes > 1<<20 {
				e.Skipf("the harness allows values over 1 MiB, and the limit is tested below that")
			}
			value := text(int(e.h.MaxValueBytes) + over)
			if over > 0 {
				e.wantRefused(e.open(space), "Upsert", upsert, badBatch(value))
				return
			}
			s := e.open(space)
			e.put(s, "value", value)
			e.want(s, "value", value)
		}})
	}
	cases = append(cases, Case{Name: "white space does not count towards the limit", Sentence: sValue, check: func(e *env) {
		if e.h.MaxValueBytes > 1<<20 {
			e.Skipf("the harness allows values over 1 MiB, and the limit is tested below that")
		}
		s := e.open(space)
		long := text(int(e.h.MaxValueBytes) - 2)
		e.put(s, "value", "[ \n"+long+strings.Repeat(" ", 1000)+"]")
		e.want(s, "value", "["+long+"]")
		e.wantRefused(s, "Upsert", upsert, badBatch("[ "+long+"1]"))
	}})
	return cases
}
