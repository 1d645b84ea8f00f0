package kvtest

import (
	"slices"
	"strings"

	"github.com/ngraf/kv"
)

const maxID = 64 << 10

func idCases() []Case {
	var cases []Case
	for _, r := range oddIDs() {
		cases = append(cases, Case{Name: "takes " + r.name, Sentence: sID, check: func(e *env) { takesID(e, r.value) }})
	}
	cases = append(cases, Case{Name: "ids that look alike are different", Sentence: sID, check: func(e *env) {
		s := e.open(space)
		alike := []string{"a", "A", "a ", " a", "a\x00", "a\n", "á", "a\u0301", "á ", `\u0061`, "a/", "./a", "%61", `"a"`, "a\ufeff"}
		var docs []string
		for _, id := range alike {
			docs = append(docs, id, jsonString(id))
		}
		e.put(s, docs...)
		e.want(s, docs...)
		n, err := s.Delete(e.ctx, "a")
		e.wantCount("Delete", n, err, 1)
		e.wantAbsent(s, "a")
		e.want(s, docs[2:]...)
	}})
	for _, m := range methods() {
		if !m.ids {
			continue
		}
		cases = append(cases,
			Case{Name: m.name + " refuses an id that is not UTF-8", Sentence: sInvalid, check: func(e *env) {
				s := e.open(space)
				m.skip(e, s)
				for _, bad := range []string{"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "ok\xf5ok"} {
					refusesID(e, s, m, bad)
				}
			}},
			Case{Name: m.name + " refuses an id of 64 KiB + 1", Sentence: sInvalid, check: func(e *env) {
				s := e.open(space)
				m.skip(e, s)
				refusesID(e, s, m, strings.Repeat("i", maxID+1))
			}})
	}
	return cases
}

func oddIDs() []row {
	return []row{
		{"the empty id", ""},
		{"a space", " "},
		{"spaces at the ends", "  a b  "},
		{"an asterisk", "*"},
		{"glob characters", `a*?[b-c]\*^!`},
		{"an open bracket", "["},
		{"a backslash", `\`},
		{"colons", "a:b::"},
		{"braces", "{a}b{"},
		{"quotes", `"'"` + "`"},
		{"a newline", "a\nb\r\n"},
		{"control characters", "\x01\x1b\x7f\t"},
		{"NUL", "\x00"},
		{"NUL inside", "a\x00b"},
		{"an emoji", "😀👩\u200d👩"},
		{"letters beyond ASCII", "é漢ß"},
		{"the replacement character", "\ufffd"},
		{"line separators", "\u2028\u2029"},
		{"a byte order mark", "\ufeffa"},
		{"noncharacters", "\uffff\U0010ffff"},
		{"an escape spelled out", `\u0061\n`},
		{"a path", "../../etc/passwd"},
		{"a dot", "."},
		{"per cent signs", "%s%d%00"},
		{"HTML characters", "<a>&"},
		{"a JSON text", `{"id":[1]}`},
		{"a hidden name", "__proto__"},
		{"64 KiB", strings.Repeat("0123456789abcdef", maxID/16)},
		{"64 KiB of three-byte letters", strings.Repeat("漢", maxID/3) + "x"},
	}
}

// takesID takes an id through every method of the core.
func takesID(e *env, id string) {
	s := e.open(space)
	e.put(s, "neighbour", `0`)
	e.wantAbsent(s, id)
	e.put(s, id, `{"v":1}`)
	e.want(s, id, `{"v":1}`, "neighbour", `0`)
	e.wantMany(s, []string{id, "neighbour", id}, nil, `{"v":1}`, `0`, `{"v":1}`)
	missing, err := s.Missing(e.ctx, []string{id, "absent", "neighbour"})
	e.wantList("Missing", missing, err, "absent")
	want := []string{id, "neighbour"}
	slices.Sort(want)
	e.wantList("Keys", e.list(s), nil, want...)
	n, err := s.Delete(e.ctx, id)
	e.wantCount("Delete", n, err, 1)
	e.wantAbsent(s, id)
	e.want(s, "neighbour", `0`)
}

func refusesID(e *env, s kv.Store, m method, bad string) {
	e.Helper()
	e.put(s, "good", `"kept"`)
	e.wantErr(m.name+" of "+show(bad), m.call(e.ctx, s, "good", bad), kv.ErrInvalid)
	e.want(s, "good", `"kept"`)
	e.wantErr(m.name+" of "+show(bad)+" alone", m.call(e.ctx, s, bad), kv.ErrInvalid)
}
