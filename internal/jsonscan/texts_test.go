package jsonscan

import "strings"

// goodTexts are JSON texts of every kind RFC 8259 allows.
var goodTexts = []string{
	// Structure and white space.
	`[]`, `{}`, ` [ ] `, " {\t}\r\n", `[[]]`, `[{}]`, `{"a":{}}`, `[[],[[]],{}]`, "\n\r\t [\n1\r,\t2 ]",
	`[1,null,1,"1",{}]`, `{"a":[{"b":[{"c":null}]}]}`, strings.Repeat("[", 200) + strings.Repeat("]", 200),
	strings.Repeat(`[{"a":`, 70) + "0" + strings.Repeat("}]", 70),
	// Scalars at the top.
	`true`, `false`, `null`, `0`, `-1`, `""`, `"a"`, ` true `, "42\n",
	// Numbers.
	`[0]`, `[-0]`, `[1]`, `[10]`, `[123456789012345678901234567890]`, `[0.1]`, `[-0.0]`, `[1.5e10]`, `[1E5]`, `[1e+5]`,
	`[1E-05]`, `[0e1]`, `[0e+1]`, `[1e00]`, `[1e400]`, `[-1e-400]`, `[20e1]`, `[123.456e78]`, `[0.000000000000000001]`,
	// Strings.
	`["\"\\\/\b\f\n\r\t"]`, `["\u0000"]`, `["\u0061\u30AF\uabCD"]`, `["\u0012"]`, `["\\u0000"]`, `["\\"]`, `["\""]`,
	"[\"\x7f\"]", "[\"\u0080\u00e9\u07ff\u0800\u2028\u2029\uffff\U00010000\U0010ffff\"]", "[\"\ufeff\ufdd0\ufffe\"]",
	`["\ud83d\ude00"]`, `["\uD834\uDD1E"]`, `["a/*b*/c//d#e"]`, `["new\u000Aline"]`, `[" "]`, `["\u2028"]`,
	"\"0123456\\n\"", "\"01234567é89中0😀\"", "[\"中国南方电网调度运行操作管理规定\"]", "[\"привет, мир\"]",
	// Escapes of surrogates that have no partner.
	`["\ud800"]`, `["\uDADA"]`, `["\udc00\ud800"]`, `["\ud800\u0061"]`, `["\ud800\ud800\n"]`, `["\uD888\u1234"]`,
	// Objects.
	`{"a":1}`, `{"a":1,"b":2}`, `{"":0}`, `{"a":1,"a":2}`, `{"a":1,"a":1}`, `{"\u0061":1}`, `{"\u0000":"\u0000"}`,
	`{"a" : "b" , "c" : [ ] }`, `{"min":-1.0e+28,"max":1.0e+28}`, `{"é中":"😀"}`, `{"\ud800":1}`,
}

