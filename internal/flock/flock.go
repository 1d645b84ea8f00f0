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
// who has it. Closing f gives it back. A file system without locks is an
// error: to go on without one would be to have none.
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
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	return err
}

// holder reads what the one who has the lock wrote.
func holder(f *os.File) string {
	text := make([]byte, 256)
	n, _ := f.ReadAt(text, 0)
	line, _, _ := strings.Cut(string(text[:n]), "\n")
	return strings.ToValidUTF8(line, "?")
}
