package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// A newFile is a file that is there, whole, after commit, and not before. Only
// its owner may read it.
type newFile struct {
	*os.File
	path  string
	force bool // replace one that is there
}

func createFile(path string, force bool) (*newFile, error) {
	info, err := os.Lstat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, failf(exitInvalid, "%s is not a file; name another", path)
	case err == nil && !force:
		return nil, thereAlready(path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, failf(exitInvalid, "cannot write the file: %v", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, failf(exitInvalid, "cannot write the file: %v", err)
	}
	return &newFile{f, path, force}, nil
}

func thereAlready(path string) error {
	return failf(exitInvalid, "%s is there already; name another file, or say --force to replace it", path)
}

// commit gives the file its name when all of it is on the disk.
func (f *newFile) commit() error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := f.publish(); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(f.path)); err == nil {
		_ = dir.Sync() // Not every system has it.
		_ = dir.Close()
	}
	return nil
}

func (f *newFile) publish() error {
	if f.force {
		return os.Rename(f.Name(), f.path)
	}
	err := os.Link(f.Name(), f.path) // Fails if it is there, in one step.
	switch {
	case err == nil:
		return os.Remove(f.Name())
	case errors.Is(err, fs.ErrExist):
		return thereAlready(f.path)
	}
	if _, err := os.Lstat(f.path); !errors.Is(err, fs.ErrNotExist) { // A file system without links.
		return thereAlready(f.path)
	}
	return os.Rename(f.Name(), f.path)
}

func (f *newFile) discard() {
	_ = f.Close()
	_ = os.Remove(f.Name())
}
