package testkit

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A Link forwards to a server, and lets so many bytes a second through in each
// direction, whatever the number of connections. It ends with the test.
type Link struct {
	Addr string

	target   string
	up, down throttle
	running  sync.WaitGroup

	mu   sync.Mutex
	open map[*linked]struct{}
}

// A throttle says how long bytes take that all go one after the other.
type throttle struct {
	mu   sync.Mutex
	rate int // bytes a second; 0: it takes no time
	free time.Time
}

// take returns when n bytes have gone.
func (t *throttle) take(n int) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rate == 0 {
		return time.Time{}
	}
	const late = 20 * time.Millisecond // What a sleep that was too long may be made up for.
	if idle := time.Now().Add(-late); t.free.Before(idle) {
		t.free = idle
	}
	t.free = t.free.Add(time.Duration(n) * time.Second / time.Duration(t.rate))
	return t.free
}

func (t *throttle) set(rate int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate, t.free = rate, time.Time{}
}

// A linked is a connection with its two ends.
type linked struct {
	client, server net.Conn
	cut            chan struct{}
	once           sync.Once
	relays         sync.WaitGroup
}

// end lets go of what is on the way.
func (c *linked) end() {
	c.once.Do(func() {
		close(c.cut)
		_, _ = c.client.Close(), c.server.Close()
	})
}

func (c *linked) relay(dst, src net.Conn, t *throttle) {
	defer c.end()
	for buf := make([]byte, 16<<10); ; {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if wait := time.Until(t.take(n)); wait > 0 {
			select {
			case <-time.After(wait):
			case <-c.cut:
				return
			}
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

// StartLink starts a link. A rate of 0 is as fast as it goes.
func StartLink(t testing.TB, target string, rate int) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &Link{Addr: listener.Addr().String(), target: target, open: make(map[*linked]struct{})}
	l.SetRate(rate)
	l.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			l.connect(client)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.running.Wait()
		l.Cut()
	})
	return l
}

func (l *Link) connect(client net.Conn) {
	server, err := net.Dial("tcp", l.target)
	if err != nil {
		_ = client.Close()
		return
	}
	_ = client.(*net.TCPConn).SetReadBuffer(64 << 10) // Else the kernel takes megabytes at once.
	c := &linked{client: client, server: server, cut: make(chan struct{})}
	c.relays.Go(func() { c.relay(server, client, &l.up) })
	c.relays.Go(func() { c.relay(client, server, &l.down) })
	l.mu.Lock()
	defer l.mu.Unlock()
	for other := range l.open {
		select {
		case <-other.cut:
			delete(l.open, other)
		default:
		}
	}
	l.open[c] = struct{}{}
}

// SetRate changes how many bytes a second go through from now on.
func (l *Link) SetRate(rate int) {
	l.up.set(rate)
	l.down.set(rate)
}

// Cut ends all connections. Nothing that was on the way arrives afterwards.
func (l *Link) Cut() {
	l.mu.Lock()
	var all []*linked
	for c := range l.open {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		c.end()
	}
	for _, c := range all {
		c.relays.Wait()
	}
}
