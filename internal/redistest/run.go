package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// launch starts the process and waits until it answers.
func (s *Server) launch() error {
	out, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // The child has a descriptor of its own.
	args := []string{s.conf()}
	if s.sentinel {
		args = append(args, "--sentinel")
	}
	p, err := spawn(s.Dir, out, s.bin, args...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()

	var died bool
	err = poll(readyTimeout, func() error {
		if died = p.exited(); died {
			return nil // Nothing to wait for.
		}
		return ping(s.Socket, time.Second)
	})
	switch {
	case died:
		return errors.New("the server ended at once")
	case err != nil:
		p.kill()
		return fmt.Errorf("the server does not answer: %w", err)
	}
	return nil
}

// answers reports whether the server is neither down nor paused.
func (s *Server) answers() bool {
	return !s.process().exited() && ping(s.Socket, 200*time.Millisecond) == nil
}

// ping returns nil if the server at the socket is ready to serve. It does so
// without a client, which would retry and want to authenticate.
func ping(socket string, timeout time.Duration) error {
	conn, err := net.DialTimeout("unix", socket, timeout)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // Nothing is pending.
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	reply, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	// A server that asks for a password is as ready as one that does not.
	if strings.HasPrefix(reply, "-LOADING") {
		return errors.New(strings.TrimSpace(reply[1:]))
	}
	return nil
}

// process returns the current process.
func (s *Server) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// PID returns the id of the server's process, the last one if it has ended.
func (s *Server) PID() int { return s.process().Pid }

// Kill kills the server with SIGKILL and waits until it is gone.
func (s *Server) Kill() { s.process().kill() }

// Stop ends the server as its administrator would, with SIGTERM, and waits
// until it is gone.
func (s *Server) Stop() { s.process().stop(stopGrace) }

// Restart starts the server again, stopping it first if it runs. It has the
// same address and directory as before.
func (s *Server) Restart() {
	s.tb.Helper()
	if err := s.Relaunch(); err != nil {
		s.tb.Fatalf("redistest: restarting %s: %v\n%s", s.Addr, err, s.logTail())
	}
}

// Relaunch is Restart for others than the goroutine of the test, such as its
// subtests.
func (s *Server) Relaunch() error {
	s.Stop()
	return s.launch()
}

// Pause halts the server with SIGSTOP: its connections stay open and what is
// sent to them gets no reply until Resume.
func (s *Server) Pause() {
	s.tb.Helper()
	if err := pause(s.process().Process); err != nil {
		s.tb.Errorf("redistest: pausing %s: %v", s.Addr, err)
	}
}

// Resume has a paused server go on.
func (s *Server) Resume() {
	s.tb.Helper()
	if err := resume(s.process().Process); err != nil {
		s.tb.Errorf("redistest: resuming %s: %v", s.Addr, err)
	}
}

// close ends the server for good. There is nothing left to save, so it is not
// asked nicely.
func (s *Server) close() {
	_ = s.client.Close()
	if p := s.process(); p != nil {
		p.kill()
	}
}
