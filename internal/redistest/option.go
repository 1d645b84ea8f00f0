package redistest

import (
	"fmt"
	"strings"
)

// An Option changes how servers are started.
type Option func(*config)

// config is what the options say, shared by every server of one start.
type config struct {
	password string
	lines    []string // Extra lines of the configuration file.
	tls      bool
	tlsAuth  string
}

func newConfig(opts []Option) *config {
	c := new(config)
	for _, o := range opts {
		o(c)
	}
	return c
}

// Password makes the default user need a password.
func Password(password string) Option {
	return func(c *config) { c.password = password }
}

// AppendFsyncAlways has every write logged and synced before its reply is
// sent, so that a server that was killed has it when started again.
func AppendFsyncAlways() Option {
	return Arg("--appendonly", "yes", "--appendfsync", "always")
}

// Arg adds settings in the form of the server's command line, as in
// Arg("--maxmemory", "30mb"). They go to the configuration file and win over
// the settings of this package.
func Arg(kv ...string) Option {
	var lines []string
	for len(kv) > 0 {
		n := 1
		for n < len(kv) && !strings.HasPrefix(kv[n], "--") {
			n++
		}
		lines = append(lines, line(strings.TrimPrefix(kv[0], "--"), kv[1:n]...))
		kv = kv[n:]
	}
	return func(c *config) { c.lines = append(c.lines, lines...) }
}

// TLS makes the TCP port speak TLS only, with certificates of a throwaway
// authority. The clients argument is the server's tls-auth-clients: "yes"
// requires a certificate of clients, "no" does not ask for one, "optional"
// checks the one that is given. The unix socket stays in the clear.
func TLS(clients string) Option {
	return func(c *config) { c.tls, c.tlsAuth = true, clients }
}

// line returns a line of a configuration file.
func line(name string, values ...string) string {
	var b strings.Builder
	b.WriteString(name)
	for _, v := range values {
		b.WriteByte(' ')
		b.WriteString(quote(v))
	}
	return b.String()
}

// quote quotes s as the server's configuration parser reads it, which knows
// fewer escapes than strconv.Quote writes.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
