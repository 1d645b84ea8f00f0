package redistest

import (
	"crypto/rand"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// adminUser is a user every server has, so that tests may do to the default
// user what they like while this package and its servers can still log in.
const adminUser = "redistest"

var adminPassword = rand.Text()

// A role is what a server is besides a plain one.
type role struct {
	cluster  bool
	sentinel bool
	lines    []string // Settings of the role, which options win over.
	certs    *Certs   // Certificates shared with other servers.
}

// confFile returns the configuration file of s. It is a file rather than
// arguments because a server can rewrite it, as sentinels must.
func confFile(tb testing.TB, s *Server, c *config, r *role, port string) []byte {
	lines := []string{
		line("bind", "127.0.0.1"),
		line("unixsocket", s.Socket),
		line("dir", s.Dir),
		line("user", adminUser, "on", ">"+adminPassword, "~*", "&*", "+@all"),
	}
	if s.TLS == nil {
		lines = append(lines, line("port", port))
	} else {
		lines = append(lines, s.TLS.lines(port, c.tlsAuth)...)
	}
	if r.cluster {
		lines = append(lines, line("cluster-enabled", "yes"), line("cluster-port", freePort(tb)))
		if s.TLS != nil {
			lines = append(lines, line("tls-cluster", "yes"))
		}
	}
	lines = append(lines, r.lines...)
	if !r.sentinel {
		lines = append(lines,
			line("save", ""),
			line("shutdown-timeout", "1"),
			// Replicas are to be in sync soon, not in few forks.
			line("repl-diskless-sync-delay", "0"),
			line("masteruser", adminUser),
			line("masterauth", adminPassword),
		)
		if c.password != "" {
			lines = append(lines, line("requirepass", c.password))
		}
		lines = append(lines, c.lines...)
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// tempDir returns a new directory that is removed when the test is done. Its
// path is short, unlike that of tb.TempDir, as unix sockets need it.
func tempDir(tb testing.TB) string {
	tb.Helper()
	root := os.TempDir()
	if len(root) > 60 {
		root = "/tmp"
	}
	dir, err := os.MkdirTemp(root, "kvr")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if dir, err = filepath.Abs(dir); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// The ports servers get. They are below the range that systems take the ports
// of outgoing connections from, as a server that is down for a while would
// lose its port to one of those, or a client dialing it would reach itself.
const (
	minPort = 10000
	maxPort = 32000
)

// taken has the ports that were given out, so that servers started at once by
// one test binary do not compete for them.
var taken sync.Map

// freePort returns a port nobody listened on a moment ago.
func freePort(tb testing.TB) string {
	tb.Helper()
	var last error
	for range 1000 {
		n, err := rand.Int(rand.Reader, big.NewInt(maxPort-minPort))
		if err != nil {
			tb.Fatal(err)
		}
		port := strconv.FormatInt(minPort+n.Int64(), 10)
		if _, dup := taken.LoadOrStore(port, true); dup {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			last = err
			continue
		}
		_ = l.Close()
		return port
	}
	tb.Fatalf("redistest: no free port: %v", last)
	return ""
}
