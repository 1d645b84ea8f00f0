// Package flock locks a file for one process, by a lock of the kernel that
// dies with its holder. The file itself stays for ever: to rename or remove a
// lock file lets two processes each lock a different one.
package flock

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Held is the error of Lock when another open file has the lock.
type Held struct {
	By string // what the holder says of itself; may be empty
}

func (e *Held) Error() string {
	if e.By == "" {
		return "held by an unknown process"
	}
	return "held by " + e.By
}

var errHeld = errors.New("held")

// Lock takes the lock of f at once or fails with a [*Held], and writes into f
// who has it. Unlock gives it back, as the end of the process does. A file
// system without locks is an error: to go on without one would be to have
// none.
func Lock(f *os.File) error {
	switch err := lock(f); {
	case errors.Is(err, errHeld):
		return &Held{By: holder(f)}
	case err != nil:
		return fmt.Errorf("cannot lock %s (does its file system support locks?): %w", f.Name(), err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	text := fmt.Sprintf("pid %d on %s since %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
	// The line is for people; a full disk is no reason to be without the lock.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(text), 0)
	}
	return nil
}

// Unlock gives the lock of f back and closes f. To close it alone would not
// do: a process that is being started at that moment has f, too, until its
// own program runs.
func Unlock(f *os.File) error { return errors.Join(unlock(f), f.Close()) }

// Holder returns who has the lock of f, or nil, without taking it even for a
// moment. Where the system cannot say, the error is errors.ErrUnsupported.
func Holder(f *os.File) (*Held, error) {
	held, err := locked(f)
	if err != nil || !held {
		return nil, err
	}
	return &Held{By: holder(f)}, nil
}

// holder reads what the one who has the lock wrote.
func holder(f *os.File) string {
	text := make([]byte, 256)
	n, _ := f.ReadAt(text, 0)
	line, _, _ := strings.Cut(string(text[:n]), "\n")
	return strings.ToValidUTF8(line, "?")
}
