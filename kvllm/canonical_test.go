package kvllm

import (
	"bytes"
	"encoding/json"
	"io"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// Texts are spelled as Python's repr does.
func TestRepr(t *testing.T) {
	for text, want := range map[string]string{
		"":                 `''`,
		"it's":             `"it's"`,
		`"`:                `'"'`,
		`'"`:               `'\'"'`,
		"\\\n\r\t\x00\x7f": `'\\\n\r\t\x00\x7f'`,
		"é文😀 ":             `'é文😀 '`,
		"\u00a0\u00ad":     `'\xa0\xad'`,
		"\u2028\ufeff":     `'\u2028\ufeff'`,
		"\U000e0001\u001f": `'\U000e0001\x1f'`,
		"\U0001fae8":       `'\U0001fae8'`,
		"\xff":             "'\ufffd'",
	} {
		var b strings.Builder
		writeRepr(&b, text)
		require.Equal(t, want, b.String(), "%q", text)
	}
}

func canonical(t testing.TB, text string) string {
	b := parseBody([]byte(text))
	require.NotNil(t, b, text)
	var out bytes.Buffer
	b.writeCanonical(&out, "stream")
	return out.String()
}

// One spelling: no white space, sorted members, few escapes, plain numbers.
func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		` { } `:                          `{}`,
		`{"b":1,"a":[ ] ,"stream":true}`: `{"a":[],"b":1}`,
		`{"b":{"stream":{},"z":[{"y":1,"x":{}} , {"b":0,"a":[{}]}],"c":{"d":1}},"a":{"k":{}}}`:       `{"a":{"k":{}},"b":{"c":{"d":1},"stream":{},"z":[{"x":{},"y":1},{"a":[{}],"b":0}]}}`,
		`{"a":"\u0041\/\u0000\u001f\n\"\\\ud83d\ude00\u00e9\u2028"}`:                                 "{\"a\":\"A/\\u0000\\u001f\\n\\\"\\\\😀é\u2028\"}",
		`{"a":"\uD800\uDBFF x \uDC00"}`:                                                              `{"a":"\ud800\udbff x \udc00"}`,
		`{"\u0073tream":1,"a\u0062":2,"aa":3}`:                                                       `{"aa":3,"ab":2}`,
		`{"a":[0,-0.0,1.0,100,1e2,-1.50,0.001,1E+3,12,123456789012345678901234567890,1e9999999999]}`: `{"a":[0,0,1,1e2,1e2,-15e-1,1e-3,1e3,12,12345678901234567890123456789e1,1e9999999999]}`,
		`{"a":1,"a":2}`:           `{"a":1,"a":2}`,
		`{"a":2,"a":1}`:           `{"a":2,"a":1}`,
		`{"a":[true,false,null]}`: `{"a":[true,false,null]}`,
	} {
		require.Equal(t, want, canonical(t, text), text)
		if !strings.Contains(text, "stream") {
			require.Equal(t, want, canonical(t, want), "it is its own canonical text")
		}
	}
	long := `{"a":"` + strings.Repeat("x", 5000) + `"}`
	require.Equal(t, long, canonical(t, long))
	deep := strings.Repeat(`{"a":[`, deepest/2) + strings.Repeat(`]}`, deepest/2)
	require.Equal(t, deep, canonical(t, deep))
	require.Nil(t, parseBody([]byte(`{"a":`+deep+`}`)))
}

// plain is a JSON value in which equal means the same: numbers are exact, and
// members are in order with their repeats.
func plain(t testing.TB, text []byte) any {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var read func() any
	read = func() any {
		token, err := dec.Token()
		require.NoError(t, err)
		switch token {
		case json.Delim('['):
			list := []any{}
			for dec.More() {
				list = append(list, read())
			}
			_, _ = dec.Token()
			return list
		case json.Delim('{'):
			type pair struct {
				Name  any
				Value any
			}
			list := []pair{}
			for dec.More() {
				list = append(list, pair{read(), read()})
			}
			_, _ = dec.Token()
			slices.SortStableFunc(list, func(a, b pair) int { return strings.Compare(a.Name.(string), b.Name.(string)) })
			return list
		}
		if n, ok := token.(json.Number); ok {
			if _, exp, _ := strings.Cut(strings.ToLower(n.String()), "e"); len(exp) < 4 {
				exact, ok := new(big.Rat).SetString(n.String())
				require.True(t, ok)
				return exact.String()
			}
		}
		return token
	}
	return read()
}

