//go:build unix && !linux && !solaris && !aix

package flock

import (
	"errors"
	"os"
	"syscall"
)

func lock(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = conn.Control(func(fd uintptr) { locked = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err == nil {
		err = locked
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
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
	err = conn.Control(func(fd uintptr) { unlocked = syscall.Flock(int(fd), syscall.LOCK_UN) })
	return errors.Join(err, unlocked)
}
