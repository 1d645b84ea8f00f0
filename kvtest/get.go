package kvtest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ngraf/kv"
)

func getCases() []Case {
	return []Case{
		{Name: "absent id is ErrNotFound", Sentence: sGet, check: func(e *env) {
			s := e.open(space)
			e.wantAbsent(s, "absent", "")
			e.put(s, "present", `1`)
			e.wantAbsent(s, "absent", "", "presen", "present ")
		}},
		{Name: "stored value is returned", Sentence: sGet, check: func(e *env) {
			s := e.open(space)
			docs := []string{"o", `{"a":{"b":[]}}`, "e", `{}`, "a", `[1,"2",null]`, "s", `"text"`,
				"z", `""`, "n", `0`, "t", `true`, "f", `false`}
			e.put(s, docs...)
			e.want(s, docs...)
		}},
		{Name: "null is a value", Sentence: sNull, check: func(e *env) {
			s := e.open(space)
			e.put(s, "nothing", `null`)
			e.want(s, "nothing", `null`)
		}},
	}
}

func getManyCases() []Case {
	return []Case{
		{Name: "one element per id in order", Sentence: sGetMany, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `"2"`, "c", `{"n":3}`)
			e.wantMany(s, []string{"c", "a", "b"}, nil, `{"n":3}`, `1`, `"2"`)
		}},
		{Name: "absent ids are nil", Sentence: sGetMany, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			e.wantMany(s, []string{"x", "a", "", "y"}, nil, "", `1`, "", "")
			e.wantMany(s, []string{"x"}, []string{"f"}, "")
		}},
		{Name: "null is not nil", Sentence: sNull, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `null`)
			e.wantMany(s, []string{"a", "b"}, nil, `null`, "")
		}},
		{Name: "repeated ids are answered each time", Sentence: sTwice, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "b", `2`)
			e.wantMany(s, []string{"a", "b", "a", "x", "x", "a"}, nil, `1`, `2`, `1`, "", "", `1`)
			e.put(s, "o", `{"p":1,"q":2}`)
			e.wantMany(s, []string{"o", "o"}, []string{"q"}, `{"q":2}`, `{"q":2}`)
		}},
		{Name: "10,000 ids keep their order", Sentence: sGetMany, check: func(e *env) {
			s := e.open(space)
			all := numbered("k", 10_000)
			e.must(s.Upsert(e.ctx, all), "Upsert")
			ids, want := make([]string, 0, len(all)), make([]string, 0, len(all))
			for i := range len(all) {
				// A step that has no factor in common with 10,000 meets each once.
				n := i * 7919 % len(all)
				ids = append(ids, fmt.Sprintf("k%06d", n))
				want = append(want, fmt.Sprintf(`{"n":%d}`, n))
			}
			ids[5000], want[5000] = "absent", ""
			e.wantMany(s, ids, nil, want...)
		}},
		{Name: "slice is nil after an error", Sentence: sNilSlice, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`)
			got, err := s.GetMany(e.ctx, []string{"a", "bad\xff"})
			if err == nil || got != nil {
				e.breach("GetMany with an id that is not UTF-8 = %d elements, %v, want nil and an error", len(got), err)
			}
			got, err = s.GetMany(cancelled(e), []string{"a"})
			if err == nil || got != nil {
				e.breach("GetMany with a cancelled context = %d elements, %v, want nil and an error", len(got), err)
			}
		}},
	}
}

// wantMany checks GetMany; an empty text stands for nil.
func (e *env) wantMany(s kv.Store, ids, fields []string, want ...string) {
	e.Helper()
	got, err := s.GetMany(e.ctx, ids, fields...)
	e.must(err, "GetMany")
	if len(got) != len(want) {
		e.halt("GetMany of %d ids returned %d elements", len(ids), len(got))
	}
	bad := 0
	for i, w := range want {
		if w == "" && got[i] == nil || w != "" && same(got[i], w) {
			continue
		}
		text := "nil"
		if got[i] != nil {
			text = show(string(got[i]))
		}
		if w == "" {
			w = "nil"
		}
		e.breach("GetMany: element %d, of id %s, is %s, want %s", i, show(ids[i]), text, w)
		if bad++; bad == 3 {
			return
		}
	}
}

// fieldsCases checks GetMany with fields, each on a value of its own.
func fieldsCases() []Case {
	rows := []struct {
		name, sentence string
		value, want    string
		fields         []string
	}{
		{"one member", sFields, `{"a":1,"b":2,"c":3}`, `{"b":2}`, []string{"b"}},
		{"stored order not that of the fields", sFields, `{"c":1,"a":2,"b":3}`, `{"c":1,"b":3}`, []string{"b", "c"}},
		{"missing member is left out", sFields, `{"a":1}`, `{"a":1}`, []string{"a", "z"}},
		{"no member at all is an empty object", sFields, `{"a":1}`, `{}`, []string{"z"}},
		{"empty object stays", sFields, `{}`, `{}`, []string{"a"}},
		{"repeated members are all there", sFields, `{"a":1,"b":2,"a":3}`, `{"a":1,"a":3}`, []string{"a"}},
		{"field named twice counts once", sFields, `{"a":1,"b":2}`, `{"a":1}`, []string{"a", "a"}},
		{"escaped name is its character", sFields, `{"\u0061":1,"b":2}`, `{"\u0061":1}`, []string{"a"}},
		{"escaped quote in a name", sFields, `{"x\"y":1,"b":2}`, `{"x\"y":1}`, []string{`x"y`}},
		{"backslash in a name", sFields, `{"x\\":1,"x":2}`, `{"x\\":1}`, []string{`x\`}},
		{"surrogate pair in a name", sFields, `{"\ud83d\ude00":1,"b":2}`, `{"\ud83d\ude00":1}`, []string{"\U0001F600"}},
		{"empty name", sFields, `{"":1,"b":2}`, `{"":1}`, []string{""}},
		{"names differ in case", sFields, `{"A":1,"a":2}`, `{"a":2}`, []string{"a"}},
		{"only the outer members", sFields, `{"b":{"a":1},"a":[{"a":2}]}`, `{"a":[{"a":2}]}`, []string{"a"}},
		{"names in strings are no members", sFields, `{"x":"\"a\":1,","a":"}{"}`, `{"a":"}{"}`, []string{"a"}},
		{"member keeps its bytes", sBytes, `{"a":{"z":1.0,"y":[1e400,"\u00e9\/"],"z":-0},"b":0}`,
			`{"a":{"z":1.0,"y":[1e400,"\u00e9\/"],"z":-0}}`, []string{"a"}},
		{"white space around members", sFields, " {\n \"a\" : 1 ,\t\"b\" : [ 2 ] }\r\n", `{"b":[2]}`, []string{"b"}},
		{"null member is a member", sFields, `{"a":null,"b":1}`, `{"a":null}`, []string{"a"}},
		{"array comes back whole", sWhole, `[{"a":1,"b":2}]`, `[{"a":1,"b":2}]`, []string{"a"}},
		{"string comes back whole", sWhole, `"{\"a\":1}"`, `"{\"a\":1}"`, []string{"a"}},
		{"number comes back whole", sWhole, `1.50`, `1.50`, []string{"a"}},
		{"null comes back whole", sWhole, `null`, `null`, []string{"a"}},
		{"none means whole", sNoFields, `{"a":1,"b":2}`, `{"a":1,"b":2}`, []string{}},
	}
	var cases []Case
	for _, r := range rows {
		cases = append(cases, Case{Name: "fields, " + r.name, Sentence: r.sentence, check: func(e *env) {
			s := e.open(space)
			e.put(s, "doc", r.value, "other", `{"a":"other"}`)
			e.wantMany(s, []string{"doc", "absent"}, r.fields, r.want, "")
		}})
	}
	return append(cases, Case{Name: "fields, long member", Sentence: sFields, check: func(e *env) {
		s := e.open(space)
		long := strings.Repeat("x", 100_000)
		e.put(s, "doc", `{"content":"`+long+`","title":"t","tail":"`+long+`"}`)
		e.wantMany(s, []string{"doc"}, []string{"title"}, `{"title":"t"}`)
		e.wantMany(s, []string{"doc"}, []string{"tail"}, `{"tail":"`+long+`"}`)
	}})
}

func missingCases() []Case {
	return []Case{
		{Name: "absent ids in order of first appearance without repeats", Sentence: sMissing, check: func(e *env) {
			s := e.open(space)
			e.put(s, "b", `1`, "d", `2`)
			got, err := s.Missing(e.ctx, []string{"z", "b", "a", "z", "d", "c", "a", "b", "z"})
			e.wantList("Missing", got, err, "z", "a", "c")
		}},
		{Name: "nothing absent is empty", Sentence: sMissing, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `1`, "", `2`)
			got, err := s.Missing(e.ctx, []string{"a", "", "a"})
			e.wantList("Missing", got, err)
		}},
		{Name: "everything is absent from an empty namespace", Sentence: sMissing, check: func(e *env) {
			s := e.open(space)
			got, err := s.Missing(e.ctx, []string{"b", "", "a"})
			e.wantList("Missing", got, err, "b", "", "a")
		}},
		{Name: "null is present", Sentence: sNull, check: func(e *env) {
			s := e.open(space)
			e.put(s, "a", `null`)
			got, err := s.Missing(e.ctx, []string{"a", "b"})
			e.wantList("Missing", got, err, "b")
		}},
		{Name: "10,000 ids", Sentence: sMissing, check: func(e *env) {
			s := e.open(space)
			all := numbered("k", 10_000)
			ids := sorted(all)
			var want []string
			for i, id := range ids {
				if i%3 == 0 {
					delete(all, id)
					want = append(want, id)
				}
			}
			e.must(s.Upsert(e.ctx, all), "Upsert")
			got, err := s.Missing(e.ctx, ids)
			e.wantList("Missing", got, err, want...)
		}},
		{Name: "asking does not create", Sentence: sGet, check: func(e *env) {
			s := e.open(space)
			_, err := s.Missing(e.ctx, []string{"a"})
			e.must(err, "Missing")
			_, err = s.GetMany(e.ctx, []string{"a"})
			e.must(err, "GetMany")
			if _, err = s.Get(e.ctx, "a"); !errors.Is(err, kv.ErrNotFound) {
				e.breach("Get of an id that was only asked for: %v, want ErrNotFound", err)
			}
		}},
	}
}
