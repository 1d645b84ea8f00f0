package jsonscan

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// The elements of an array come one by one, whatever part of the file the
// window holds, and those that are not strict JSON with their error.
func TestAnyReader(t *testing.T) {
	t.Parallel()
	file := "\uFEFF [ {\"a\" : [1]} ,\n2,[],\"x,]\\\"\", NaN,[[[1]]],null ] \n"
	want := []string{`{"a" : [1]}`, "2", "[]", `"x,]\""`, "NaN!", "[[[1]]]!", "null"}
	for window := range 64 {
		r := newReader(iotest.OneByteReader(strings.NewReader(file)), 2, window)
		r.any = true
		got, err := readAll(r)
		require.Equal(t, io.EOF, err)
		var texts []string
		for _, m := range got {
			require.Empty(t, m.Name)
			require.Equal(t, string(m.Value), file[m.Offset:][:len(m.Value)])
			text := string(m.Value)
			if m.Err != nil {
				text += "!"
			}
			texts = append(texts, text)
		}
		require.Equal(t, want, texts)
	}
	for file, is := range map[string]bool{"[]": true, " {}": false} {
		r := NewAnyReader(strings.NewReader(file), 0)
		got, err := readAll(r)
		require.Equal(t, io.EOF, err)
		require.Empty(t, got)
		open, array := r.Open()
		require.True(t, open)
		require.Equal(t, is, array)
	}
	for _, tt := range []struct {
		file   string
		offset int64
		msg    string
	}{
		{"", 0, "unexpected end"},
		{"1", 0, "unexpected character"},
		{"[1", 2, "unexpected end"},
		{"[1,", 3, "unexpected end"},
		{"[1,]", 3, "unexpected character"},
		{"[,1]", 1, "unexpected character"},
		{"[1 2]", 3, "unexpected character"},
		{"[1}", 2, "unexpected character"},
		{`["a":1]`, 4, "unexpected character"},
		{"[] ]", 3, "data after the value"},
		{"[1]{}", 3, "data after the value"},
	} {
		_, err := readAll(NewAnyReader(strings.NewReader(tt.file), 9))
		require.Equal(t, &Error{tt.offset, tt.msg}, err, tt.file)
	}
}

// A member over the bound is passed over, and those around it are read,
// whatever part of the file the window holds.
func TestReaderBound(t *testing.T) {
	t.Parallel()
	long := `{"x":["]}\\\"",{"y":"` + strings.Repeat(`\"}],`, 20) + `"}], "z":-1.5e3 }`
	for array, file := range map[bool]string{
		false: `{"a":1,"b\u0021" : ` + long + `, "c":` + long + `,"d":[2]}`,
		true:  `[1,` + long + `, ` + long + `,[2]]`,
	} {
		for window := range 200 {
			r := newReader(iotest.OneByteReader(strings.NewReader(file)), 9, window).Bound(40)
			r.any = array
			got, err := readAll(r)
			require.Equal(t, io.EOF, err)
			var seen []string
			for _, m := range got {
				if m.Err != nil {
					require.Equal(t, &TooLongError{40}, m.Err)
					require.Nil(t, m.Value)
				}
				seen = append(seen, fmt.Sprintf("%s=%s", m.Name, m.Value))
			}
			if array {
				require.Equal(t, []string{"=1", "=", "=", "=[2]"}, seen)
			} else {
				require.Equal(t, []string{"a=1", "b!=", "c=", "d=[2]"}, seen)
			}
		}
	}
	// At the bound a member is not over it, and behind one the file still ends
	// where it ends.
	for file, want := range map[string]int{`{"a":12}`: 0, `{"a":123}`: 1, `{"a":12,"b":123}`: 1} {
		got, err := readAll(NewReader(strings.NewReader(file), 9).Bound(6))
		require.Equal(t, io.EOF, err)
		n := 0
		for _, m := range got {
			if m.Err != nil {
				n++
			}
		}
		require.Equal(t, want, n, file)
	}
	for _, file := range []string{`{"a":"` + long, `{"a":["xxxxxxxxxx"]]`, `{"a":"xxxxxxxxxxxxxxx"}}`, `{"xxxxxxxxxxxxxxxxxxxxxx\`} {
		_, err := readAll(NewReader(strings.NewReader(file), 9).Bound(6))
		require.ErrorAs(t, err, new(*Error), file)
	}
}

// A member without end takes no more memory than the bound.
func TestReaderBoundsMemory(t *testing.T) {
	t.Parallel()
	const bound = 3 << 20
	for _, begin := range []string{`["`, `[ [`, `[ 1`, `{"a":"`, `{"`} {
		src := io.MultiReader(strings.NewReader(begin), &endless{left: 32 << 20})
		r := NewAnyReader(src, 9)
		_, err := readAll(r.Bound(bound))
		require.Error(t, err)
		require.False(t, errors.Is(err, io.EOF))
		require.LessOrEqual(t, len(r.buf), bound+1)
	}
}

// An endless text is a run of ones.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	for i := range n {
		p[i] = '1'
	}
	e.left -= n
	return n, nil
}
