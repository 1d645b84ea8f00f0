package jsonscan

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestCheckTexts(t *testing.T) {
	t.Parallel()
	for _, text := range goodTexts {
		require.NoError(t, Check([]byte(text), 512), "%q", text)
		require.True(t, json.Valid([]byte(text)), "%q", text)
	}
	for _, text := range badTexts {
		require.Error(t, Check([]byte(text), 512), "%q", text)
		require.False(t, json.Valid([]byte(text)) && utf8.ValidString(text), "%q", text)
	}
	for _, text := range lenientTexts {
		require.Error(t, Check([]byte(text), 512), "%q", text)
	}
}

func TestCheckErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text   string
		offset int64
		msg    string
	}{
		{"", 0, "unexpected end"},
		{"  ", 2, "unexpected end"},
		{`{"a":`, 5, "unexpected end"},
		{`[tru`, 4, "unexpected end"},
		{`"\u12`, 5, "unexpected end"},
		{"\"\xe4\xb8", 3, "unexpected end"},
		{`-`, 1, "unexpected end"},
		{`[1,]`, 3, "unexpected character"},
		{`{"a" 1}`, 5, "unexpected character"},
		{`[1}`, 2, "unexpected character"},
		{"\ufeff{}", 0, "unexpected character"},
		{"\"a\n\"", 2, "control character in string"},
		{`"a\x"`, 2, "invalid escape in string"},
		{`"a\u00zz"`, 2, "invalid escape in string"},
		{`[01]`, 1, "invalid number"},
		{`[-01]`, 2, "invalid number"},
		{`[1.x]`, 3, "invalid number"},
		{`[-x]`, 2, "invalid number"},
		{`[trux]`, 1, "invalid literal"},
		{`{} {`, 3, "data after the value"},
		{"\"abc\xff\"", 4, "invalid UTF-8"},
		{`[1,NaN]`, 3, "NaN or Infinity"},
		{`[-Infinity]`, 1, "NaN or Infinity"},
		{`[[[[]]]]`, 3, "nesting deeper than 3"},
	} {
		require.Equal(t, &Error{Offset: tt.offset, Msg: tt.msg}, Check([]byte(tt.text), 3), "%q", tt.text)
	}
	require.EqualError(t, Check([]byte(`[1,]`), 3), "invalid JSON at offset 3: unexpected character")
}

func TestCheckDepth(t *testing.T) {
	t.Parallel()
	for _, depth := range []int{1, 2, 63, 64, 65, 127, 128, 129, 512} {
		nested := func(n int) []byte {
			var b strings.Builder
			for i := range n {
				b.WriteString([]string{"[", `{"a":`}[i*i%7%2])
			}
			b.WriteString("0")
			for i := n - 1; i >= 0; i-- {
				b.WriteString([]string{"]", "}"}[i*i%7%2])
			}
			return []byte(b.String())
		}
		require.NoError(t, Check(nested(depth), depth), depth)
		require.Error(t, Check(nested(depth+1), depth), depth)
	}
	require.NoError(t, Check([]byte("1"), 0))
	require.Error(t, Check([]byte("[]"), 0))

	start := time.Now()
	err := Check([]byte(strings.Repeat("[", 1_000_000)), 512)
	require.Equal(t, &Error{Offset: 512, Msg: "nesting deeper than 512"}, err)
	require.Less(t, time.Since(start), 100*time.Millisecond)
}

// TestCheckEveryByte puts every byte, and every pair of bytes beyond ASCII,
// into strings at all places relative to the words the scanner reads.
func TestCheckEveryByte(t *testing.T) {
	t.Parallel()
	for at := range 20 {
		text := []byte(`"` + strings.Repeat("x", 40) + `"`)
		for c := range 256 {
			text[1+at] = byte(c)
			require.Equal(t, json.Valid(text) && utf8.Valid(text), Check(text, 0) == nil, "%q", text)
		}
	}
	text := []byte(`"xxxxxxxxxxxxxxxxxx"`)
	for at := range 17 {
		for c := range 256 * 256 {
			text[1+at], text[2+at] = byte(c>>8), byte(c)
			if c>>8 >= utf8.RuneSelf && utf8.Valid(text) != (scanned(text) != errUTF8) {
				t.Fatalf("%q", text)
			}
		}
		text[1+at] = 'x'
	}
}

func scanned(text []byte) code {
	_, c := scanString(text, 1)
	return c
}

// TestCheckUTF8 scans every code point, surrogates included, and every lead
// byte with continuations at the limits of what may follow it.
func TestCheckUTF8(t *testing.T) {
	t.Parallel()
	var text []byte
	for r := rune(0x80); r <= 0x110FFF; r++ {
		// utf8.AppendRune does not encode surrogates and what is too large.
		seq := []byte{0xF0 | byte(r>>18), 0x80 | byte(r>>12)&0x3F, 0x80 | byte(r>>6)&0x3F, 0x80 | byte(r)&0x3F}
		switch {
		case r < 0x800:
			seq = []byte{0xC0 | byte(r>>6), seq[3]}
		case r < 0x10000:
			seq = []byte{0xE0 | byte(r>>12), seq[2], seq[3]}
		}
		text = append(append(append(text[:0], '"'), seq...), `1234567"`...)
		if utf8.ValidRune(r) != (Check(text, 0) == nil) {
			t.Fatalf("%U", r)
		}
	}
	limits := []byte{0x22, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0}
	for lead := 0x80; lead < 0x100; lead++ {
		for _, a := range limits {
			for _, b := range limits {
				for _, c := range limits {
					for _, tail := range []string{`"`, `1234567"`, `中中中"`} {
						text = append(append(text[:0], '"', byte(lead), a, b, c), tail...)
						if want := json.Valid(text) && utf8.Valid(text); want != (Check(text, 0) == nil) {
							t.Fatalf("%q", text)
						}
					}
				}
			}
		}
	}
}

func TestCheckAllocs(t *testing.T) {
	text := []byte(`{"a":[1,{"b":"中\n"},[[[[]]]]],"c":"` + strings.Repeat("x", 5000) + `"}`)
	require.Zero(t, testing.AllocsPerRun(10, func() {
		if err := Check(text, 512); err != nil {
			t.Error(err)
		}
	}))
}

// TestErrorsHideContent makes sure that no message depends on the data.
func TestErrorsHideContent(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"nesting deeper than 512": true}
	for _, msg := range messages {
		known[msg] = true
	}
	for _, text := range badTexts {
		var e *Error
		require.ErrorAs(t, Check([]byte(text), 512), &e)
		require.True(t, known[e.Msg], e.Msg)
		require.NotEmpty(t, e.Msg)
		require.Equal(t, fmt.Sprintf("invalid JSON at offset %d: %s", e.Offset, e.Msg), e.Error())
	}
}