// What is accepted is what encoding/json accepts, as far as it is an object in
// UTF-8 of some depth; the canonical text means the same, and is its own.
func FuzzCanonical(f *testing.F) {
	for _, text := range []string{
		`{"model":"m","messages":[{"role":"user","content":"a"}],"temperature":1.0,"stream":false}`,
		`{"a":"\ud83d\ude00\ud800","b":[1e2,-0.50,{"z":{},"y":[{}]}],"b":null}`, `[]`, `{"a":01}`, `{"a":1}x`, "{\"a\":\"\xff\"}", `{"a":"\x"}`, `{,}`, `{"a":1,}`, `{"a" 1}`, `{"a":[1,]}`, `{"a":tru}`, `{"a":1.}`, `{"a":-}`, `{"a":1e}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b := parseBody(text)
		valid := json.Valid(text) && utf8.Valid(text) && bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{"))
		if bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) < deepest {
			require.Equal(t, valid, b != nil)
		}
		if b == nil {
			return
		}
		var out bytes.Buffer
		b.writeCanonical(&out, "")
		require.True(t, reflect.DeepEqual(plain(t, text), plain(t, out.Bytes())), "%s became %s", text, out.Bytes())
		again := parseBody(bytes.Clone(out.Bytes()))
		require.NotNil(t, again)
		var second bytes.Buffer
		again.writeCanonical(&second, "")
		require.Equal(t, out.String(), second.String())
		for _, m := range b.objects[0].members {
			require.NotNil(t, b.member(string(b.spelled(m.name))))
		}
	})
}

// A body comes back from its document as it went in, however it is read.
func FuzzDocument(f *testing.F) {
	f.Add("data: {\"a\":\"é\\n😀\"}\r\n\r\n\x00\x1f\x7f", "what")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, body, question string) {
		if !utf8.ValidString(body) || !utf8.ValidString(question) {
			return
		}
		in := &Answer{Operation: "chat", Model: "kvllm", Question: question, Status: 200, Size: int64(len(body)), Pace: []int{1, 2}}
		doc, err := documentOf(in, []byte(body))
		require.NoError(t, err)
		var indented bytes.Buffer
		require.NoError(t, json.Indent(&indented, doc, "", "  "))
		for _, doc := range [][]byte{doc, indented.Bytes()} {
			a, err := ParseAnswer(doc)
			require.NoError(t, err)
			require.Equal(t, []any{question, "kvllm", int64(len(body)), true}, []any{a.Question, a.Model, a.Size, a.Complete})
			for _, read := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
				text, err := io.ReadAll(read(a.Body()))
				require.NoError(t, err)
				require.Equal(t, body, string(text))
			}
		}
	})
}

// A document that is no answer, or is damaged, is corrupt.
func FuzzParseAnswer(f *testing.F) {
	good, err := documentOf(&Answer{Operation: "chat", Status: 200}, []byte(`{"a":"b"}`))
	require.NoError(f, err)
	for i := range good {
		f.Add([]byte(good[:i]))
		f.Add(append(bytes.Clone(good[:i]), good[i+1:]...))
	}
	f.Add([]byte(`{"return":"a","model":"m"}`))
	f.Add([]byte(`{"kvllm":{"v":2},"body":""}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		a, err := ParseAnswer(doc)
		if err != nil {
			require.Nil(t, a)
			return
		}
		_, _ = io.ReadAll(a.Body())
		_ = a.Text()
	})
}

// slowEvents is the reading of server-sent events by the book, all at once.
func slowEvents(text string) (events []string) {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(text, "\ufeff"))
	lines := strings.Split(text, "\n")
	var data []string
	for _, line := range lines[:len(lines)-1] {
		if line == "" {
			if data != nil {
				events = append(events, strings.Join(data, "\n"))
			}
			data = nil
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		if name == "data" {
			data = append(data, strings.TrimPrefix(value, " "))
		}
	}
	return events
}

// Events are read alike, however the text is cut, and as the standard says.
func FuzzEvents(f *testing.F) {
	f.Add("data: a\n\nevent: b\r\ndata:c\r\ndata\r\r: comment\ndata: d", uint8(3))
	f.Add("\ufeffdata: [DONE]\n\n", uint8(1))
	f.Fuzz(func(t *testing.T, text string, step uint8) {
		var got []string
		var r eventReader
		for rest := []byte(text); len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			r.read(rest[:n], func(data []byte) { got = append(got, string(data)) })
			rest = rest[n:]
		}
		require.Equal(t, slowEvents(text), got, strconv.Quote(text))
	})
}

// Rows are read alike however the text is cut.
func FuzzRows(f *testing.F) {
	f.Add("{\"done\":false}\n{\"done\":true}\r\n", uint8(3))
	f.Fuzz(func(t *testing.T, text string, step uint8) {
		var got []string
		var r lineReader
		for rest := []byte(text); len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			r.read(rest[:n], func(line []byte) { got = append(got, string(line)) })
			rest = rest[n:]
		}
		lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
		var want []string
		want = append(want, lines[:len(lines)-1]...)
		require.Equal(t, want, got)
	})
}

// No answer, whatever it is, upsets the judge of any format; what it calls
// complete has an end.
func FuzzJudge(f *testing.F) {
	f.Add("data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", uint8(0))
	f.Add("data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n", uint8(3))
	f.Add("{\"done\":true,\"response\":\"a\"}\n", uint8(6))
	ops := []string{opChat, opCompletions, opResponses, opMessages, opEmbeddings, opOllamaChat, opOllama}
	f.Fuzz(func(t *testing.T, text string, op uint8) {
		for _, form := range []form{whole, events, rows} {
			j := newJudge(ops[int(op)%len(ops)], form)
			j.wantsText = true
			if form == whole {
				j.payload([]byte(text))
			}
			j.read([]byte(text))
			if j.reason() == "" && form != whole {
				require.True(t, j.ended)
			}
			_ = j.finish()
		}
	})
}
