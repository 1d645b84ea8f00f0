package testkit

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A StrangeServer speaks RESP 2, and answers with what reply says, which may
// be anything. Nothing is OK, and a PING a PONG.
type StrangeServer struct {
	Addr  string
	reply func(args []string) string

	mu    sync.Mutex
	calls map[string]int // of each command, in lower case
}

// StartStrange starts a server that ends with the test.
func StartStrange(t *testing.T, reply func(args []string) string) *StrangeServer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &StrangeServer{Addr: l.Addr().String(), reply: reply, calls: make(map[string]int)}
	var running sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			running.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return s
}

func (s *StrangeServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for in := bufio.NewReader(conn); ; {
		args, err := readCommand(in)
		if err != nil {
			return
		}
		name := strings.ToLower(args[0])
		s.mu.Lock()
		s.calls[name]++
		s.mu.Unlock()
		answer := s.reply(args)
		switch {
		case answer != "":
		case name == "hello":
			answer = "-ERR unknown command\r\n"
		case name == "ping":
			answer = "+PONG\r\n"
		default:
			answer = "+OK\r\n"
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

// readCommand reads an array of strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	count := func(kind byte) (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line[0] != kind {
			return 0, errors.New("no command")
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := count('*')
	args := make([]string, n)
	for i := range args {
		size, bad := count('$')
		if err = errors.Join(err, bad); err != nil {
			return nil, err
		}
		arg := make([]byte, size+2)
		if _, err = io.ReadFull(in, arg); err != nil {
			return nil, err
		}
		args[i] = string(arg[:size])
	}
	return args, err
}

func (s *StrangeServer) Called(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[name]
}
