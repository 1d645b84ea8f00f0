// Package fsys is one directory of files, seen through the few operations
// that a durable store needs, so that tests can make each of them fail.
package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// An FS is one directory. Names are plain file names in it.
type FS interface {
	// OpenFile opens a file as os.OpenFile does. It refuses what is not a
	// regular file, symbolic links included, without waiting on it.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Stat describes a file. It does not follow symbolic links.
	Stat(name string) (fs.FileInfo, error)
	// Rename replaces newname by oldname, atomically.
	Rename(oldname, newname string) error
	Remove(name string) error
	// List returns the names of all files.
	List() ([]string, error)
	// Sync makes creations, renames and removals that have returned survive
	// a crash of the machine.
	Sync() error
	Close() error
}

// A File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes what was written survive a crash of the machine.
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	Close() error
}

// SameFile is os.SameFile, but knows the files of other FS as well, whose
// descriptions have a method of this name.
func SameFile(a, b fs.FileInfo) bool {
	if s, ok := a.(interface{ SameFile(fs.FileInfo) bool }); ok {
		return s.SameFile(b)
	}
	return os.SameFile(a, b)
}

// Open opens a directory, and makes it, 0700, if create is set, and those
// above it, so that they survive a crash of the machine. Names never lead out
// of it.
func Open(path string, create bool) (*Dir, error) {
	if create {
		if err := MakeAll(osDirs{}, path); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Dir{root}, nil
}

// Dirs are directories by their paths, seen through what it takes to make one
// that survives a crash.
type Dirs interface {
	Stat(path string) (fs.FileInfo, error)
	Mkdir(path string, perm fs.FileMode) error
	// Sync makes the entries of a directory survive a crash of the machine.
	Sync(path string) error
}

// osDirs are those of the operating system.
type osDirs struct{}

func (osDirs) Stat(path string) (fs.FileInfo, error)     { return os.Stat(path) }
func (osDirs) Mkdir(path string, perm fs.FileMode) error { return os.Mkdir(path, perm) }
func (osDirs) Sync(path string) error                    { return syncDirectory(path) }

// MakeAll is os.MkdirAll, and syncs the parent of each directory it makes, from
// above. One that is there may be what an attempt before this one had made and
// not synced, or somebody else has just made, so that its parent is synced as
// well; those above it were, before it was made.
func MakeAll(dirs Dirs, path string) error {
	path = filepath.Clean(path)
	parent := filepath.Dir(path)
	info, err := dirs.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil:
		if err := MakeAll(dirs, parent); err != nil {
			return err
		}
		if err := dirs.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return dirs.Sync(parent)
}

// syncDirectory makes the entries of a directory survive a crash. One that may
// be written to, but not read, cannot be synced.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(ignoreInvalid(f.Sync()), f.Close())
}

// ignoreInvalid is for file systems that sync entries by themselves.
func ignoreInvalid(err error) error {
	if errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}

// A Dir is a directory of the operating system.
type Dir struct{ root *os.Root }

var _ FS = (*Dir)(nil)

func (d *Dir) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := d.open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// OpenOS is OpenFile for callers that need the descriptor.
func (d *Dir) OpenOS(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return d.open(name, flag, perm)
}

func (d *Dir) open(name string, flag int, perm fs.FileMode) (*os.File, error) {
	info, err := d.root.Lstat(name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "open", Path: d.path(name), Err: NotRegular(info.Mode())}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, d.named(err, name)
	}
	f, err := d.root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, d.named(err, name)
	}
	return f, nil
}

// NotRegular is the error for a name that stands for something that is not a
// file.
type NotRegular fs.FileMode

func (m NotRegular) Error() string {
	kind := "special file"
	switch mode := fs.FileMode(m); {
	case mode.IsDir():
		kind = "directory"
	case mode&fs.ModeSymlink != 0:
		kind = "symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		kind = "named pipe"
	}
	return fmt.Sprintf("is a %s, not a regular file", kind)
}

func (d *Dir) Stat(name string) (fs.FileInfo, error) {
	info, err := d.root.Lstat(name)
	return info, d.named(err, name)
}

func (d *Dir) Rename(oldname, newname string) error {
	return d.named(d.root.Rename(oldname, newname), newname)
}

func (d *Dir) Remove(name string) error { return d.named(d.root.Remove(name), name) }

func (d *Dir) List() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Sync fsyncs the directory, which is what makes a rename durable. Windows
// has no such call, and keeps directory entries in its own journal.
func (d *Dir) Sync() error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.named(ignoreInvalid(f.Sync()), "."), f.Close())
}

func (d *Dir) Close() error { return d.root.Close() }

func (d *Dir) path(name string) string { return d.root.Name() + string(os.PathSeparator) + name }

// named puts the whole path into an error in place of the name in the root.
func (d *Dir) named(err error, name string) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return &fs.PathError{Op: p.Op, Path: d.path(name), Err: p.Err}
	}
	return err
}
