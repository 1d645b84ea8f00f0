package kvtest

import (
	"encoding/json"
	"strings"

	"github.com/ngraf/kv"
)

func valueCases() []Case {
	var cases []Case
	for _, r := range keptValues() {
		cases = append(cases, Case{Name: "keeps " + r.name, Sentence: sBytes, check: func(e *env) {
			s := e.open(space)
			e.put(s, "bare", r.value, "inside", `{"v":[`+r.value+`]}`)
			e.want(s, "bare", r.value, "inside", `{"v":[`+r.value+`]}`)
			e.wantMany(s, []string{"inside", "bare"}, nil, `{"v":[`+r.value+`]}`, r.value)
		}})
	}
	cases = append(cases, Case{Name: "white space around tokens is no other value", Sentence: sSpace, check: func(e *env) {
		s := e.open(space)
		e.put(s, "a", " \t\r\n{ \"a\" : [ 1 , 2 ] }\n", "b", " null ", "c", "\n\"two  spaces\"")
		e.want(s, "a", `{"a":[1,2]}`, "b", `null`, "c", `"two  spaces"`)
	}})
	for _, r := range badValues() {
		cases = append(cases, Case{Name: "refuses " + r.name, Sentence: sInvalid, check: func(e *env) {
			e.wantRefused(e.open(space), "Upsert", upsert, badBatch(r.value))
		}})
	}
	for _, w := range []struct {
		name string
		do   write
	}{{"Insert", insert}, {"UpsertTTL", upsertTTL}} {
		cases = append(cases,
			Case{Name: w.name + " keeps values as Upsert does", Sentence: sBytes, check: func(e *env) {
				s := e.open(space)
				for _, r := range keptValues() {
					e.must(w.do(e, s, items(r.name, r.value)), w.name)
					e.want(s, r.name, r.value)
				}
			}},
			Case{Name: w.name + " refuses what Upsert refuses", Sentence: sInvalid, check: func(e *env) {
				s := e.open(space)
				for _, r := range badValues() {
					e.wantErr(w.name+" of "+r.name, w.do(e, s, badBatch(r.value)), kv.ErrInvalid)
				}
				e.wantAbsent(s, append(sorted(goodBatch()), "~bad")...)
			}})
	}
	return append(cases, Case{Name: "refuses nil", Sentence: sInvalid, check: func(e *env) {
		batch := goodBatch()
		batch["~bad"] = json.RawMessage(nil)
		e.wantRefused(e.open(space), "Upsert", upsert, batch)
	}})
}

type row struct{ name, value string }

// keptValues are values that come back changed from encoding/json or from
// Python's json.
func keptValues() []row {
	return []row{
		{"an integer over 2^53", `9007199254740993`},
		{"an integer over 64 bits", `10000000000000000000000001`},
		{"a long fraction", `0.1000000000000000055511151231257827`},
		{"a number out of range", `1e400`},
		{"a number too small", `-1e-400`},
		{"minus zero", `-0`},
		{"a trailing zero", `1.0`},
		{"a capital exponent", `1E+2`},
		{"the order of members", `{"z":1,"a":2,"m":{"y":1,"b":2}}`},
		{"repeated members", `{"a":1,"b":2,"a":3,"a":1}`},
		{"escaped letters", `"\u00e9\u0041"`},
		{"raw letters", `"é漢😀"`},
		{"an escaped surrogate pair", `"\ud83d\ude00"`},
		{"the case of escapes", `"\u00E9\u00e9"`},
		{"a lone surrogate", `"\ud800 and \udc00"`},
		{"an escaped NUL", `"\u0000"`},
		{"escaped slashes", `"\/ and /"`},
		{"short and long escapes", `"\n\u000a\b\f\r\t\\\""`},
		{"HTML characters", `"<a href='x'>&amp;</a>"`},
		{"escaped HTML characters", `"\u003ca\u003e\u0026"`},
		{"raw line separators", "\"\u2028\u2029\""},
		{"escaped line separators", `"\u2028\u2029"`},
		{"DEL and C1 controls", "\"\u007f\u0080\u009f\""},
		{"noncharacters and the replacement character", "\"\ufffd\ufffe\uffff\U0010ffff\""},
		{"a byte order mark in a string", "\"\ufeff\""},
		{"escapes in member names", `{"\u0061":1,"a":2,"":3,"\ud800":4}`},
		{"spaces in strings", "\"  a  b  \u00a0 \""},
		{"brackets in strings", `"}]{[,:\""`},
		{"empty things", `[{},[],"",{"":[[]]}]`},
	}
}

// badValues are not one JSON text.
func badValues() []row {
	return []row{
		{"no bytes", ``},
		{"white space alone", " \n"},
		{"a truncated object", `{"a":1`},
		{"a truncated string", `"abc`},
		{"a truncated literal", `tru`},
		{"a truncated escape", `"\u12`},
		{"trailing data", `{"a":1}x`},
		{"a trailing bracket", `[1]]`},
		{"two values", `1 2`},
		{"NaN", `{"x":NaN}`},
		{"Infinity", `[Infinity]`},
		{"minus Infinity", `-Infinity`},
		{"None", `None`},
		{"True", `True`},
		{"a bare word", `xyz`},
		{"a bare newline in a string", "\"a\nb\""},
		{"a bare NUL in a string", "\"a\x00b\""},
		{"a NUL after the value", "1\x00"},
		{"an unknown escape", `"\x41"`},
		{"a bad unicode escape", `"\u12g4"`},
		{"a bad UTF-8 byte", "\"\xff\""},
		{"truncated UTF-8", "\"\xe6\xbc\""},
		{"overlong UTF-8", "\"\xc0\xaf\""},
		{"a surrogate in UTF-8", "\"\xed\xa0\x80\""},
		{"single quotes", `{'a':1}`},
		{"a name without quotes", `{a:1}`},
		{"a number as a name", `{1:2}`},
		{"a leading zero", `01`},
		{"a leading plus", `+1`},
		{"a hexadecimal number", `0x10`},
		{"a bare fraction", `.5`},
		{"a trailing point", `1.`},
		{"a bare exponent", `1e`},
		{"a lone minus", `-`},
		{"a trailing comma in an array", `[1,]`},
		{"a trailing comma in an object", `{"a":1,}`},
		{"a missing comma", `[1 2]`},
		{"a missing colon", `{"a" 1}`},
		{"a missing value", `{"a":}`},
		{"mixed brackets", `[1}`},
		{"a comment", `{"a":1/* c */}`},
		{"a byte order mark", "\ufeff{}"},
		{"a space that is not JSON's", "\u00a01"},
		{"a bad byte at the end of a long value", `"` + strings.Repeat("x", 100_000) + "\xff\""},
	}
}
