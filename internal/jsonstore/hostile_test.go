package jsonstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fault"
)

// A hostile file is one that something else has left in place of ours.
type hostile struct {
	text    string
	members []string // after a write and Close; nil if the file is refused
	foreign []string // ids that are ErrCorrupt
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// hostileFiles are those that must be refused, and those that can be read.
var hostileFiles = []hostile{
	{text: ""}, {text: " \n"}, {text: "\x00"}, {text: strings.Repeat("\x00", 4096)}, {text: "{}\x00\x00"},
	{text: "[]"}, {text: "null"}, {text: "true"}, {text: "0"}, {text: `"a"`}, {text: `[{"a":1}]`},
	{text: "{}{}"}, {text: "{}\n{}"}, {text: "{} x"}, {text: "{},"}, {text: "{}}"}, {text: "}"},
	{text: "{"}, {text: `{"a`}, {text: `{"a"`}, {text: `{"a":`}, {text: `{"a":1`}, {text: `{"a":1,`}, {text: `{"a":"b`},
	{text: `{"a":1,}`}, {text: `{,}`}, {text: `{"a":1,,"b":2}`}, {text: `{"a" 1}`}, {text: `{"a":1 "b":2}`}, {text: `{"a":1;"b":2}`},
	{text: `{a:1}`}, {text: `{'a':1}`}, {text: `{1:2}`}, {text: `{null:1}`}, {text: `{"a"::1}`}, {text: `{"a":}`},
	{text: `{"a":01}`}, {text: `{"a":1.}`}, {text: `{"a":.5}`}, {text: `{"a":+1}`}, {text: `{"a":1e}`}, {text: `{"a":0x10}`}, {text: `{"a":--1}`},
	{text: `{"a":tru}`}, {text: `{"a":True}`}, {text: `{"a":undefined}`}, {text: `{"a":nan}`}, {text: `{"a":-NaN}`},
	{text: "{\"a\":\"\x01\"}"}, {text: "{\"a\":\"x\ny\"}"}, {text: `{"a":"\q"}`}, {text: `{"a":"\u12"}`}, {text: `{"a":[1,]}`}, {text: `{"a":[1}]`},
	{text: "{\"a\xff\":1}"}, {text: `{"\ud800":1}`}, {text: `{"\udc00\ud800":1}`}, {text: "{\"\xed\xa0\x80\":1}"},
	{text: "\xef\xbb\xbf"}, {text: "\xef\xbb{}"}, {text: "\xef\xbb\xbf\xef\xbb\xbf{}"}, {text: "\xff\xfe{\x00}\x00"},
	{text: "// x\n{}"}, {text: "{/* x */}"}, {text: "\f{}"}, {text: "\u00a0{}"}, {text: "\x1f\x8b\x08\x00{}"},

	{text: "{}", members: []string{}}, {text: " \t\r\n{ \r\n} \r\n", members: []string{}}, {text: "\xef\xbb\xbf{}", members: []string{}},
	{text: "\xef\xbb\xbf{\r\n  \"a\": [\r\n    1\r\n  ]\r\n}\r\n", members: []string{"\"a\": [\n    1\n  ]"}},
	{text: `{"a":null,"":{}}`, members: []string{`"a": null`, `"": {}`}},
	{text: `{"a":1,"b":2,"a":3}`, members: []string{`"a": 3`, `"b": 2`}},
	{text: `{"a":1,"\u0061":2}`, members: []string{`"a": 2`}},
	{text: `{"\u0000\/\ud83d\ude00":"\u0000\/\ud83d\ude00"}`, members: []string{"\"\\u0000/😀\": \"\\u0000\\/\\ud83d\\ude00\""}},
	{text: "{\"\u2028\x7f\":\"\u2028\x7f\"}", members: []string{"\"\u2028\x7f\": \"\u2028\x7f\""}},
	{
		text:    `{"n":[9007199254740993,1e400,-0,1.0,1E+2,123456789012345678901234567890]}`,
		members: []string{"\"n\": [\n    9007199254740993,\n    1e400,\n    -0,\n    1.0,\n    1E+2,\n    123456789012345678901234567890\n  ]"},
	},
	{text: `{"a":"\ud800"}`, members: []string{`"a": "\ud800"`}},
	{text: `{"a":{"x":1,"x":2}}`, members: []string{"\"a\": {\n    \"x\": 1,\n    \"x\": 2\n  }"}},
	{text: `{"a":NaN,"b":1}`, members: []string{`"a": NaN`, `"b": 1`}, foreign: []string{"a"}},
	{text: `{"a":{"x": [Infinity , -Infinity]},"b":1}`, members: []string{`"a": {"x": [Infinity , -Infinity]}`, `"b": 1`}, foreign: []string{"a"}},
	{text: "{\"a\":\"\xff\",\"b\":1}", members: []string{"\"a\": \"\xff\"", `"b": 1`}, foreign: []string{"a"}},
	{text: "{\"a\":{\"\xed\xa0\x80\":0},\"b\":1}", members: []string{"\"a\": {\"\xed\xa0\x80\":0}", `"b": 1`}, foreign: []string{"a"}},
	{text: `{"a":` + nested(513) + `,"b":1}`, members: []string{`"a": ` + nested(513), `"b": 1`}, foreign: []string{"a"}},
	{text: `{"a":` + nested(100_000) + `}`, members: []string{`"a": ` + nested(100_000)}, foreign: []string{"a"}},
	{text: `{"a":1,"a":NaN}`, members: []string{`"a": NaN`}, foreign: []string{"a"}},
	{text: `{"a":NaN,"a":1}`, members: []string{`"a": 1`}},
}

func TestJSONHostileFiles(t *testing.T) {
	t.Parallel()
	require.GreaterOrEqual(t, len(hostileFiles), 60)
	for _, h := range hostileFiles {
		t.Run(fmt.Sprintf("%.40q", h.text), func(t *testing.T) {
			files := crashfs.New()
			files.Put(documentName, []byte(h.text))
			_, s, _, err := openMem(files)
			if h.members == nil {
				require.NoError(t, wasRefused(files, err, documentName, []byte(h.text)))
				require.Equal(t, []string{documentName}, files.Names())
				return
			}
			require.NoError(t, err)
			h.check(t, files, s)
		})
	}
	t.Logf("%d files", len(hostileFiles))
}

func (h hostile) check(t *testing.T, files *crashfs.FS, s *enginetest.Store) {
	ctx := t.Context()
	for _, id := range h.foreign {
		_, err := s.Get(ctx, id)
		require.ErrorIs(t, err, fault.ErrCorrupt)
		missing, err := s.Missing(ctx, []string{id})
		require.NoError(t, err)
		require.Empty(t, missing, "a corrupt value counts as present")
	}
	n := 0
	for id, err := range s.Keys(ctx) {
		require.NoError(t, err)
		if _, err := s.Get(ctx, id); errors.Is(err, fault.ErrCorrupt) {
			n++
		} else {
			require.NoError(t, err)
		}
	}
	require.Equal(t, len(h.foreign), n)
	require.NoError(t, s.Flush(ctx))
	text, _ := files.Bytes(documentName)
	require.Equal(t, h.text, string(text), "a flush without a write changed the file")
	require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"new": json.RawMessage("1")}))
	require.NoError(t, s.Close())
	text, _ = files.Bytes(documentName)
	require.Equal(t, "{\n  "+strings.Join(append(h.members, `"new": 1`), ",\n  ")+"\n}", string(text))
	require.Equal(t, []string{documentName}, files.Names())
	_, s, _, err := openMem(files)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// TestJSONIndentedValues: a value that is small but deep takes much more room
// when it is laid out, and must be readable all the same.
func TestJSONDeepValueIsReadAgain(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 511) + "[" + strings.Repeat("1,", 60_000) + "1]" + strings.Repeat("]", 511)
	files := crashfs.New()
	_, s, _, err := openMem(files)
	require.NoError(t, err)
	require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{"deep": json.RawMessage(deep)}))
	require.NoError(t, s.Close())
	text, _ := files.Bytes(documentName)
	t.Logf("%d bytes became %d", len(deep), len(text))
	require.Less(t, len(text), 64*len(deep))
}
