package redisstore

import (
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/fault"
)

// replies are what servers answer to a GET or an MGET, and what comes of it.
var replies = []struct {
	name, wire string
	want       []json.RawMessage
	err        string
}{
	{"get", "$4\r\n\"ab\"\r\n", []json.RawMessage{json.RawMessage(`"ab"`)}, ""},
	{"get, absent, RESP 2", "$-1\r\n", []json.RawMessage{nil}, ""},
	{"get, absent, RESP 3", "_\r\n", []json.RawMessage{nil}, ""},
	{"get, refused", "-WRONGTYPE Operation against a key holding the wrong kind of value, which is a long story\r\n", []json.RawMessage{nil}, "WRONGTYPE Op"},
	{"mget", "*3\r\n$1\r\n1\r\n$-1\r\n$2\r\n22\r\n", []json.RawMessage{json.RawMessage("1"), nil, json.RawMessage("22")}, ""},
	{"mget, RESP 3", "*2\r\n_\r\n$2\r\n22\r\n", []json.RawMessage{nil, json.RawMessage("22")}, ""},
	{"mget, refused", "-LOADING Redis is loading\r\n", []json.RawMessage{nil, nil}, "LOADING"},
	{"an end of line in a value", "$4\r\n\r\n1\n\r\n", []json.RawMessage{json.RawMessage("\r\n1\n")}, ""},
	{"too few", "*2\r\n$1\r\n1\r\n", []json.RawMessage{json.RawMessage("1"), nil}, errNotValues.Error()},
	{"another number", "*3\r\n$1\r\n1\r\n", []json.RawMessage{nil, nil}, errNotValues.Error()},
	{"too many", "$1\r\n1\r\n$1\r\n1\r\n", []json.RawMessage{json.RawMessage("1")}, errNotValues.Error()},
	{"a number", ":1\r\n", []json.RawMessage{nil}, errNotValues.Error()},
	{"a length that is none", "$x\r\n", []json.RawMessage{nil}, errNotValues.Error()},
	{"a negative length", "$-2\r\n", []json.RawMessage{nil}, errNotValues.Error()},
	{"a length beyond Redis's", "$536870913\r\n", []json.RawMessage{nil}, errNotValues.Error()},
	{"nothing", "\r\n", []json.RawMessage{nil}, errNotValues.Error()},
	{"an array in an array", "*1\r\n*1\r\n$1\r\n1\r\n", []json.RawMessage{nil}, errNotValues.Error()},
}

// A reply is understood however it is cut into parts.
func TestValuesReply(t *testing.T) {
	for _, tc := range replies {
		for _, size := range []int{1, 2, 3, 7, 1000} {
			for name, feed := range map[string]func(r *valuesReply) error{
				"written": func(r *valuesReply) error {
					_, err := io.Copy(struct{ io.Writer }{r}, chunked{strings.NewReader(tc.wire), size})
					return err
				},
				"read": func(r *valuesReply) error {
					n, err := r.ReadFrom(chunked{strings.NewReader(tc.wire), size})
					if err == nil {
						assert.EqualValues(t, len(tc.wire), n, tc.name)
					}
					return err
				},
			} {
				r := &valuesReply{values: make([]json.RawMessage, len(tc.want))}
				err := feed(r)
				if err == nil {
					err = r.result()
				}
				if tc.err == "" {
					require.NoError(t, err, "%s, %s by %d", tc.name, name, size)
				} else {
					require.ErrorContains(t, err, tc.err, "%s, %s by %d", tc.name, name, size)
				}
				require.Equal(t, tc.want, r.values, "%s, %s by %d", tc.name, name, size)
			}
		}
	}
}

// chunked reads at most size bytes at a time.
type chunked struct {
	src  io.Reader
	size int
}

func (c chunked) Read(p []byte) (int, error) { return c.src.Read(p[:min(c.size, len(p))]) }

// What is not JSON is reported, and not given out; an error of the connection
// ends the reading.
func TestValuesReplyTrouble(t *testing.T) {
	r := &valuesReply{values: make([]json.RawMessage, 3), check: true}
	_, err := r.Write([]byte("*3\r\n$1\r\n1\r\n$3\r\n{a}\r\n$0\r\n\r\n"))
	require.NoError(t, err)
	require.NoError(t, r.result())
	assert.Equal(t, []json.RawMessage{json.RawMessage("1"), nil, nil}, r.values)
	assert.NoError(t, r.corruption(0))
	assert.ErrorIs(t, r.corruption(1), fault.ErrCorrupt)
	assert.ErrorIs(t, r.corruption(2), fault.ErrCorrupt, "an empty string is no JSON")

	broken := errors.New("broken")
	r = &valuesReply{values: make([]json.RawMessage, 1)}
	_, err = r.ReadFrom(io.MultiReader(strings.NewReader("$9\r\n1234"), iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken)

	var server redis.Error
	require.ErrorAs(t, serverError("ERR"), &server)
}

// An error of the server is told to go-redis, which follows a redirection, and
// is forgotten when the other node answers.
func TestValuesReplyRedirected(t *testing.T) {
	r := &valuesReply{values: make([]json.RawMessage, 1)}
	_, err := r.Write([]byte("-ASK 1 h:1\r\n"))
	require.ErrorContains(t, err, "ASK 1 h:1")
	_, err = r.Write([]byte("$1\r\n7\r\n"))
	require.NoError(t, err)
	require.NoError(t, r.result())
	require.Equal(t, "7", string(r.values[0]))
}

var longNumber = regexp.MustCompile(`[0-9]{6}`)

func FuzzValuesReply(f *testing.F) {
	for _, tc := range replies {
		f.Add(tc.wire, len(tc.want), 3)
	}
	f.Fuzz(func(t *testing.T, wire string, n, size int) {
		if n < 1 || n > 100 || size < 1 || longNumber.MatchString(wire) {
			t.Skip() // Up to half a gigabyte of memory is taken for a value.
		}
		whole := &valuesReply{values: make([]json.RawMessage, n)}
		_, err := whole.Write([]byte(wire))
		parts := &valuesReply{values: make([]json.RawMessage, n)}
		_, again := parts.ReadFrom(chunked{strings.NewReader(wire), size})
		require.Equal(t, err, again)
		require.Equal(t, whole.values, parts.values)
		require.Equal(t, whole.result(), parts.result())
	})
}
