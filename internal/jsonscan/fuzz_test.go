package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// depthOf returns how many arrays and objects of valid JSON are open at most.
func depthOf(b []byte) int {
	depth, deepest := 0, 0
	for dec := json.NewDecoder(bytes.NewReader(b)); ; {
		tok, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// decodeFile reads an object with encoding/json.
func decodeFile(b []byte) (names []string, values []json.RawMessage, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	tok, err := dec.Token()
	if err != nil {
		return nil, nil, err
	}
	if tok != json.Delim('{') {
		return nil, nil, errors.New("not an object")
	}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, nil, err
		}
		name, isString := tok.(string)
		if !isString {
			return nil, nil, errors.New("name is not a string")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, nil, err
		}
		names, values = append(names, name), append(values, value)
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, err
	}
	if tok, err := dec.Token(); err != io.EOF {
		return nil, nil, fmt.Errorf("trailing %v, %v", tok, err)
	}
	return names, values, nil
}

// addTexts adds all JSON texts of the tables to the corpus.
func addTexts(f *testing.F, add func(text string)) {
	f.Helper()
	for _, text := range slices.Concat(goodTexts, badTexts, lenientTexts) {
		add(text)
		add(`{"a":` + text + `,"b\n":[1]}`)
	}
}

func FuzzCheck(f *testing.F) {
	addTexts(f, func(text string) {
		f.Add([]byte(text), 3)
		f.Add([]byte(text), 512)
	})
	f.Fuzz(func(t *testing.T, b []byte, maxDepth int) {
		maxDepth = max(maxDepth, 0)
		err := Check(b, maxDepth)
		want := json.Valid(b) && utf8.Valid(b) && depthOf(b) <= maxDepth
		if want != (err == nil) {
			t.Fatalf("Check(%q, %d) = %v, want ok %v", b, maxDepth, err, want)
		}
		if err != nil {
			var e *Error
			require.ErrorAs(t, err, &e)
			require.GreaterOrEqual(t, e.Offset, int64(0))
			require.LessOrEqual(t, e.Offset, int64(len(b)))
		}
	})
}

// readAll drains r.
func readAll(r *Reader) ([]Member, error) {
	var all []Member
	for {
		m, err := r.Next()
		if err != nil {
			return all, err
		}
		m.Name, m.Value = bytes.Clone(m.Name), bytes.Clone(m.Value)
		all = append(all, m)
	}
}

func FuzzReader(f *testing.F) {
	addTexts(f, func(text string) { f.Add([]byte(text), 5, 8) })
	f.Add([]byte("\uFEFF{\"a\" : 1 ,\r\n\"\\u0061\":[NaN, -Infinity],\t\"\\ud83d\\ude00中\": \"\\ud800\xff\"}\r\n"), 7, 2)
	f.Add([]byte(`{"\ud800":1}`), 9, 2)
	f.Add([]byte("{\"a\xff\":1}"), 9, 2)
	f.Fuzz(func(t *testing.T, b []byte, window, maxDepth int) {
		got, err := readAll(NewReader(bytes.NewReader(b), maxDepth))
		window = min(max(window, 1), len(b)+1)
		small, smallErr := readAll(newReader(bytes.NewReader(b), maxDepth, window))
		require.Equal(t, got, small)
		require.Equal(t, err, smallErr)
		small, smallErr = readAll(newReader(iotest.OneByteReader(bytes.NewReader(b)), maxDepth, 1))
		require.Equal(t, got, small)
		require.Equal(t, err, smallErr)

		notFinite := false
		for _, m := range got {
			require.Equal(t, string(m.Value), string(b[m.Offset:][:len(m.Value)]))
			require.True(t, utf8.Valid(m.Name))
			var want, have *Error
			if errors.As(Check(m.Value, maxDepth), &want) {
				require.ErrorAs(t, m.Err, &have)
				require.Equal(t, want.Offset+m.Offset, have.Offset)
				require.Equal(t, want.Msg, have.Msg)
				notFinite = notFinite || want.Msg == messages[errNotFinite] || !json.Valid(m.Value)
			} else {
				require.NoError(t, m.Err)
			}
		}
		text := bytes.TrimPrefix(b, bom)
		if notFinite && errors.Is(err, io.EOF) {
			return // encoding/json cannot tell.
		}
		names, values, wantErr := decodeFile(text)
		if !json.Valid(text) && wantErr == nil {
			wantErr = errors.New("decoder is lenient")
		}
		var e *Error
		if errors.As(err, &e) {
			require.LessOrEqual(t, e.Offset, int64(len(b)))
			if e.Msg == messages[errSurrogate] || e.Msg == messages[errUTF8] {
				// encoding/json puts U+FFFD in place of what is wrong.
				require.True(t, wantErr != nil || strings.Contains(strings.Join(names, ""), "\uFFFD"))
				return
			}
			require.Error(t, wantErr)
			return
		}
		require.Equal(t, io.EOF, err)
		require.NoError(t, wantErr)
		require.Len(t, got, len(names))
		for i, m := range got {
			require.Equal(t, names[i], string(m.Name))
			require.Equal(t, string(values[i]), string(m.Value))
		}
	})
}

