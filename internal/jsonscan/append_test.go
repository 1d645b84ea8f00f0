package jsonscan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProject(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, fields, want string }{
		{`{}`, "a", `{}`},
		{` { } `, "a", `{}`},
		{`{"a":1,"b":2}`, "", `{}`},
		{`{"a":1,"b":2}`, "x", `{}`},
		{`{"a":1,"b":2}`, "a", `{"a":1}`},
		{`{"a":1,"b":2}`, "b", `{"b":2}`},
		{`{"a":1,"b":2}`, "b a", `{"a":1,"b":2}`},
		{`{"a":1,"b":2,"a":3}`, "a", `{"a":1,"a":3}`},
		{`{"\u0061":1,"a\/b":2}`, "a a/b", `{"\u0061":1,"a\/b":2}`},
		{`{"a":{"b":1,"a":2},"b":[{"a":1}]}`, "b", `{"b":[{"a":1}]}`},
		{"\n{\r\n \"a\" :\t[ 1 ,2 ] , \"b\" : 1.50 , \"c\" : null }\n", "a b c", `{"a":[ 1 ,2 ],"b":1.50,"c":null}`},
		{`{"a":"}\"{,\\","b":"\\\"","c":1}`, "a c", `{"a":"}\"{,\\","c":1}`},
		{`{"\ud800":1,"b":2}`, "b", `{"b":2}`},
		{`{"中":"文","😀":true}`, "😀", `{"😀":true}`},
		{`{"\ud83d\ude00":true}`, "😀", `{"\ud83d\ude00":true}`},
		{` [ {"a":1} ] `, "a", `[ {"a":1} ]`},
		{`"a"`, "a", `"a"`},
		{`null`, "a", `null`},
		{`NaN`, "a", `NaN`},
		{`{"a":NaN,"b":-Infinity}`, "b", `{"b":-Infinity}`},
	} {
		fields := strings.Fields(tt.fields)
		require.Equal(t, "dst"+tt.want, string(Project([]byte("dst"), []byte(tt.in), fields)), tt.in)
	}
	require.Equal(t, `{"":1}`, string(Project(nil, []byte(`{"":1,"a":2}`), []string{""})))
}

func TestProjectAllocs(t *testing.T) {
	text, dst := []byte(`{"aa":"x","bb":[1,{"cc":"中"}],"cc":null}`), make([]byte, 0, 100)
	require.Zero(t, testing.AllocsPerRun(10, func() { dst = Project(dst[:0], text, []string{"bb", "cc"}) }))
}

func TestAppendIndent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{`{}`, `{}`},
		{" [ \n] ", `[]`},
		{` "a b" `, `"a b"`},
		{`[{ },[ ]]`, "[\n>  {},\n>  []\n>]"},
		{`{"a":1,"b":{"c":[1.50,-0]}}`, "{\n>  \"a\": 1,\n>  \"b\": {\n>    \"c\": [\n>      1.50,\n>      -0\n>    ]\n>  }\n>}"},
		{"\t{\r\n\"a\"\n:\ttrue ,\"\\u0061\" : \"{[,:\\\"\\\\\"}", "{\n>  \"a\": true,\n>  \"\\u0061\": \"{[,:\\\"\\\\\"\n>}"},
		{`[NaN, -Infinity]`, "[\n>  NaN,\n>  -Infinity\n>]"},
		{"[\"\xff\"]", "[\n>  \"\xff\"\n>]"},
	} {
		require.Equal(t, "dst"+tt.want, string(AppendIndent([]byte("dst"), []byte(tt.in), ">")), tt.in)
	}
	deep := []byte(strings.Repeat("[", 100) + strings.Repeat("]", 100))
	var want bytes.Buffer
	require.NoError(t, json.Indent(&want, deep, "\t", "  "))
	require.Equal(t, want.String(), string(AppendIndent(nil, deep, "\t")))
}

func TestAppendCompact(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{`{}`, `{}`},
		{" [ \n] ", `[]`},
		{"1", "1"},
		{" \" a \\\" b \" ", `" a \" b "`},
		{"{ \"a\" :\t[ 1 ,\r\n2 ] , \"b\" : NaN }\n", `{"a":[1,2],"b":NaN}`},
	} {
		require.Equal(t, "dst"+tt.want, string(AppendCompact([]byte("dst"), []byte(tt.in))), tt.in)
		require.Equal(t, int64(len(tt.want)), CompactSize([]byte(tt.in)), tt.in)
	}
}

func TestAppendString(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{"", `""`},
		{"abc", `"abc"`},
		{"\"\\/", `"\"\\/"`},
		{"\b\f\n\r\t", `"\b\f\n\r\t"`},
		{"\x00\x01\x0b\x0e\x1f", `"\u0000\u0001\u000b\u000e\u001f"`},
		{"\x7f\u2028\u2029<>&é中😀\ufeff", "\"\x7f\u2028\u2029<>&é中😀\ufeff\""},
		{"0123456\n89012345\"", `"0123456\n89012345\""`},
	} {
		require.Equal(t, "dst"+tt.want, string(AppendString([]byte("dst"), tt.in)), tt.in)
	}
	for at := range 20 {
		for c := range 256 {
			s := strings.Repeat("中x", 10)
			s = s[:at/4*4] + strings.Repeat("y", at%4) + string(rune(c)) + s[at/4*4:]
			got, valid := Unquote(AppendString(nil, s))
			require.True(t, valid)
			require.Equal(t, s, got)
		}
	}
}

func TestUnquote(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{`""`, ""},
		{`"abc"`, "abc"},
		{`"a\u0062\/\b\f\n\r\t\"\\c"`, "ab/\b\f\n\r\t\"\\c"},
		{`"\u0000中\u4E2d"`, "\x00中中"},
		{`"\ud83d\ude00\uD83D\uDE00"`, "😀😀"},
		{`"\ufffd"`, "\uFFFD"},
		{`"\udbff\udfff"`, "\U0010FFFF"},
	} {
		got, valid := Unquote([]byte(tt.in))
		require.True(t, valid, tt.in)
		require.Equal(t, tt.want, got, tt.in)
	}
	for _, in := range []string{
		``, `"`, `a`, `"a`, `a"`, `"a"b"`, `"a" `, ` "a"`, `"\"`, `"\x"`, `"\u12"`, "\"\n\"", "\"\xff\"", "\"\xed\xa0\x80\"",
		`"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `"\udc00\ud800"`, `"\ud800\u0061"`, `"\ud800x"`, `"\ud800\n\udc00"`, `{}`, `1`,
	} {
		_, valid := Unquote([]byte(in))
		require.False(t, valid, in)
	}
}

// TestNoPanic gives rubbish to what wants valid texts.
func TestNoPanic(t *testing.T) {
	t.Parallel()
	for _, text := range goodTexts {
		for i := range len(text) {
			for _, b := range [][]byte{[]byte(text)[i:], []byte(text)[:i:i]} {
				require.NotPanics(t, func() {
					AppendIndent(nil, b, "")
					AppendCompact(nil, b)
					Project(nil, b, []string{"a"})
					Unquote(b)
				}, "%q", b)
			}
		}
	}
}
