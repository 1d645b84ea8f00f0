package flock

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

var lockFileEx = syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")

const (
	failImmediately = 1
	exclusive       = 2
	lockViolation   = syscall.Errno(33)
	// The locked byte stands far behind the holder's line, since a lock on
	// Windows keeps others from reading what it covers.
	lockedOffset = 1 << 30
)

func lock(f *os.File) error {
	at := syscall.Overlapped{Offset: lockedOffset}
	ok, _, err := lockFileEx.Call(f.Fd(), exclusive|failImmediately, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	if ok != 0 {
		return nil
	}
	if errors.Is(err, lockViolation) {
		return errHeld
	}
	return err
}

// unlock has nothing to do: closing the handle gives the lock back.
func unlock(*os.File) error { return nil }