func FuzzProject(f *testing.F) {
	addTexts(f, func(text string) { f.Add([]byte(text), "a", "x") })
	f.Add([]byte(` { "\u0061" : [1 , 2] , "b":{"a":"}"}, "a":"\"" } `), "a", "b")
	f.Add([]byte(`{"\ud800":1,"\ufffd":2}`), "\uFFFD", "")
	f.Fuzz(func(t *testing.T, b []byte, f1, f2 string) {
		got := Project([]byte("x"), b, []string{f1, f2})
		require.Equal(t, byte('x'), got[0])
		got = got[1:]
		if Check(b, 512) != nil {
			return // All it must do is not panic.
		}
		require.NoError(t, Check(got, 512))
		names, values, err := decodeFile(b)
		if err != nil {
			require.Equal(t, string(trimSpace(b)), string(got))
			return
		}
		gotNames, gotValues, err := decodeFile(got)
		require.NoError(t, err)
		for i, j := 0, 0; i < len(names) || j < len(gotNames); i++ {
			require.Less(t, i, len(names))
			if names[i] != f1 && names[i] != f2 {
				continue
			}
			if strings.Contains(names[i], "\uFFFD") && (j == len(gotNames) || string(values[i]) != string(gotValues[j])) {
				continue // encoding/json had a lone surrogate.
			}
			require.Less(t, j, len(gotNames))
			require.Equal(t, names[i], gotNames[j])
			require.Equal(t, string(values[i]), string(gotValues[j]))
			j++
		}
	})
}

func FuzzAppendIndent(f *testing.F) {
	addTexts(f, func(text string) { f.Add([]byte(text), "  ") })
	f.Add([]byte("{ \"a\" : [ ] , \"b\\\\\\\"\" :\r\n{\t} , \"c\":[1,[ 2 ]]}"), "")
	f.Fuzz(func(t *testing.T, b []byte, prefix string) {
		if !json.Valid(b) {
			// All they must do is not panic.
			if len(b) < 1000 {
				AppendIndent(nil, b, prefix)
			}
			AppendCompact(nil, b)
			return
		}
		var compact, indented bytes.Buffer
		require.NoError(t, json.Compact(&compact, b))
		require.NoError(t, json.Indent(&indented, compact.Bytes(), prefix, "  "))
		require.Equal(t, "x"+compact.String(), string(AppendCompact([]byte("x"), b)))
		got := AppendIndent([]byte("x"), b, prefix)
		require.Equal(t, "x"+indented.String(), string(got))
		if strings.Trim(prefix, " \t\r\n") == "" {
			require.Equal(t, compact.String(), string(AppendCompact(nil, got[1:])))
		}
	})
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{
		"", "a", "\x00\x1f\x7f\b\f\n\r\t\"\\/<>&\u2028\u2029", "中é😀", "0123456789abcde\"", strings.Repeat("é\n", 40), "\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := AppendString([]byte("x"), s)[1:]
		if !utf8.ValidString(s) {
			_, valid := Unquote(got)
			require.False(t, valid)
			return
		}
		require.NoError(t, Check(got, 0))
		back, valid := Unquote(got)
		require.True(t, valid)
		require.Equal(t, s, back)
		require.NoError(t, json.Unmarshal(got, &back))
		require.Equal(t, s, back)
	})
}

func FuzzUnquote(f *testing.F) {
	for _, s := range []string{
		``, `"`, `""`, `"a"`, `"\"`, `"\\"`, `"\u0061\/\b\f\n\r\t\""`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`,
		`"\ud83d\u0061"`, `"\ud83d\n"`, `"a"b"`, `a`, "\"\xff\"", "\"\n\"", `"\u00g0"`, `"\ud83dxude00"`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, valid := Unquote(b)
		var want string
		wantValid := len(b) > 0 && b[0] == '"' && b[len(b)-1] == '"' && utf8.Valid(b) && json.Unmarshal(b, &want) == nil
		if !valid {
			// encoding/json puts U+FFFD in place of a lone surrogate.
			require.True(t, !wantValid || strings.Contains(want, "\uFFFD"))
			return
		}
		require.True(t, wantValid)
		require.Equal(t, want, got)
	})
}
