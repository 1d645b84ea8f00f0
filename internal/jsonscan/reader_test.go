package jsonscan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func readString(file string, maxDepth int) ([]Member, error) {
	return readAll(NewReader(strings.NewReader(file), maxDepth))
}

func TestReader(t *testing.T) {
	t.Parallel()
	file := "\uFEFF \r\n{ \"a\" :\t1 ,\r\n\"\\u0061\\n\":[1, {\"b\" : 2}],\"\":\"x\\\"}\" , \"中\":{},\"a\":null}\r\n\t "
	r := NewReader(strings.NewReader(file), 2)
	got, err := readAll(r)
	require.Equal(t, io.EOF, err)
	require.True(t, r.BOM())
	var lines []string
	for _, m := range got {
		require.NoError(t, m.Err)
		require.Equal(t, string(m.Value), file[m.Offset:][:len(m.Value)])
		lines = append(lines, fmt.Sprintf("%s=%s", m.Name, m.Value))
	}
	require.Equal(t, []string{"a=1", "a\n=[1, {\"b\" : 2}]", `="x\"}"`, "中={}", "a=null"}, lines)
	_, err = r.Next()
	require.Equal(t, io.EOF, err)

	for _, file := range []string{"{}", " {\n} ", "\r\n{\t}\r\n"} {
		got, err := readString(file, 0)
		require.Equal(t, io.EOF, err)
		require.Empty(t, got)
	}
}

// A member of any size takes little more than its own size of memory.
func TestReaderGrows(t *testing.T) {
	t.Parallel()
	file := `{"a":"` + strings.Repeat("x", 40<<20) + `","b":1}`
	for _, r := range []*Reader{
		NewReader(strings.NewReader(file), 1), NewSizedReader(strings.NewReader(file), 1, int64(len(file))),
		NewSizedReader(strings.NewReader(file), 1, 5),
	} {
		got, err := readAll(r)
		require.Equal(t, io.EOF, err)
		require.Len(t, got, 2)
		require.LessOrEqual(t, len(r.buf), len(file)*5/4)
	}
	sized := NewSizedReader(strings.NewReader(file), 1, int64(len(file)))
	_, err := readAll(sized)
	require.Equal(t, io.EOF, err)
	require.LessOrEqual(t, len(sized.buf), len(file)+1)
}

// What is behind an error can be read from the next line on that begins a
// member, whatever part of the file the window holds.
func TestReaderSkip(t *testing.T) {
	t.Parallel()
	file := "{\n  \"a\": 1,\n  \"b\": tru,\n    \"x\": 1,\n\n  \"c\": [tru\n    {\n  \"d\": 2,\n  \"e\": 3\n}\nrest\n \"f\": 4"
	for window := range 64 {
		r := newReader(iotest.OneByteReader(strings.NewReader(file)), 9, window)
		var seen []string
		for {
			m, err := r.Next()
			if err == nil {
				require.Equal(t, string(m.Value), file[m.Offset:][:len(m.Value)])
				seen = append(seen, string(m.Name))
				continue
			}
			next, err := r.Skip()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			require.Equal(t, "\n  \"", file[next-3:next+1])
		}
		require.Equal(t, []string{"a", "d", "e"}, seen)
	}
	failed := errors.New("EIO")
	r := NewReader(io.MultiReader(strings.NewReader(`{"a":x`), iotest.ErrReader(failed)), 9)
	_, err := r.Next()
	require.Error(t, err)
	_, err = r.Skip()
	require.ErrorIs(t, err, failed)
}

func TestReaderErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file   string
		offset int64
		msg    string
	}{
		{"", 0, "unexpected end"},
		{" \n", 2, "unexpected end"},
		{"\uFEFF", 3, "unexpected end"},
		{"\x00\x00\x00", 0, "unexpected character"},
		{"[]", 0, "unexpected character"},
		{" null", 1, "unexpected character"},
		{"\uFEFF\uFEFF{}", 3, "unexpected character"},
		{"\xEF\xBB", 0, "unexpected character"},
		{"{}{}", 2, "data after the value"},
		{"{} \x00", 3, "data after the value"},
		{`{"a":1}}`, 7, "data after the value"},
		{`{"a":1},`, 7, "data after the value"},
		{`{`, 1, "unexpected end"},
		{`{"a`, 3, "unexpected end"},
		{`{"a"`, 4, "unexpected end"},
		{`{"a":`, 5, "unexpected end"},
		{`{"a":1`, 6, "unexpected end"},
		{`{"a":tr`, 7, "unexpected end"},
		{`{"a":1,`, 7, "unexpected end"},
		{`{"a":1,}`, 7, "unexpected character"},
		{`{,}`, 1, "unexpected character"},
		{`{,"a":1}`, 1, "unexpected character"},
		{`{a:1}`, 1, "unexpected character"},
		{`{"a" 1}`, 5, "unexpected character"},
		{`{"a":1 "b":2}`, 7, "unexpected character"},
		{`{"a":1"b":2}`, 6, "unexpected character"},
		{`{"a":1]`, 6, "unexpected character"},
		{`{"a":NaNs}`, 8, "unexpected character"},
		{`{"a":[1,]}`, 8, "unexpected character"},
		{`{"a": tru}`, 6, "invalid literal"},
		{`{"a":01}`, 5, "invalid number"},
		{`{"a":[-]}`, 7, "invalid number"},
		{"{\"a\":\"b\n\"}", 7, "control character in string"},
		{`{"a":"b\x"}`, 7, "invalid escape in string"},
		{"{\"\t\":1}", 2, "control character in string"},
		{"{\"a\":[\"\xff\",NaN,],\"b\":1}", 14, "unexpected character"},
		{"\uFEFF{\"a\xff\":1}", 6, "invalid UTF-8"},
		{`{"a":1,"b\ud800":1}`, 9, "lone surrogate in name"},
		{`{"a":1,"b\ud83d\ude00\udc00":1}`, 21, "lone surrogate in name"},
	} {
		want := &Error{Offset: tt.offset, Msg: tt.msg}
		_, err := readString(tt.file, 512)
		require.Equal(t, want, err, "%q", tt.file)
		for window := range len(tt.file) + 1 {
			r := newReader(strings.NewReader(tt.file), 512, window)
			_, err := readAll(r)
			require.Equal(t, want, err, "%q", tt.file)
			_, err = r.Next()
			require.Equal(t, want, err, "%q", tt.file)
		}
	}
}

func TestReaderTexts(t *testing.T) {
	t.Parallel()
	wrap := func(text string) string { return `{"before":{},"x":` + text + `,"after":[]}` }
	for _, text := range goodTexts {
		got, err := readString(wrap(text), 512)
		require.Equal(t, io.EOF, err, "%q", text)
		require.Len(t, got, 3)
		require.NoError(t, got[1].Err)
		require.Equal(t, strings.Trim(text, " \t\r\n"), string(got[1].Value))
	}
	for _, text := range lenientTexts {
		got, err := readString(wrap(text), 512)
		require.Equal(t, io.EOF, err, "%q", text)
		require.Len(t, got, 3)
		require.NoError(t, got[2].Err)
		require.Equal(t, text, string(got[1].Value))
		var want, have *Error
		require.ErrorAs(t, Check([]byte(text), 512), &want)
		require.ErrorAs(t, got[1].Err, &have)
		require.Equal(t, &Error{want.Offset + got[1].Offset, want.Msg}, have)
	}
	for _, text := range badTexts {
		var e *Error
		_, err := readString(wrap(text), 2000)
		require.ErrorAs(t, err, &e, "%q", text)
	}
}

func TestReaderDepth(t *testing.T) {
	t.Parallel()
	const levels = 1_000_000
	deep := strings.Repeat("[", levels) + strings.Repeat("]", levels)
	got, err := readString(`{"a":[[]],"b":`+deep+`,"c":[[[]]],"d":1}`, 2)
	require.Equal(t, io.EOF, err)
	require.Len(t, got, 4)
	require.NoError(t, got[0].Err)
	require.Equal(t, &Error{16, "nesting deeper than 2"}, got[1].Err)
	require.Len(t, got[1].Value, 2*levels)
	require.Equal(t, &Error{int64(2*levels + 21), "nesting deeper than 2"}, got[2].Err)
	require.NoError(t, got[3].Err)
}

