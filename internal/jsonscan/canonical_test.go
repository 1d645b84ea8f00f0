package jsonscan

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// Texts that mean the same, number spelling and member order apart, have one
// canonical form; others keep theirs.
func TestAppendCanonical(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{``, ``},
		{" { \"a\" :\t[ 1 ,\r\n2 ] } ", `{"a":[1,2]}`},
		{`{"b":1.50,"a":-0,"b":1e400}`, `{"b":1.50,"a":-0,"b":1e400}`},
		{`" a  b "`, `" a  b "`},
		{`"\u00e9 \u4e2d \ud83d\ude00 \u2028\u007f"`, "\"é 中 😀 \u2028\x7f\""},
		{`{"\u0061 b":"\/"}`, `{"a b":"/"}`},
		{`"\u0022\u005c\u0008\u000c\u000A\u000d\u0009\u0001\u001F"`, `"\"\\\b\f\n\r\t\u0001\u001f"`},
		{`"\n\r\"\\"`, `"\n\r\"\\"`},
		{`"\\u0061"`, `"\\u0061"`},
		{`"\uD800"`, `"\ud800"`},
		{`"\ud83d\uD83D\ude00\udE00"`, `"\ud83d😀\ude00"`},
		{`"\ud83d\\ude00"`, `"\ud83d\\ude00"`},
		{`"\ud83dx\n"`, `"\ud83dx\n"`},
		{`"\ufffd\ud800"`, "\"\uFFFD\\ud800\""},
		{`["\"",  "\\"  ,"a"]`, `["\"","\\","a"]`},
		{`[NaN , -Infinity]`, `[NaN,-Infinity]`},
	} {
		require.Equal(t, "dst"+tt.want, string(AppendCanonical([]byte("dst"), []byte(tt.in))), tt.in)
		inPlace := []byte(tt.in)
		require.Equal(t, tt.want, string(AppendCanonical(inPlace[:0], inPlace)), tt.in)
	}
}

func TestAppendCanonicalAllocs(t *testing.T) {
	text, dst := []byte(`{ "\u0061": ["x\n", "中\ud83d\ude00"] }`), make([]byte, 0, 100)
	require.Zero(t, testing.AllocsPerRun(10, func() { dst = AppendCanonical(dst[:0], text) }))
}

// The canonical form is JSON, means what the text meant, is its own, does
// not depend on layout, and is never longer.
func FuzzAppendCanonical(f *testing.F) {
	addTexts(f, func(text string) { f.Add([]byte(text)) })
	f.Add([]byte(`{ "\ud83d\ud83d\ude00\/" : ["\u0001\n\\", "\udE00", 1.0] }`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := AppendCanonical([]byte("x"), b)[1:]
		if Check(b, 512) != nil {
			return // All it must do is not panic.
		}
		require.LessOrEqual(t, len(got), len(b))
		require.NoError(t, Check(got, 512))
		require.Equal(t, string(got), string(AppendCanonical(nil, got)))
		require.Equal(t, string(got), string(AppendCanonical(nil, AppendIndent(nil, b, "  "))))
		inPlace := bytes.Clone(b)
		require.Equal(t, string(got), string(AppendCanonical(inPlace[:0], inPlace)))
		require.Equal(t, tokens(t, b), tokens(t, got))
	})
}

// tokens is what encoding/json makes of a text.
func tokens(t *testing.T, b []byte) (list []json.Token) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	for {
		tok, err := d.Token()
		if err != nil {
			return list
		}
		list = append(list, tok)
	}
}
