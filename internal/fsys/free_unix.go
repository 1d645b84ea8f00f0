//go:build linux || darwin

package fsys

import (
	"errors"
	"syscall"
)

// Free returns how many bytes this user may still write to the file system
// that the directory is on.
func (d *Dir) Free() (int64, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var stat syscall.Statfs_t
	var failed error
	err = conn.Control(func(fd uintptr) { failed = syscall.Fstatfs(int(fd), &stat) })
	return int64(stat.Bavail * uint64(stat.Bsize)), errors.Join(err, failed)
}