// TestReaderWindow makes sure that the window grows for large members only.
func TestReaderWindow(t *testing.T) {
	t.Parallel()
	var file strings.Builder
	file.WriteString("{")
	for i := range 1000 {
		fmt.Fprintf(&file, `%s"%d":"%s"`, strings.Repeat(" ", 300), i, strings.Repeat("x", i%200))
		if i < 999 {
			file.WriteString(strings.Repeat("\n", 300) + ",")
		}
	}
	file.WriteString(strings.Repeat(" ", 300) + "}" + strings.Repeat("\n", 10_000))
	r := newReader(strings.NewReader(file.String()), 512, 256)
	got, err := readAll(r)
	require.Equal(t, io.EOF, err)
	require.Len(t, got, 1000)
	require.Len(t, r.buf, 256)

	large := `{"a":"` + strings.Repeat("x", 1000) + `"}`
	r = newReader(strings.NewReader(large), 512, 256)
	_, err = readAll(r)
	require.Equal(t, io.EOF, err)
	require.Len(t, r.buf, 1024)
}

func TestReaderSources(t *testing.T) {
	t.Parallel()
	const file = "\uFEFF{\"a\":1.5,\"b\\n\":[\"中\",NaN],\"c\":{\"d\":\"\\ud83d\\ude00\"}}\n"
	want, err := readString(file, 512)
	require.Equal(t, io.EOF, err)
	require.Len(t, want, 3)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte": iotest.OneByteReader,
		"half":     iotest.HalfReader,
		"data err": iotest.DataErrReader,
	} {
		for window := range len(file) + 1 {
			got, err := readAll(newReader(wrap(strings.NewReader(file)), 512, window))
			require.Equal(t, io.EOF, err, name)
			require.Equal(t, want, got, name)
		}
	}

	// The source's own errors come through, wherever they strike.
	broken := errors.New("broken")
	for i := range len(file) + 1 {
		src := io.MultiReader(strings.NewReader(file[:i]), iotest.ErrReader(broken))
		_, err := readAll(NewReader(src, 512))
		require.Equal(t, broken, err)
	}
	_, err = readAll(NewReader(emptyReader{}, 512))
	require.Equal(t, io.ErrNoProgress, err)
}

// emptyReader never gets anywhere.
type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

// TestReaderTruncated cuts a file of 16 KiB at every place.
func TestReaderTruncated(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("Long runs keep the test quick. ", 40)
	file := []byte("{")
	for i := 0; len(file) < 16<<10; i++ {
		if i > 0 {
			file = append(file, ',')
		}
		file = fmt.Appendf(file, "\n  \"doc-%d\\u00e9\": {\"content\": \"中文 \\n\\\"text\\\" %s😀\", \"n\": [-1.5e3, true, null, NaN]}", i, long)
	}
	file = append(file, "\n}"...)
	_, err := readAll(NewReader(bytes.NewReader(file), 512))
	require.Equal(t, io.EOF, err)
	for i := range file {
		r := newReader(bytes.NewReader(file[:i]), 512, 4<<10)
		_, err := r.Next()
		for err == nil {
			_, err = r.Next()
		}
		var e *Error
		if !errors.As(err, &e) || *e != (Error{int64(i), "unexpected end"}) {
			t.Fatal(i, err)
		}
	}
}

// TestReaderFiles takes files written by Python apart and puts them together
// again.
func TestReaderFiles(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("KV_TEST_DATA")
	if dir == "" {
		t.Skip("KV_TEST_DATA is not set: it names the directory of the sample files written by Python")
	}
	paths, err := filepath.Glob(filepath.Join(dir, "dickens", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	paths = append(paths, filepath.Join(dir, "golden", "kv_store_golden.json"), filepath.Join(dir, "golden", "kv_store_odd.json"))
	for _, path := range paths {
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, window := range []int{1, 1000, windowSize} {
			r := newReader(bytes.NewReader(want), 512, window)
			got := []byte("{\n")
			for i := 0; ; i++ {
				m, err := r.Next()
				if err == io.EOF {
					break
				}
				require.NoError(t, err, path)
				if i > 0 {
					got = append(got, ",\n"...)
				}
				require.Equal(t, m.Err == nil, Check(m.Value, 512) == nil)
				got = append(AppendString(append(got, "  "...), string(m.Name)), ": "...)
				got = AppendIndent(got, AppendCompact(nil, m.Value), "  ")
			}
			got = append(got, "\n}"...)
			require.True(t, bytes.Equal(want, got), path)
		}
	}
}
