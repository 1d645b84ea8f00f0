// Package testkit has what the tests of several packages share.
package testkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
)

// A LogBook keeps what was logged.
type LogBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *LogBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *LogBook) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (b *LogBook) Text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Warnings returns the lines of level WARN.
func (b *LogBook) Warnings() []string {
	return slices.DeleteFunc(strings.Split(b.Text(), "\n"), func(l string) bool { return !strings.Contains(l, "level=WARN") })
}

// Causes walks the tree of an error.
func Causes(err error) func(yield func(error) bool) {
	return func(yield func(error) bool) {
		for todo := []error{err}; len(todo) > 0; todo = todo[1:] {
			if todo[0] == nil {
				continue
			}
			if !yield(todo[0]) {
				return
			}
			switch e := todo[0].(type) {
			case interface{ Unwrap() error }:
				todo = append(todo, e.Unwrap())
			case interface{ Unwrap() []error }:
				todo = append(todo, e.Unwrap()...)
			}
		}
	}
}

// Numbered returns n documents whose values name their ids.
func Numbered(n int) map[string]json.RawMessage {
	items := make(map[string]json.RawMessage, n)
	for i := range n {
		items[fmt.Sprintf("id-%d", i)] = json.RawMessage(fmt.Sprintf(`{"id":"id-%d"}`, i))
	}
	return items
}

func AllKeys(t *testing.T, c *redis.Client) []string {
	t.Helper()
	keys, err := c.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	slices.Sort(keys)
	return keys
}

// ServerCalls returns how often the server executed a command, failed ones included.
func ServerCalls(t *testing.T, c *redis.Client, command string) int {
	t.Helper()
	info, err := c.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	m := regexp.MustCompile(`cmdstat_` + command + `:calls=(\d+)`).FindStringSubmatch(info)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	return n
}

// ServerInfo returns a number of INFO, or 0 where there is none.
func ServerInfo(t *testing.T, c *redis.Client, section, field string) int64 {
	t.Helper()
	text, err := c.Info(t.Context(), section).Result()
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^` + field + `:(\d+)`).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	require.NoError(t, err)
	return n
}

// Received returns how many connections the server has accepted so far.
func Received(t *testing.T, server *redistest.Server) int {
	t.Helper()
	n := ServerInfo(t, server.Client(), "stats", "total_connections_received")
	require.Positive(t, n)
	return int(n)
}

// Together runs do that many times at once.
func Together(t *testing.T, n int, do func(worker int)) {
	t.Helper()
	var running sync.WaitGroup
	for worker := range n {
		running.Go(func() { do(worker) })
	}
	running.Wait()
}

// TCPClients returns how many TCP connections the server has.
func TCPClients(t *testing.T, s *redistest.Server) int {
	t.Helper()
	list, err := s.Client().ClientList(t.Context()).Result()
	require.NoError(t, err)
	return strings.Count(list, " laddr="+s.Addr+" ")
}

// A Hook sees every command after its reply.
type Hook func(cmd redis.Cmder)

func (h Hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h Hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { err := next(ctx, cmd); h(cmd); return err }
}

func (h Hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			h(cmd)
		}
		return err
	}
}

// KillTCP ends all TCP connections of the server.
func KillTCP(ctx context.Context, server *redistest.Server) error {
	return server.Client().ClientKillByFilter(ctx, "LADDR", server.Addr).Err()
}

func Await(done func() bool) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if done() {
			return nil
		}
	}
	return errors.New("waited in vain")
}

// A DroppingProxy forwards to a server, and drops the reply to the first
// request that holds a text, with its connection.
type DroppingProxy struct {
	net.Listener
	target string
	Drop   atomic.Pointer[string]
	wg     sync.WaitGroup
}

// StartProxy gives the proxy an address; it accepts with forward.
func StartProxy(t *testing.T) *DroppingProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &DroppingProxy{Listener: l}
	t.Cleanup(func() { _ = l.Close(); p.wg.Wait() })
	return p
}

func (p *DroppingProxy) Forward(target string) {
	p.target = target
	p.wg.Go(func() {
		for {
			conn, err := p.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(conn) })
		}
	})
}

func (p *DroppingProxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	var dropping atomic.Bool
	p.wg.Go(func() { relay(client, server, &dropping) })
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		text := p.Drop.Load()
		drop := text != nil && bytes.Contains(bytes.ToLower(buf[:n]), []byte(*text)) && p.Drop.CompareAndSwap(text, nil)
		dropping.CompareAndSwap(false, drop)
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// relay passes replies on until one is to be dropped.
func relay(client, server net.Conn, dropping *atomic.Bool) {
	defer client.Close()
	defer server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil || dropping.Load() {
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// Slack is what a bound in time may be missed by on a loaded machine. The
// timeouts that would be waited for by mistake are longer.
const Slack = 2 * time.Second

var OneDoc = map[string]json.RawMessage{"a": json.RawMessage(`1`)}

// GoldenData reads a file that CPython wrote, or skips the test.
func GoldenData(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("KV_TEST_DATA")
	if dir == "" {
		t.Skip("KV_TEST_DATA is not set to the folder with the golden files that Python wrote")
	}
	text, err := os.ReadFile(filepath.Join(dir, "golden", name))
	require.NoError(t, err)
	return text
}

// Decoded is a JSON text with its numbers as they are spelled.
func Decoded(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	require.NoError(t, d.Decode(&v))
	return v
}

// One is a single document.
func One(id, value string) map[string]json.RawMessage {
	return map[string]json.RawMessage{id: json.RawMessage(value)}
}

// InBackground runs f apart, and tells what it returns.
func InBackground(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// Soak is how often to do something, which the environment may raise.
func Soak(name string, normal int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return normal
}
