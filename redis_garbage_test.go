package kv

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/redisstore"
	"github.com/ngraf/kv/internal/testkit"
)

// A strangeServer speaks RESP 2, and answers with what reply says, which may
// be anything. Nothing is OK, and a PING a PONG.
type strangeServer struct {
	addr  string
	reply func(args []string) string

	mu    sync.Mutex
	calls map[string]int // of each command, in lower case
}

// startStrange starts a server that ends with the test.
func startStrange(t *testing.T, reply func(args []string) string) *strangeServer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &strangeServer{addr: l.Addr().String(), reply: reply, calls: make(map[string]int)}
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

func (s *strangeServer) serve(conn net.Conn) {
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

func (s *strangeServer) called(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[name]
}

// A reply that cannot be read says nothing of what was done: Insert and Delete
// are sent once and say that they do not know, on every way a command can go;
// and what the reply holds, which may be anybody's, is not shown.
func TestRedisReplyThatCannotBeRead(t *testing.T) {
	const garbage = "GEHEIM"
	server := startStrange(t, func(args []string) string {
		switch strings.ToLower(args[0]) {
		case "set", "unlink":
			return "?" + garbage + "\r\n"
		}
		return ""
	})
	many := map[string]json.RawMessage{"a": json.RawMessage("1"), "b": json.RawMessage("2")}
	for name, opts := range map[string][]Option{"shared": nil, "unshared": {WithoutAutoPipelining()}} {
		s := openRedisStore(t, redisCfg("redis://"+server.addr), "docs", opts...)
		for op, call := range map[string]func() (int, error){
			"set":    func() (int, error) { return s.Insert(t.Context(), testkit.OneDoc) },
			"unlink": func() (int, error) { return s.Delete(t.Context(), "a") },
		} {
			before := server.called(op)
			n, err := call()
			require.ErrorIs(t, err, ErrOutcomeUnknown, "%s, %s", name, op)
			require.ErrorIs(t, err, ErrUnavailable, "%s, %s", name, op)
			require.NotContains(t, fmt.Sprintf("%v %+v", err, err), garbage)
			require.Zero(t, n)
			require.Equal(t, 1, server.called(op)-before, "%s, %s", name, op)
		}
		n, err := s.Insert(t.Context(), many)
		require.ErrorIs(t, err, ErrOutcomeUnknown, name)
		require.Zero(t, n)
		n, err = s.Delete(t.Context(), "a", "b")
		require.ErrorIs(t, err, ErrOutcomeUnknown, name)
		require.Zero(t, n)
	}
}

// What goes wrong in the making of a connection comes before the command: the
// call fails, and its outcome is known. So it is with Sentinels that do not
// know the master, and with a server that knows no TLS.
func TestRedisNoServerToSendTo(t *testing.T) {
	unknown := startStrange(t, func(args []string) string {
		if strings.EqualFold(args[0], "sentinel") {
			return "*-1\r\n"
		}
		return ""
	})
	broken := startStrange(t, func([]string) string { return "HTTP/1.1 400 Bad Request\r\n" })
	for _, url := range []string{
		"redis://" + unknown.addr + "?master_name=nobody",
		"rediss://" + broken.addr,
		"rediss://" + broken.addr + "?cluster=true",
	} {
		cfg := redisCfg(url)
		o := settledOptions(t, cfg, WithLogger(new(testkit.LogBook).Logger()))
		client, err := redisstore.Connect(o)
		require.NoError(t, err)
		e := redisstore.New(client, o, "docs", nil)
		require.ErrorIs(t, e.Ping(t.Context()), ErrUnavailable, url)
		n, err := e.Insert(t.Context(), engine.Items{ByID: testkit.OneDoc})
		require.ErrorIs(t, err, ErrUnavailable, url)
		require.NotErrorIs(t, err, ErrOutcomeUnknown, url)
		require.Zero(t, n)
		n, err = e.Delete(t.Context(), []string{"a", "b"})
		require.ErrorIs(t, err, ErrUnavailable, url)
		require.NotErrorIs(t, err, ErrOutcomeUnknown, url)
		require.Zero(t, n)
		require.NoError(t, client.Close())
	}
}

// A login that the server refuses when a connection is made fails the commands
// that were to go over it, together as by themselves: nothing is acknowledged
// that was not sent.
func TestRedisLoginRefusedLater(t *testing.T) {
	var refuse atomic.Bool
	server := startStrange(t, func(args []string) string {
		if refuse.Load() && strings.EqualFold(args[0], "auth") {
			return "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
		}
		return ""
	})
	cfg := redisCfg("redis://:pw@" + server.addr)
	cfg.Redis.HealthCheckInterval = 1 // Every call makes a connection.
	cfg.TTL = map[string]time.Duration{"timed": time.Hour}
	many := map[string]json.RawMessage{"a": json.RawMessage("1"), "b": json.RawMessage("2")}
	for name, opts := range map[string][]Option{"shared": nil, "unshared": {WithoutAutoPipelining()}} {
		for _, namespace := range []string{"docs", "timed"} {
			refuse.Store(false)
			s := openRedisStore(t, cfg, namespace, opts...)
			refuse.Store(true)
			for op, call := range map[string]func() error{
				"upsert one":  func() error { return s.Upsert(t.Context(), testkit.OneDoc) },
				"upsert many": func() error { return s.Upsert(t.Context(), many) },
				"insert many": func() error { _, err := s.Insert(t.Context(), many); return err },
				"delete many": func() error { _, err := s.Delete(t.Context(), "a", "b"); return err },
				"ttl":         func() error { _, err := s.TTL(t.Context(), "a"); return err },
				"missing":     func() error { _, err := s.Missing(t.Context(), []string{"a", "b"}); return err },
			} {
				require.ErrorContains(t, call(), "REDIS_PASSWORD", "%s: %s in %s", name, op, namespace)
			}
			// Commands of several callers, of which the last ones share a round trip.
			errs := make([]error, 50)
			var running sync.WaitGroup
			for i := range errs {
				running.Go(func() { errs[i] = s.Upsert(t.Context(), testkit.OneDoc) })
			}
			running.Wait()
			for _, err := range errs {
				require.ErrorContains(t, err, "REDIS_PASSWORD", name)
			}
		}
	}
	require.Zero(t, server.called("set"))
	require.Zero(t, server.called("unlink"))
}
