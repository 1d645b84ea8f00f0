package redisstore

import (
	"bytes"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// A freshConn tells what breaks before the first reply: go-redis has sent its
// greeting by then, and none of our commands. It also recognises a server that
// has no room for another client, which says so before it is asked and hangs
// up; go-redis would take that for one too old for the greeting, and send the
// command into the void.
type freshConn struct {
	net.Conn
	raw    syscall.Conn
	heard  bool  // something; set while only the greeting is under way
	broken error // before that; go-redis may pass over it the first time
	until  time.Time
}

// SetWriteDeadline is for Write to know, too. The system's network poller
// notices some time after a stopped process goes on that a deadline has passed,
// and until then writes would succeed that nobody waits for any more.
func (c *freshConn) SetWriteDeadline(t time.Time) error {
	c.until = t
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both.
func (c *freshConn) SetDeadline(t time.Time) error {
	c.until = t
	return c.Conn.SetDeadline(t)
}

// SyscallConn lets go-redis see whether an idle connection is still there.
func (c *freshConn) SyscallConn() (syscall.RawConn, error) { return c.raw.SyscallConn() }

func (c *freshConn) Read(p []byte) (int, error) {
	if c.heard {
		return c.Conn.Read(p)
	}
	if c.broken != nil {
		return 0, c.broken
	}
	n, err := c.Conn.Read(p)
	switch {
	case bytes.HasPrefix(p[:n], []byte("-"+maxClients)):
		c.broken = errMaxClients
		return 0, c.broken
	case n == 0 && err != nil:
		c.broken = &unreadyError{err}
		return 0, c.broken
	}
	c.heard = true
	return n, err
}

func (c *freshConn) Write(p []byte) (int, error) {
	if !c.until.IsZero() && !time.Now().Before(c.until) {
		return 0, &net.OpError{Op: "write", Net: "tcp", Addr: c.RemoteAddr(), Err: os.ErrDeadlineExceeded}
	}
	n, err := c.Conn.Write(p)
	if err != nil && !c.heard {
		err = &unreadyError{err}
	}
	return n, err
}

const maxClients = "ERR max number of clients reached"

var errMaxClients = errors.New(maxClients)

// An unreadyError is what broke a connection before its first reply. It does
// not unwrap: go-redis takes one layer off an error of that time.
type unreadyError struct{ cause error }

func (e *unreadyError) Error() string { return e.cause.Error() }
