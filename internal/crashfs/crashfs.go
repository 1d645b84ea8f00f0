// Package crashfs is a directory in memory that behaves as a disk does when
// the machine dies: what was not synced may be there, or not, or in part. Its
// operations can be made to fail, one by one.
package crashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/ngraf/kv/internal/fsys"
)

// An Op is an operation that is about to be done.
type Op struct {
	N    int    // the how manieth it is, from 1
	Kind string // open create read write sync truncate stat close rename remove list
	Name string // the file, the new name in a rename, or "." for the directory
}

// Changes reports whether the operation may change what a crash leaves.
func (o Op) Changes() bool {
	switch o.Kind {
	case "create", "write", "sync", "truncate", "rename", "remove":
		return true
	}
	return false
}

func (o Op) String() string { return fmt.Sprintf("operation %d, %s %s", o.N, o.Kind, o.Name) }

// A Hook is called before every operation. Its error is the operation's,
// which then has no effect, but that a Sync that fails loses for good what it
// should have made durable, as on Linux: it can be read until the crash.
type Hook func(Op) error

// ErrLie makes an operation report success without an effect.
var ErrLie = errors.New("crashfs: a lie")

// A Short error makes a write fail in the middle.
type Short struct{ Err error }

func (s Short) Error() string { return "short write: " + s.Err.Error() }
func (s Short) Unwrap() error { return s.Err }

// An FS is one directory. The zero value is not ready for use.
type FS struct {
	mu      sync.Mutex
	now     map[string]*inode // what is seen
	disk    map[string]*inode // what survives a crash for sure
	pending []entryChange     // what leads from disk to now
	hook    Hook
	ops     int
	handles int
	ticks   int64 // the clock of modification times
}

var _ fsys.FS = (*FS)(nil)

// New returns an empty directory.
func New() *FS { return &FS{now: make(map[string]*inode), disk: make(map[string]*inode)} }

// An inode is a file, with or without a name.
type inode struct {
	data    []byte   // what is seen
	disk    []byte   // what survives a crash for sure
	pending []change // what leads from disk to data, unless it has been lost
	mode    fs.FileMode
	changed int64
}

// A change writes data at an offset, or sets the size if data is nil.
type change struct {
	at   int64
	data []byte
}

func (c change) apply(b []byte) []byte {
	end := c.at + int64(len(c.data))
	if int64(len(b)) < end {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	if c.data == nil {
		return b[:c.at]
	}
	copy(b[c.at:], c.data)
	return b
}

func (n *inode) change(c change) {
	n.data = c.apply(n.data)
	n.pending = append(n.pending, c)
}

// An entryChange gives a file a name, takes one away, or both.
type entryChange struct {
	remove, add string // "" for none
	node        *inode // of add
}

func (c entryChange) apply(entries map[string]*inode) {
	if c.remove != "" {
		delete(entries, c.remove)
	}
	if c.add != "" {
		entries[c.add] = c.node
	}
}

func (d *FS) entry(c entryChange) {
	c.apply(d.now)
	d.pending = append(d.pending, c)
}

// SetHook sets the hook, nil being none, and returns the one before.
func (d *FS) SetHook(h Hook) Hook {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.hook
	d.hook = h
	return before
}

// Ops is how many operations there have been.
func (d *FS) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Handles is how many files are open.
func (d *FS) Handles() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.handles
}

// Put makes a durable file, as another program would have done.
func (d *FS) Put(name string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ticks++
	n := &inode{data: slices.Clone(data), disk: slices.Clone(data), mode: 0o600, changed: d.ticks}
	d.now[name], d.disk[name] = n, n
}

// Bytes returns what is in a file, and whether there is one.
func (d *FS) Bytes(name string) ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.now[name]
	if !ok {
		return nil, false
	}
	return slices.Clone(n.data), true
}

// Names returns the names of all files, sorted.
func (d *FS) Names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.now))
}

// begin counts an operation and asks the hook.
func (d *FS) begin(kind, name string) error {
	d.mu.Lock()
	d.ops++
	op, hook := Op{d.ops, kind, name}, d.hook
	d.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op)
}

func fail(kind, name string, err error) error {
	return &fs.PathError{Op: kind, Path: name, Err: err}
}

// do counts an operation and does it unless the hook says otherwise.
func (d *FS) do(kind, name string, f func() error) error {
	err := d.begin(kind, name)
	if errors.Is(err, ErrLie) {
		return nil
	}
	if err != nil {
		return fail(kind, name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := f(); err != nil {
		return fail(kind, name, err)
	}
	return nil
}

// OpenFile is os.OpenFile.
func (d *FS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	kind := "open"
	if flag&os.O_CREATE != 0 {
		kind = "create"
	}
	f := &file{fs: d, name: name, flag: flag}
	err := d.do(kind, name, func() error {
		n, ok := d.now[name]
		switch {
		case !ok && flag&os.O_CREATE == 0:
			return fs.ErrNotExist
		case ok && flag&os.O_EXCL != 0:
			return fs.ErrExist
		case !ok:
			n = &inode{mode: perm}
			d.entry(entryChange{add: name, node: n})
		case flag&os.O_TRUNC != 0:
			n.change(change{})
		}
		f.node = n
		d.handles++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Stat is os.Lstat.
func (d *FS) Stat(name string) (info fs.FileInfo, err error) {
	err = d.do("stat", name, func() error {
		n, ok := d.now[name]
		if name == "." {
			n, ok = &inode{mode: fs.ModeDir | 0o700}, true
		}
		if !ok {
			return fs.ErrNotExist
		}
		info = fileInfo{name, n, int64(len(n.data)), time.Unix(n.changed, 0)}
		return nil
	})
	return info, err
}

// Rename is os.Rename.
func (d *FS) Rename(oldname, newname string) error {
	return d.do("rename", newname, func() error {
		n, ok := d.now[oldname]
		if !ok {
			return fs.ErrNotExist
		}
		d.entry(entryChange{remove: oldname, add: newname, node: n})
		return nil
	})
}

// Remove is os.Remove.
func (d *FS) Remove(name string) error {
	return d.do("remove", name, func() error {
		if _, ok := d.now[name]; !ok {
			return fs.ErrNotExist
		}
		d.entry(entryChange{remove: name})
		return nil
	})
}

// List returns the names of all files.
func (d *FS) List() (names []string, err error) {
	err = d.do("list", ".", func() error {
		names = slices.Sorted(maps.Keys(d.now))
		return nil
	})
	return names, err
}

// Sync makes all entries durable.
func (d *FS) Sync() error {
	return d.do("sync", ".", func() error {
		d.disk = maps.Clone(d.now)
		d.pending = nil
		return nil
	})
}

// Close does nothing.
func (d *FS) Close() error { return d.do("close", ".", func() error { return nil }) }
