// Package redistest starts private redis-server processes for tests and
// benchmarks: single servers, clusters, and masters watched by sentinels.
//
// The processes listen on 127.0.0.1 and on a unix socket, keep nothing on disk
// unless asked to, and end with the test that started them. On Linux they end
// even where the test binary is killed.
//
// Tests are skipped where there is no redis-server, or fail if the environment
// variable KV_TEST_REDIS is "require". KV_TEST_REDIS_SERVER names the binary
// to use instead of the redis-server of the path.
package redistest

import (
	"context"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	readyTimeout = 10 * time.Second // For a server to answer.
	stopGrace    = 5 * time.Second  // For a server to end when asked to.
	startTries   = 10               // Ports to try.
)

// A Server is a redis-server process of its own.
//
// Methods that cannot do what they say fail the test. Those that wait, like
// Restart, must be called from the goroutine of the test.
type Server struct {
	// Addr is the TCP address, 127.0.0.1:port.
	Addr string
	// Socket is the path of the unix socket.
	Socket string
	// Dir is the server's directory.
	Dir string
	// TLS has the certificates, and is nil without the option TLS.
	TLS *Certs

	tb       testing.TB
	bin      string
	password string
	sentinel bool
	client   *redis.Client

	mu   sync.Mutex
	proc *process
}

// Start starts a server and waits until it answers. The server is killed, and
// its directory removed, when the test and its subtests are done.
func Start(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	return start(tb, binary(tb), newConfig(opts), nil)
}

// binary returns the path of redis-server. Where there is none, it skips the
// test, or fails it if it was told that servers are required.
func binary(tb testing.TB) string {
	tb.Helper()
	name := os.Getenv("KV_TEST_REDIS_SERVER")
	if name == "" {
		name = "redis-server"
	}
	bin, err := exec.LookPath(name)
	if err == nil {
		return bin
	}
	const hint = "apt-get install redis-server, or set KV_TEST_REDIS_SERVER to its path"
	if os.Getenv("KV_TEST_REDIS") == "require" {
		tb.Fatalf("redis-server is not installed, and KV_TEST_REDIS=require; %s: %v", hint, err)
	}
	tb.Skipf("redis-server is not installed; %s: %v", hint, err)
	return ""
}

// start starts a server in the given role, nil being a plain one.
func start(tb testing.TB, bin string, c *config, r *role) *Server {
	tb.Helper()
	if r == nil {
		r = new(role)
	}
	dir := tempDir(tb)
	s := &Server{
		Socket:   filepath.Join(dir, "s"),
		Dir:      dir,
		TLS:      r.certs,
		tb:       tb,
		bin:      bin,
		password: c.password,
		sentinel: r.sentinel,
	}
	if c.tls && s.TLS == nil {
		s.TLS = newCerts(tb, tempDir(tb))
	}
	s.client = redis.NewClient(&redis.Options{
		Network:               "unix",
		Addr:                  s.Socket,
		Username:              adminUser,
		Password:              adminPassword,
		ContextTimeoutEnabled: true,
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	})
	tb.Cleanup(s.close)

	var err error
	for range startTries {
		port := freePort(tb)
		s.Addr = net.JoinHostPort("127.0.0.1", port)
		if err = os.WriteFile(s.conf(), confFile(tb, s, c, r, port), 0o600); err != nil {
			break
		}
		if err = s.launch(); err == nil {
			return s
		}
		// Another process may have taken the port since it was found free.
		if !strings.Contains(s.Log(), "Address already in use") {
			break
		}
		_ = os.Remove(s.logFile()) // The next try is judged by its own log.
	}
	tb.Fatalf("redistest: starting %s: %v\n%s", bin, err, s.logTail())
	return nil
}

// URL returns the server's redis URL, or rediss with TLS, with the password
// that the option Password gave.
func (s *Server) URL() string {
	u := url.URL{Scheme: s.scheme(), User: userinfo(s.password), Host: s.Addr}
	return u.String()
}

// SocketURL returns the URL of the server's unix socket.
func (s *Server) SocketURL() string {
	u := url.URL{Scheme: "unix", User: userinfo(s.password), Path: s.Socket, RawQuery: "db=0"}
	return u.String()
}

func (s *Server) scheme() string {
	if s.TLS != nil {
		return "rediss"
	}
	return "redis"
}

func userinfo(password string) *url.Userinfo {
	if password == "" {
		return nil
	}
	return url.UserPassword("", password)
}

// Client returns a client for the test's own inspection. It uses the unix
// socket and a user of its own who may do everything, so it works whatever
// becomes of the default user. It is closed with the server.
func (s *Server) Client() *redis.Client { return s.client }

// ACL makes a user anew who has a password, or needs none if it is empty, and
// who may do what the rules say, as in ACL("reader", "pw", "~*", "+@read").
// The user outlives a Restart.
func (s *Server) ACL(user, password string, rules ...string) {
	s.tb.Helper()
	pass := "nopass"
	if password != "" {
		pass = ">" + password
	}
	args := []any{"acl", "setuser", user, "reset", "on", pass}
	for _, r := range rules {
		args = append(args, r)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if err := s.client.Do(ctx, args...).Err(); err != nil {
		s.tb.Fatalf("redistest: ACL SETUSER %s: %v", user, err)
	}
	if err := s.client.ConfigRewrite(ctx).Err(); err != nil {
		s.tb.Fatalf("redistest: CONFIG REWRITE: %v", err)
	}
}

func (s *Server) conf() string    { return filepath.Join(s.Dir, "redis.conf") }
func (s *Server) logFile() string { return filepath.Join(s.Dir, "log") }

// Log returns what the server has logged so far.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return ""
	}
	return string(b)
}

// logTail returns the last lines of the log.
func (s *Server) logTail() string {
	lines := strings.Split(strings.TrimSpace(s.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}
