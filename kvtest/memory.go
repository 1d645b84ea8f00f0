package kvtest

import (
	"bytes"
	"encoding/json"
	"slices"
)

func memoryCases() []Case {
	cases := []Case{
		{Name: "Get hands out memory of the caller", Sentence: sMemory, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `"first"`, "b", `"second"`)
			got, err := s.Get(e.ctx, "a")
			e.must(err, "Get")
			scribble(got)
			e.want(s, "a", `"first"`, "b", `"second"`)
		}},
		{Name: "GetMany hands out memory of the caller", Sentence: sMemory, check: func(e *env) {
			scribbleMany(e, []string{"a", "b"}, nil)
		}},
		{Name: "GetMany with fields hands out memory of the caller", Sentence: sMemory, check: func(e *env) {
			scribbleMany(e, []string{"a", "b"}, []string{"f", "g"})
		}},
		{Name: "repeats in GetMany share no memory", Sentence: sMemory, check: func(e *env) { repeatsApart(e) }},
		{Name: "repeats in GetMany with fields share no memory", Sentence: sMemory, check: func(e *env) {
			repeatsApart(e, "f", "g")
		}},
		{Name: "elements of GetMany can be appended to", Sentence: sMemory, check: func(e *env) { appendTo(e) }},
		{Name: "elements of GetMany with fields can be appended to", Sentence: sMemory, check: func(e *env) {
			appendTo(e, "f", "g")
		}},
		{Name: "Missing hands out memory of the caller", Sentence: sMemory, check: missingApart},
		{Name: "ids that were passed are not changed", Sentence: sMemory, check: idsKept},
	}
	for _, w := range []struct {
		name string
		do   write
	}{{"Upsert", upsert}, {"Insert", insert}, {"UpsertTTL", upsertTTL}} {
		cases = append(cases, Case{Name: w.name + " keeps no memory it was given", Sentence: sMemory, check: func(e *env) {
			s := e.open(space)
			value := json.RawMessage(`{"f":"first"}`)
			given := map[string]json.RawMessage{"a": value, "b": json.RawMessage(`2`)}
			e.must(w.do(e, s, given), w.name)
			if !bytes.Equal(value, []byte(`{"f":"first"}`)) || len(given) != 2 {
				e.breach("%s changed what it was given", w.name)
			}
			scribble(value)
			given["b"] = json.RawMessage(`3`)
			given["c"] = json.RawMessage(`4`)
			delete(given, "a")
			e.must(s.Flush(e.ctx), "Flush")
			e.want(s, "a", `{"f":"first"}`, "b", `2`)
			e.wantAbsent(s, "c")
		}})
	}
	return cases
}

// scribble overwrites all of b, spare capacity included.
func scribble(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = '#'
	}
}

const (
	docA = `{"f":"first","g":[1]}`
	docB = `{"f":"second","g":[2]}`
)

func scribbleMany(e *env, ids, fields []string) {
	s := e.open(space)
	e.put(s, "a", docA, "b", docB)
	got, err := s.GetMany(e.ctx, ids, fields...)
	e.must(err, "GetMany")
	for _, v := range got {
		scribble(v)
	}
	clear(got)
	e.wantMany(s, []string{"a", "b"}, fields, docA, docB)
	e.want(s, "a", docA, "b", docB)
}

func repeatsApart(e *env, fields ...string) {
	s := e.open(space)
	e.put(s, "a", docA)
	got, err := s.GetMany(e.ctx, []string{"a", "a", "a"}, fields...)
	e.must(err, "GetMany")
	if len(got) != 3 {
		e.halt("GetMany of 3 ids returned %d elements", len(got))
	}
	for i := range got[1] {
		got[1][i] = '#'
	}
	if !same(got[0], docA) || !same(got[2], docA) {
		e.breach("after a change of element 1 the others are %s and %s, want %s", show(string(got[0])), show(string(got[2])), docA)
	}
}

// appendTo catches elements that are cut from one buffer and can grow into
// each other.
func appendTo(e *env, fields ...string) {
	s := e.open(space)
	e.put(s, "a", docA, "b", docB)
	got, err := s.GetMany(e.ctx, []string{"a", "b", "a"}, fields...)
	e.must(err, "GetMany")
	if len(got) != 3 {
		e.halt("GetMany of 3 ids returned %d elements", len(got))
	}
	for i := range got {
		_ = append(got[i], "####"...)
	}
	for i, want := range []string{docA, docB, docA} {
		if !same(got[i], want) {
			e.breach("after an append to the element before, element %d is %s, want %s", i, show(string(got[i])), want)
		}
	}
	e.want(s, "a", docA, "b", docB)
}

func missingApart(e *env) {
	s := e.open(space)
	ids := []string{"x", "y"}
	got, err := s.Missing(e.ctx, ids)
	e.wantList("Missing", got, err, "x", "y")
	for i := range got {
		got[i] = "#"
	}
	if !slices.Equal(ids, []string{"x", "y"}) {
		e.breach("a change of what Missing returned changed the ids that it was given to %q", ids)
	}
}

func idsKept(e *env) {
	s := e.open(space)
	e.put(s, "b", `1`, "d", `2`)
	given := []string{"z", "b", "a", "b", "z", "d", "c"}
	ids, fields := slices.Clone(given), []string{"f", "b", "a", "f"}
	check := func(call string, err error) {
		e.must(err, call)
		if !slices.Equal(ids, given) {
			e.halt("%s changed the ids that it was given to %q", call, ids)
		}
	}
	check("Missing", call(s.Missing(e.ctx, ids)))
	check("GetMany", call(s.GetMany(e.ctx, ids, fields...)))
	if !slices.Equal(fields, []string{"f", "b", "a", "f"}) {
		e.breach("GetMany changed the fields that it was given to %q", fields)
	}
	check("Delete", call(s.Delete(e.ctx, ids...)))
}