// badTexts are texts RFC 8259 does not allow, for reasons a lenient scanner
// does not tolerate either.
var badTexts = []string{
	// Nothing, or not enough.
	``, ` `, "\n", `[`, `{`, `[1`, `[1,`, `["a`, `["a"`, `{"a`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `[[`, `[{`, `"`, `"a`,
	`"\`, `"\u`, `"\u00`, `"\"`, `[tru`, `t`, `nul`, `-`, `[-`, `[1.`, `[1e`, `[1e+`, "[\"\xe4\xb8", `[{"a":[1,{"b":2`,
	strings.Repeat("[", 1000), strings.Repeat(`[{"":`, 100),
	// Too much.
	`[]]`, `[][]`, `{}{}`, `{}}`, `1 2`, `1,`, `[] x`, `{} #`, `{"a":1}/**/`, "[]\x00", `""x`, `null null`, `true]`, `,`,
	// Commas and colons.
	`[,]`, `[1,]`, `[,1]`, `[1,,2]`, `[1 2]`, `["a" "b"]`, `[1:2]`, `["a":1]`, `{,}`, `{"a":1,}`, `{,"a":1}`, `{"a":1,,"b":2}`,
	`{"a" 1}`, `{"a"::1}`, `{"a":}`, `{"a",1}`, `{"a"}`, `{:1}`, `{"a":1:2}`, `{"a":1 "b":2}`, `{"a":"b" "c"}`, `[1;2]`,
	// Brackets.
	`]`, `}`, `[}`, `{]`, `[1}`, `{"a":1]`, `[[1]`, `[1]]`, `[{]}`, `{"a":[}]`, `(1)`, `<null>`, `[<null>]`,
	// Names.
	`{1:1}`, `{a:1}`, `{'a':1}`, `{null:1}`, `{[]:1}`, `{{}:1}`, `{"a":1,b:2}`, `{99999:1}`, `{"\x":1}`,
	// Numbers.
	`[01]`, `[-01]`, `[00]`, `[-00]`, `[+1]`, `[.5]`, `[-.5]`, `[1.]`, `[-1.]`, `[0.e1]`, `[1.e1]`, `[1e]`, `[1e+]`, `[1E-]`,
	`[1e+-1]`, `[1ee1]`, `[1e1.5]`, `[1.2.3]`, `[0x1F]`, `[0x]`, `[1a]`, `[-a]`, `[--1]`, `[- 1]`, `[1 000]`, `[1_000]`,
	`[1+2]`, `[++1]`, `[-]`, `[0e]`, `[0E+]`, `[-1.0.]`, `[1/2]`, "[１]", `[2.e3]`, `[9.e+]`, `[.-1]`, `[.2e-3]`, `[1e1e1]`,
	// Literals, and what other notations have.
	`[tru]`, `[fals]`, `[nul]`, `[True]`, `[FALSE]`, `[Null]`, `[truer]`, `[nullx]`, `[true1]`, `[undefined]`, `[nan]`, `[inf]`,
	`[+Infinity]`, `[Inf]`, `[-Inf]`, `[-NaN]`, `[+NaN]`, `[NaNx]`, `[Infinit]`, `[Infinityy]`, `[--Infinity]`, `[INFINITY]`,
	`[*]`, `[a]`, `[\u0061]`, `abc`, `'a'`, `['a']`, "[`a`]", `[1]//x`, `/**/[]`, `[/*x*/1]`, `[1,#x]`, `[\n]`, `[“a”]`,
	// Strings.
	"[\"\x00\"]", "[\"\n\"]", "[\"a\tb\"]", "[\"\x1f\"]", "[\"01234567\x1f\"]", "[\"é\r\"]", `["\a"]`, `["\x00"]`, `["\'"]`,
	`["\0"]`, `["\U0061"]`, `["\u"]`, `["\u1"]`, `["\u12"]`, `["\u123"]`, `["\u123g"]`, `["\u00G0"]`, `["\u-123"]`, `["\ "]`,
	"[\"\\\n\"]", "[\"\\\xff\"]", "[\"\\é\"]", `["\ud800\u"]`, `["\ud800\x"]`, `["\uD800\uD80"]`, `["\\\"]`, `["a]`, `[a"]`,
	`["\""`, "[\"\\u00\xe9\"]", "[\"\\\x00\"]",
	// White space and bytes outside strings.
	"[\f]", "[\v1]", "[\u00a0]", "[\u2028]", "[\u2060]", "\xff", "[\xff]", "[1\xe9]", "\x00", "[\x00]", "{}\x00", "é", "[\u0085]",
	// Byte order marks and other encodings.
	"\ufeff", "\ufeff{}", "\xef\xbb", "\xef\xbb{}", "{\ufeff}", "[1\ufeff]", "\xff\xfe{\x00}\x00", "\x00{\x00}", "{}\ufeff",
}

// lenientTexts are texts RFC 8259 does not allow although it is clear where
// they end.
var lenientTexts = []string{
	// What Python's json.dumps writes with allow_nan.
	`NaN`, `Infinity`, `-Infinity`, `[NaN]`, `[Infinity,-Infinity]`, `{"a":NaN}`, `[[1,{"x":[-Infinity ]}],"a"]`,
	// Not UTF-8: stray and missing continuations, overlong forms, surrogates,
	// and code points that do not exist.
	"\"\xff\"", "[\"\x80\"]", "[\"a\xbfb\"]", "[\"\xc3\"]", "[\"\xe4\xb8\"]", "[\"\xf0\x9f\x98\"]", "[\"\xc3\\n\"]",
	"[\"\xc0\xaf\"]", "[\"\xc1\xbf01234567\"]", "[\"\xe0\x80\xaf\"]", "[\"\xe0\x9f\xbf01234567\"]", "[\"\xf0\x8f\xbf\xbf\"]",
	"[\"\xed\xa0\x80\"]", "[\"\xed\xbf\xbf01234567\"]", "[\"中\xed\xa0\x8001234567\"]", "[\"\xf4\x90\x80\x80\"]",
	"[\"\xf5\x80\x80\x80\"]", "[\"\xf8\x88\x80\x80\x80\"]", "[\"\xfe\xff\"]", "[\"中中中\xe4中中中\"]", "[\"é\xc3é\"]",
	"{\"a\":\"01234567\xff01234567\",\"b\":\"\xff\"}", "[\"\xe4\xb8\xe4\xb8\xad01234567\"]", "[\"\xc3\xc3\xa9 01234567\"]",
}
