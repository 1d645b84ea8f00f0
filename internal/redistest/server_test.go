//go:build unix

package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// dial returns a client for a URL of this package.
func dial(t *testing.T, rawURL string, cfg *tls.Config) *redis.Client {
	t.Helper()
	opt, err := redis.ParseURL(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	if opt.TLSConfig != nil {
		opt.TLSConfig = cfg
	}
	opt.MaxRetries = -1
	opt.DialerRetries = 1
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestStart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := Start(t, Arg("--maxmemory", "30mb", "--save", "60", "1"))
	for _, u := range []string{s.URL(), s.SocketURL()} {
		if err := dial(t, u, nil).Set(ctx, "k", u, 0).Err(); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	if got := s.Client().Get(ctx, "k").Val(); got != s.SocketURL() {
		t.Errorf("admin client got %q", got)
	}
	conf, err := s.Client().ConfigGet(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"maxmemory": "31457280", "save": "60 1", "appendonly": "no"} {
		if conf[k] != want {
			t.Errorf("%s is %q, want %q", k, conf[k], want)
		}
	}
	if !strings.Contains(s.Log(), "Ready to accept connections") {
		t.Errorf("log is %q", s.Log())
	}
}

func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	var running, paused, killed *Server
	t.Run("servers", func(t *testing.T) {
		running, paused, killed = Start(t), Start(t), Start(t)
		paused.Pause()
		killed.Kill()
	})
	for _, s := range []*Server{running, paused, killed} {
		if err := syscall.Kill(s.PID(), 0); err != syscall.ESRCH {
			t.Errorf("process %d is there: %v", s.PID(), err)
		}
		if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
			t.Errorf("directory %s is there: %v", s.Dir, err)
		}
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := Start(t, Password("p@ss \"w\\örd/?#"))
	for _, u := range []string{s.URL(), s.SocketURL()} {
		if err := dial(t, u, nil).Ping(ctx).Err(); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	if err := dial(t, "redis://"+s.Addr, nil).Ping(ctx).Err(); !redis.IsAuthError(err) {
		t.Errorf("without password: %v", err)
	}
}

func TestACL(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := Start(t)
	s.ACL("reader", "pw", "~*", "+@read", "+@connection")
	s.ACL("default", "", "-@all")
	s.Restart()
	c := dial(t, "redis://reader:pw@"+s.Addr, nil)
	if err := c.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("GET: %v", err)
	}
	if err := c.Set(ctx, "k", "v", 0).Err(); !redis.IsPermissionError(err) {
		t.Errorf("SET: %v", err)
	}
	if err := s.Client().Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Errorf("SET of the admin client: %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, clients := range []string{"yes", "no", "optional"} {
		s := Start(t, TLS(clients))
		if err := dial(t, s.URL(), s.TLS.Config(true)).Ping(ctx).Err(); err != nil {
			t.Errorf("tls-auth-clients %s: with certificate: %v", clients, err)
		}
		err := dial(t, s.URL(), s.TLS.Config(false)).Ping(ctx).Err()
		if (err != nil) != (clients == "yes") {
			t.Errorf("tls-auth-clients %s: without certificate: %v", clients, err)
		}
		if err := dial(t, s.URL(), &tls.Config{ServerName: "localhost"}).Ping(ctx).Err(); err == nil {
			t.Errorf("tls-auth-clients %s: authority not checked", clients)
		}
		if err := dial(t, "redis://"+s.Addr, nil).Ping(ctx).Err(); err == nil {
			t.Errorf("tls-auth-clients %s: answers without TLS", clients)
		}
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := Start(t, AppendFsyncAlways())
	pid, addr := s.PID(), s.Addr
	for _, end := range []func(){s.Kill, s.Stop, func() {}, func() { s.Pause() }} {
		if err := s.Client().Incr(ctx, "n").Err(); err != nil {
			t.Fatal(err)
		}
		end()
		s.Restart()
	}
	if n, err := s.Client().Get(ctx, "n").Int(); n != 4 || err != nil {
		t.Errorf("n is %d, %v, want 4", n, err)
	}
	if s.PID() == pid || s.Addr != addr {
		t.Errorf("process %d at %s, was %d at %s", s.PID(), s.Addr, pid, addr)
	}

	// Without the option, nothing is kept.
	s = Start(t)
	s.Client().Set(ctx, "k", "v", 0)
	s.Restart()
	if err := s.Client().Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("k after a restart: %v", err)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	s := Start(t)
	c := dial(t, s.URL(), nil)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	reply := make(chan error, 1)
	go func() { reply <- c.Ping(context.Background()).Err() }()
	select {
	case err := <-reply:
		t.Errorf("paused server replied: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s.Resume()
	if err := <-reply; err != nil {
		t.Errorf("resumed server: %v", err)
	}
}

// fakeTB records how a test would end.
type fakeTB struct {
	testing.TB
	fatal, skip string
}

func (f *fakeTB) Fatalf(format string, args ...any) { f.fatal = format; panic(f) }
func (f *fakeTB) Skipf(format string, args ...any)  { f.skip = format; panic(f) }

func TestMissingBinary(t *testing.T) {
	t.Setenv("KV_TEST_REDIS_SERVER", "no-such-redis-server")
	for _, require := range []string{"", "require"} {
		t.Setenv("KV_TEST_REDIS", require)
		f := &fakeTB{TB: t}
		func() {
			defer func() { _ = recover() }()
			Start(f)
		}()
		if (f.fatal != "") != (require != "") || (f.skip != "") != (require == "") {
			t.Errorf("KV_TEST_REDIS=%s: fatal %q, skip %q", require, f.fatal, f.skip)
		}
	}
}
