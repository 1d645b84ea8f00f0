package crashfs

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A Tree is directories by their paths, without files. As in an [FS], one that
// was made survives a crash for sure only when the directory that it is in has
// been synced. The root is always there.
type Tree struct {
	mu      sync.Mutex
	now     map[string]bool // what is seen
	pending []string        // those of now that may be lost, in order
	hook    Hook
	ops     int
}

// NewTree returns a tree with nothing but the root.
func NewTree() *Tree { return &Tree{now: map[string]bool{string(filepath.Separator): true}} }

// SetHook sets the hook, nil being none.
func (t *Tree) SetHook(h Hook) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hook = h
}

// do counts an operation and does it unless the hook says otherwise.
func (t *Tree) do(kind, path string, f func(path string) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ops++
	path = filepath.Clean(path)
	var err error
	if t.hook != nil {
		err = t.hook(Op{t.ops, kind, path})
	}
	if err == nil {
		err = f(path)
	}
	if err != nil {
		return fail(kind, path, err)
	}
	return nil
}

// Stat is os.Stat.
func (t *Tree) Stat(path string) (info fs.FileInfo, err error) {
	err = t.do("stat", path, func(path string) error {
		if !t.now[path] {
			return fs.ErrNotExist
		}
		info = fileInfo{filepath.Base(path), &inode{mode: fs.ModeDir | 0o700}, 0, time.Time{}}
		return nil
	})
	return info, err
}

// Mkdir is os.Mkdir.
func (t *Tree) Mkdir(path string, _ fs.FileMode) error {
	return t.do("mkdir", path, func(path string) error {
		switch {
		case t.now[path]:
			return fs.ErrExist
		case !t.now[filepath.Dir(path)]:
			return fs.ErrNotExist
		}
		t.now[path] = true
		t.pending = append(t.pending, path)
		return nil
	})
}

// Sync makes the entries of a directory durable.
func (t *Tree) Sync(path string) error {
	return t.do("sync", path, func(path string) error {
		if !t.now[path] {
			return fs.ErrNotExist
		}
		t.pending = slices.DeleteFunc(t.pending, func(made string) bool { return filepath.Dir(made) == path })
		return nil
	})
}

// Crash returns the tree as it is found after a crash at this moment. What is
// in a directory that was lost is lost as well.
func (t *Tree) Crash(mode Mode, seed uint64) *Tree {
	rng := rand.New(rand.NewPCG(seed, uint64(mode)))
	t.mu.Lock()
	defer t.mu.Unlock()
	after := &Tree{now: maps.Clone(t.now)}
	keep := len(t.pending)
	switch mode {
	case Process:
		after.pending = slices.Clone(t.pending)
		return after
	case Nothing:
		keep = 0
	case Random:
		keep = rng.IntN(keep + 1)
	}
	for i, path := range t.pending {
		if i >= keep || mode == Reordered && rng.IntN(2) == 0 {
			delete(after.now, path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(after.now)) { // Parents come first.
		if !after.now[filepath.Dir(path)] {
			delete(after.now, path)
		}
	}
	return after
}
