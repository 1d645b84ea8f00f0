package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/ngraf/kv"
)

// The exit codes, as kv --help documents them.
const (
	exitOK          = 0
	exitNothing     = 1 // not found, nothing removed or stored, refused
	exitInvalid     = 2
	exitUnavailable = 3 // and every other failure
	exitCorrupt     = 4
	exitInterrupted = 130
)

// A failure is an error of the tool's own, with its exit code.
type failure struct {
	code int
	text string // empty: it has been said already
}

func (f *failure) Error() string { return f.text }

func failf(code int, format string, args ...any) error {
	return &failure{code, fmt.Sprintf(format, args...)}
}

var errInterrupted = errors.New("interrupted")

// report prints err and returns the exit code that it stands for.
func report(w io.Writer, err error) int {
	// What nobody wants to read any more, as in kv ls | head, is no failure.
	output := (*outputError)(nil)
	if err == nil || errors.As(err, &output) && errors.Is(output, syscall.EPIPE) {
		return exitOK
	}
	code := exitCode(err)
	for _, line := range strings.Split(message(err, code), "\n") {
		if line = strings.TrimPrefix(line, "kv: "); line != "" {
			_, _ = fmt.Fprintln(w, "kv: "+line)
		}
	}
	return code
}

// exitCode is that of the gravest of the errors that err joins.
func exitCode(err error) int {
	own, slow := (*failure)(nil), (*slowError)(nil)
	switch {
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, kv.ErrCorrupt):
		return exitCorrupt
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &slow), errors.Is(err, kv.ErrUnavailable), errors.Is(err, kv.ErrLocked):
		return exitUnavailable
	case errors.Is(err, kv.ErrInvalid), errors.Is(err, fs.ErrNotExist):
		return exitInvalid // What does not exist is a path in the configuration.
	}
	return exitUnavailable
}

// message adds to err what to do, where it does not say so itself.
func message(err error, code int) string {
	slow, call, name, again := (*slowError)(nil), (*os.SyscallError)(nil), (*net.DNSError)(nil), (*resumable)(nil)
	switch {
	case code == exitInterrupted:
		return "interrupted" + undecided(err)
	case errors.As(err, &slow):
		return slow.Error() + undecided(err) + "; raise --timeout, or see kv ping"
	case errors.Is(err, kv.ErrOutcomeUnknown):
		return err.Error() + undecided(err)
	case errors.As(err, &call) && call.Syscall == "connect", errors.As(err, &name):
		return err.Error() + "; see whether it runs there, and whether kv config shows the right address"
	case errors.As(err, &again) && errors.Is(err, kv.ErrUnavailable):
		return err.Error() + undecided(err)
	}
	return err.Error()
}

// A resumable error says how to go on after it, if the cause may pass.
type resumable struct {
	err  error
	hint string
}

func (r *resumable) Error() string { return r.err.Error() }
func (r *resumable) Unwrap() error { return r.err }

// undecided warns of a write that was cut short, or says how to go on.
func undecided(err error) string {
	if r := (*resumable)(nil); errors.As(err, &r) {
		return "; " + r.hint
	}
	if e := (*kv.Error)(nil); errors.As(err, &e) {
		switch e.Op {
		case "upsert", "insert", "delete", "drop":
			return "; the write may or may not have been made: look before you repeat it"
		}
	}
	return ""
}
