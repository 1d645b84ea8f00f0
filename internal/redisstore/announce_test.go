package redisstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/testkit"
)

// A value gets its memory as it comes, however it is cut, and has its exact
// size in the end.
func TestValuesReplyGrows(t *testing.T) {
	r := &valuesReply{values: make([]json.RawMessage, 1)}
	_, err := r.Write([]byte("$536870912\r\n{"))
	require.NoError(t, err)
	require.LessOrEqual(t, cap(r.value), firstBytes)

	for _, size := range []int{firstBytes - 1, firstBytes, firstBytes + 1, 2 * firstBytes, 5*firstBytes + 7} {
		want := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		wire := append(append([]byte("*2\r\n"+bulk(size)), want...), "\r\n$1\r\n7\r\n"...)
		for name, feed := range map[string]func(r *valuesReply) error{
			"written": func(r *valuesReply) error { _, err := r.Write(wire); return err },
			"read": func(r *valuesReply) error {
				_, err := r.ReadFrom(chunked{bytes.NewReader(wire), 70_000})
				return err
			},
		} {
			r := &valuesReply{values: make([]json.RawMessage, 2)}
			require.NoError(t, errors.Join(feed(r), r.result()))
			require.True(t, bytes.Equal(want, r.values[0]), "%d bytes, %s", size, name)
			require.Equal(t, size, cap(r.values[0]))
			require.Equal(t, "7", string(r.values[1]))
		}
	}
}

func bulk(size int) string { return fmt.Sprintf("$%d\r\n", size) }

// A server that announces more than it sends costs a Get neither memory nor
// more time than the socket's timeout and its repetitions.
func TestGetIsBoundedByWhatComes(t *testing.T) {
	for _, header := range []string{"$536870912\r\n", "$2147483648\r\n"} {
		announcer := testkit.StartStrange(t, func(args []string) string {
			if args[0] == "get" {
				return header
			}
			return ""
		})
		for name, o := range map[string]Options{"shared": {}, "unshared": {Unshared: true}} {
			o.Addrs, o.SocketTimeout = []string{announcer.Addr}, 100*time.Millisecond
			s := slowStore(t, o)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := s.Get(t.Context(), "a")
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, fault.ErrUnavailable, name)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), name)
		}
	}
}
