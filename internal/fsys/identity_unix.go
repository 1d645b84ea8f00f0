//go:build unix

package fsys

import (
	"io/fs"
	"syscall"
)

// Identity returns the numbers by which the system knows a file, or zeros.
func Identity(info fs.FileInfo) (device, inode uint64) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Dev), uint64(s.Ino) //nolint:unconvert // Their types differ by system.
	}
	return 0, 0
}
