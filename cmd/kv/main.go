// Command kv looks at and changes the documents of a kv store: JSON files in
// a directory, or Redis, as the environment says. kv --help lists what it can
// do, and kv demo shows it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
	"golang.org/x/term"
)

func main() {
	logging.Disable() // Of go-redis: what it says of connections stands in our errors.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // A second signal ends the process at once.
	// A reader that goes away is seen as an error of the write, so that what
	// is open is closed before the process ends.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), streams{
		in:       os.Stdin,
		out:      os.Stdout,
		err:      os.Stderr,
		terminal: isTerminal(os.Stdin),

		errTerminal: isTerminal(os.Stderr),
		screen:      screen,
	}))
}

// screen returns the size of the terminal that stdout is, if it is one.
func screen() (width, height int, ok bool) {
	width, height, err := term.GetSize(int(os.Stdout.Fd()))
	return width, height, err == nil
}

// isTerminal reports whether somebody may be typing or looking. For /dev/null
// it is wrong, and the first read says so.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
