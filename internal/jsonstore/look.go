package jsonstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ngraf/kv/internal/flock"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/wal"
)

// A Look is what can be told of a namespace's files without reading them.
type Look struct {
	There  bool      // there is something to read
	Place  uint64    // stands for the host and the directory
	Home   uint64    // stands for the directory
	State  uint64    // stands for names, devices, inodes, sizes and times
	Newest time.Time // the time of the document file, or of the journals if there is none

	dir, namespace string
	names          []string
	changed        time.Time // the newest of all times
}

// LookAt looks at the files of a namespace.
func LookAt(path, namespace string) (Look, error) {
	l := Look{dir: path, namespace: namespace}
	err := l.open(func(dir *fsys.Dir) error {
		infos, err := l.list(dir)
		if err != nil || !l.There {
			return err
		}
		sum := sha256.New()
		document := slices.Index(l.names, fileNames(namespace).document())
		for i, info := range infos {
			device, inode := fsys.Identity(info)
			fmt.Fprintf(sum, "%q %d %d %d %d\n", l.names[i], device, inode, info.Size(), info.ModTime().UnixNano())
			if (document < 0 || i == document) && info.ModTime().After(l.Newest) {
				l.Newest = info.ModTime()
			}
			if info.ModTime().After(l.changed) {
				l.changed = info.ModTime()
			}
		}
		l.State = number(sum.Sum(nil))
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	host, _ := os.Hostname()
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	place, home := sha256.Sum256(fmt.Appendf(nil, "%q %q", host, path)), sha256.Sum256([]byte(path))
	l.Place, l.Home = number(place[:]), number(home[:])
	return l, err
}

// Look looks at the files of an engine.
func (e *Engine) Look() (Look, error) { return LookAt(e.dir, string(e.names)) }

func (l *Look) open(do func(*fsys.Dir) error) error {
	dir, err := fsys.Open(l.dir, false)
	if err != nil {
		return fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	return errors.Join(do(dir), dir.Close())
}

// list finds the files: the journals in their order, the document file, and
// times to live.
func (l *Look) list(dir *fsys.Dir) (infos []fs.FileInfo, err error) {
	names := fileNames(l.namespace)
	there, err := dir.List()
	if err != nil {
		return nil, fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	var mine []string
	for _, generation := range names.journals(there) {
		mine = append(mine, names.journal(generation))
	}
	for _, name := range append(mine, names.document(), names.ttl()) {
		if !slices.Contains(there, name) {
			continue
		}
		info, err := dir.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l.There = l.There || name != names.ttl()
		l.names, infos = append(l.names, name), append(infos, info)
	}
	return infos, nil
}

// settleTime is how long ago the last change must be for a state to be worth
// remembering: within it another one might get the same time.
const settleTime = 2 * time.Second

// Settled reports whether another change would give the files another State.
func (l Look) Settled() bool { return time.Since(l.changed) > settleTime }

// Digest reads the files once, and tells one content from another. Journals in
// which nothing is pending do not count, so that it is the same once the files
// are closed.
func (l Look) Digest(ctx context.Context) (content uint64, err error) {
	sum := sha256.New()
	err = l.open(func(dir *fsys.Dir) error {
		buf := make([]byte, 1<<20)
		for _, name := range l.names {
			if err := digestFile(ctx, sum, dir, name, buf); err != nil {
				return err
			}
		}
		return nil
	})
	return number(sum.Sum(nil)), err
}

func digestFile(ctx context.Context, sum io.Writer, dir fsys.FS, name string, buf []byte) error {
	file, err := dir.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if pending, err := isPending(file, name); err != nil || !pending {
		return err
	}
	fmt.Fprintf(sum, "%q\n", name)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := file.ReadAt(buf, at)
		_, _ = sum.Write(buf[:n])
		at += int64(n)
		if errors.Is(err, io.EOF) {
			_, err = fmt.Fprintf(sum, "\n%d\n", at)
			return err
		}
		if err != nil {
			return err
		}
	}
}

// isPending reports whether there is anything in a file, if it is a journal.
func isPending(file fsys.File, name string) (bool, error) {
	if !strings.Contains(name, ".journal.") {
		return true, nil
	}
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	log := readJournal(file, info.Size())
	_, err = log.Header()
	for err == nil {
		var r wal.Record
		if r, err = log.Next(); err == nil && r.Payload[0] != opCommit {
			return true, nil
		}
	}
	return !errors.Is(err, io.EOF), nil // What cannot be read may be pending.
}

func number(sum []byte) uint64 { return binary.LittleEndian.Uint64(sum) }

// Holder returns who has the files, in this process or another one, or nil.
// It takes no lock and makes no file.
func Holder(path, namespace string) (*flock.Held, error) {
	dir, err := fsys.Open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("STORAGE_WORKING_DIR: %w", err)
	}
	defer func() { _ = dir.Close() }()
	f, err := dir.OpenOS(fileNames(namespace).lock(), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	held, err := flock.Holder(f)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, nil
	}
	return held, err
}

// OldState is what files were known by in records of version 1: their names,
// sizes, times and ends.
func (l Look) OldState() (string, error) {
	sum := sha256.New()
	err := l.open(func(dir *fsys.Dir) error {
		for _, name := range l.names {
			if err := addState(sum, dir, name); err != nil {
				return err
			}
		}
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

func addState(w io.Writer, dir fsys.FS, name string) error {
	file, err := dir.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	var sums [2]uint32
	for i, at := range []int64{0, max(0, info.Size()-int64(len(buf)))} {
		n, err := file.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		sums[i] = wal.Sum(buf[:n])
	}
	_, err = fmt.Fprintf(w, "%q %d %d %08x\n", name, info.Size(), info.ModTime().UnixNano(), sums)
	return err
}
