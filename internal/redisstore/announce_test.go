package redisstore

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/fault"
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
		for name, o := range map[string]Options{"shared": {}, "unshared": {Unshared: true}} {
			o.Addrs, o.SocketTimeout = []string{announcer(t, header)}, 300*time.Millisecond
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

// announcer starts a server that answers GET with a header alone.
func announcer(t *testing.T, header string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			running.Go(func() { announce(conn, header) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return l.Addr().String()
}

// announce knows commands by the line with their name.
func announce(conn net.Conn, header string) {
	defer func() { _ = conn.Close() }()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		answer := ""
		switch strings.ToLower(lines.Text()) {
		case "hello":
			answer = "-ERR unknown command\r\n"
		case "get":
			answer = header
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}
