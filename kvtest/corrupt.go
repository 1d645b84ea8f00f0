package kvtest

import (
	"errors"
	"fmt"

	"github.com/ngraf/kv"
)

// plants are bytes that a foreign program may have left. Which of them can
// stand in a backend is for the harness to say.
func plants() []row {
	return []row{
		{"NaN", `{"x":NaN}`},
		{"bare NaN", `NaN`},
		{"Infinity", `[1,-Infinity]`},
		{"text", `not json`},
		{"a truncated object", `{"x":1`},
		{"no bytes", ``},
		{"bad UTF-8", "{\"x\":\"\xff\"}"},
		{"trailing data", `{"x":1} {"x":2}`},
	}
}

// nan is what Python writes and JSON does not know.
const nan = `{"x":NaN}`

// planted opens space with raw under "bad" and documents around it.
func (e *env) planted(raw string) kv.Store {
	e.Helper()
	e.plant(map[string][]byte{"bad": []byte(raw)})
	s := e.open(space)
	e.put(s, "a", `1`, "b", `{"x":2,"y":3}`)
	return s
}

func (e *env) plant(raw map[string][]byte) {
	e.Helper()
	if e.h.Plant == nil {
		e.Skipf("the harness has no Plant")
	}
	err := e.h.Plant(space, raw)
	if errors.Is(err, errors.ErrUnsupported) {
		e.Skipf("the harness cannot plant such a value: %v", err)
	}
	if err != nil {
		e.Fatalf("kvtest: the harness did not plant a value: %v", err)
	}
}

func corruptCases() []Case {
	var cases []Case
	for _, r := range plants() {
		cases = append(cases, Case{Name: r.name, Sentence: sCorrupt, check: func(e *env) {
			s := e.planted(r.value)
			_, err := s.Get(e.ctx, "bad")
			e.wantErr("Get of a corrupt value", err, kv.ErrCorrupt)
			if errors.Is(err, kv.ErrNotFound) {
				e.breach("Get of a corrupt value: error %v matches ErrNotFound too", err)
			}
			e.want(s, "a", `1`, "b", `{"x":2,"y":3}`)
		}})
	}
	return append(cases,
		Case{Name: "GetMany fills in the other elements", Sentence: sSomeCorrupt, check: func(e *env) { manyCorrupt(e, e.planted(nan), `{"x":2,"y":3}`) }},
		Case{Name: "GetMany with fields fills in the other elements", Sentence: sSomeCorrupt, check: func(e *env) {
			manyCorrupt(e, e.planted(nan), `{"y":3}`, "y")
		}},
		Case{Name: "GetMany without the id is not concerned", Sentence: sCorrupt, check: func(e *env) {
			e.wantMany(e.planted(nan), []string{"b", "a", "x"}, nil, `{"x":2,"y":3}`, `1`, "")
		}})
}

func presentCases() []Case {
	return []Case{
		{Name: "counts as present for Missing", Sentence: sPresent, check: func(e *env) {
			got, err := e.planted(nan).Missing(e.ctx, []string{"x", "bad", "a"})
			e.wantList("Missing", got, err, "x")
		}},
		{Name: "counts as present for Keys", Sentence: sPresent, check: func(e *env) {
			e.wantList("Keys", e.list(e.planted(nan)), nil, "a", "b", "bad")
		}},
		{Name: "counts as present for Insert", Sentence: sPresent, check: func(e *env) {
			s := e.planted(nan)
			n, err := as[kv.Inserter](e, s).Insert(e.ctx, items("bad", `1`, "new", `2`))
			e.wantCount("Insert", n, err, 1)
			e.wantErr("Get", call(s.Get(e.ctx, "bad")), kv.ErrCorrupt)
		}},
		{Name: "counts as present for TTL", Sentence: sPresent, check: func(e *env) {
			e.wantTTL(e.planted(nan), "bad", 0, 0)
		}},
		{Name: "Upsert replaces it", Sentence: sPresent, check: func(e *env) {
			s := e.planted(nan)
			e.put(s, "bad", `{"x":1}`)
			e.want(s, "bad", `{"x":1}`)
			e.wantMany(s, []string{"bad", "a"}, nil, `{"x":1}`, `1`)
		}},
		{Name: "Delete removes and counts it", Sentence: sPresent, check: func(e *env) {
			s := e.planted(nan)
			n, err := s.Delete(e.ctx, "bad", "a")
			e.wantCount("Delete", n, err, 2)
			e.wantAbsent(s, "bad", "a")
		}},
		{Name: "Drop removes it", Sentence: sDrop, check: func(e *env) {
			s := e.planted(nan)
			e.must(s.Drop(e.ctx), "Drop")
			e.wantAbsent(s, "bad", "a", "b")
		}},
		{Name: "stays as it is through Close and Open", Sentence: sCorrupt, check: func(e *env) {
			s := e.planted(nan)
			e.must(s.Flush(e.ctx), "Flush")
			s = e.reopen(s, space)
			e.wantErr("Get", call(s.Get(e.ctx, "bad")), kv.ErrCorrupt)
			e.want(s, "a", `1`)
		}},
		{Name: "error names the id in ID and not in its text", Sentence: sText, check: func(e *env) {
			e.plant(map[string][]byte{marker: []byte(`{"` + marker + `":NaN}`)})
			s := e.open(space)
			err := call(s.Get(e.ctx, marker))
			e.wantErr("Get", err, kv.ErrCorrupt)
			e.wantErrorID("Get of a corrupt value", err, marker)
			e.wantDiscreet("Get", err)
			e.wantDiscreet("GetMany", call(s.GetMany(e.ctx, []string{marker, "a"})))
		}},
		{Name: "JSON of a foreign program is a value", Sentence: sSpace, check: func(e *env) {
			e.plant(map[string][]byte{"a": []byte("{\n  \"x\": [1.0, \"\\u00e9\"]\n}"), "b": []byte(`null`)})
			s := e.open(space)
			e.want(s, "a", `{"x":[1.0,"\u00e9"]}`, "b", `null`)
		}},
	}
}

func manyCorrupt(e *env, s kv.Store, whole string, fields ...string) {
	e.Helper()
	got, err := s.GetMany(e.ctx, []string{"a", "bad", "x", "b", "bad"}, fields...)
	e.wantErr("GetMany", err, kv.ErrCorrupt)
	if len(got) != 5 {
		e.halt("GetMany of 5 ids returned %d elements beside %v", len(got), err)
	}
	if !same(got[0], `1`) || got[2] != nil || !same(got[3], whole) {
		e.breach("GetMany returned %s beside its error", show(fmt.Sprintf("%q", got)))
	}
}
