package flock

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// fOFDSetlk is F_OFD_SETLK: a lock of the open file, not of the process, see
// fcntl(2). F_OFD_GETLK asks who would be in its way.
const (
	fOFDGetlk = 36
	fOFDSetlk = 37
)

// lock takes two locks: flock(2), which excludes other programs that use it,
// and an open file description lock, which excludes those that use lockf and
// fcntl, Python's among them. Both exclude a second descriptor of this
// process.
func lock(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = conn.Control(func(fd uintptr) {
		if locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB); locked != nil {
			return
		}
		locked = syscall.FcntlFlock(fd, fOFDSetlk, &syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart})
		if locked != nil {
			_ = syscall.Flock(int(fd), syscall.LOCK_UN)
		}
	})
	if err == nil {
		err = locked
	}
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return errHeld
	}
	return err
}

func unlock(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var unlocked error
	err = conn.Control(func(fd uintptr) {
		unlocked = errors.Join(
			syscall.FcntlFlock(fd, fOFDSetlk, &syscall.Flock_t{Type: syscall.F_UNLCK, Whence: io.SeekStart}),
			syscall.Flock(int(fd), syscall.LOCK_UN))
	})
	return errors.Join(err, unlocked)
}

// locked reports whether another open file has the second of the two locks.
// Of the first one, there is no way to ask.
func locked(f *os.File) (bool, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	asked := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = syscall.FcntlFlock(fd, fOFDGetlk, &asked) })
	return asked.Type != syscall.F_UNLCK, errors.Join(err, failed)
}
