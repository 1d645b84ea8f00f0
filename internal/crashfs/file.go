package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
)

// A file is an open file.
type file struct {
	fs     *FS
	node   *inode
	name   string
	flag   int
	closed bool
}

func (f *file) do(kind string, do func() error) error {
	return f.fs.do(kind, f.name, func() error {
		if f.closed {
			return fs.ErrClosed
		}
		return do()
	})
}

func (f *file) ReadAt(p []byte, at int64) (n int, err error) {
	err = f.do("read", func() error {
		if at < int64(len(f.node.data)) {
			n = copy(p, f.node.data[at:])
		}
		return nil
	})
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f *file) WriteAt(p []byte, at int64) (int, error) {
	err := f.fs.begin("write", f.name)
	short := Short{}
	switch {
	case errors.Is(err, ErrLie):
		return len(p), nil
	case errors.As(err, &short):
		p = p[:len(p)/2]
	case err != nil:
		return 0, fail("write", f.name, err)
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch {
	case f.closed:
		return 0, fail("write", f.name, fs.ErrClosed)
	case f.flag&(os.O_RDWR|os.O_WRONLY) == 0:
		return 0, fail("write", f.name, syscall.EBADF)
	case len(p) > 0:
		f.fs.ticks++
		f.node.changed = f.fs.ticks
		f.node.change(change{at, slices.Clone(p)})
	}
	if err != nil {
		return len(p), fail("write", f.name, err)
	}
	return len(p), nil
}

func (f *file) Truncate(size int64) error {
	return f.do("truncate", func() error {
		f.node.change(change{at: size})
		return nil
	})
}

func (f *file) Sync() error {
	err := f.do("sync", func() error {
		for _, c := range f.node.pending {
			f.node.disk = c.apply(f.node.disk)
		}
		f.node.pending = nil
		return nil
	})
	if err != nil {
		f.fs.mu.Lock()
		f.node.pending = nil
		f.fs.mu.Unlock()
	}
	return err
}

func (f *file) Stat() (info fs.FileInfo, err error) {
	err = f.do("stat", func() error {
		info = fileInfo{f.name, f.node, int64(len(f.node.data)), time.Unix(f.node.changed, 0)}
		return nil
	})
	return info, err
}

// Close always closes, even when it fails, as close(2) does.
func (f *file) Close() error {
	err := f.do("close", func() error { return nil })
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.closed {
		f.closed = true
		f.fs.handles--
	}
	return err
}

type fileInfo struct {
	name    string
	node    *inode
	size    int64
	changed time.Time
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.node.mode }
func (i fileInfo) ModTime() time.Time { return i.changed }
func (i fileInfo) IsDir() bool        { return i.node.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }

// SameFile is for fsys.SameFile.
func (i fileInfo) SameFile(other fs.FileInfo) bool {
	o, ok := other.(fileInfo)
	return ok && o.node == i.node
}
