package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ngraf/kv"
)

// maxManifest bounds manifest.json, which is read into memory.
const maxManifest = 1 << 20

// checksumMember is the last member of a manifest. The checksum is of the
// directory as it was before this was added.
var checksumMember = regexp.MustCompile(`,\n  "checksum": "(sha256:[0-9a-f]{64})?"\n}$`)

// A directorySum is the checksum of a directory as nano-graphrag computes it:
// of each file the path and then the content, in the order of the paths taken
// apart. Format: nano_graphrag/backup/utils.py, manager.py.
type directorySum struct {
	hash   hash.Hash
	last   []string // the path of the file before
	wanted string   // from the manifest; empty: it has none
}

var errOrder = errors.New("out of order")

// add takes the next file.
func (d *directorySum) add(name string, r io.Reader) error {
	parts := strings.Split(name, "/")
	if slices.Compare(d.last, parts) >= 0 {
		return errOrder
	}
	d.last = parts
	_, _ = io.WriteString(d.hash, name) // A hash returns no error.
	if name != "manifest.json" {
		_, err := io.Copy(d.hash, r)
		return err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return err
	}
	if len(text) > maxManifest {
		return fmt.Errorf("%w: manifest.json is too large", kv.ErrCorrupt)
	}
	if match := checksumMember.FindSubmatchIndex(text); match != nil {
		if match[2] >= 0 {
			d.wanted = string(text[match[2]:match[3]])
		}
		text = append(text[:match[0]:match[0]], "\n}"...)
	} else if bytes.Contains(text, []byte(`"checksum"`)) {
		return fmt.Errorf("%w: manifest.json is not as nano-graphrag writes it, so that its checksum cannot be compared", kv.ErrCorrupt)
	}
	_, _ = d.hash.Write(text)
	return nil
}

// judge reports whether there was a checksum to compare with.
func (d *directorySum) judge() (bool, error) {
	if d.wanted != "" && d.wanted != "sha256:"+hex.EncodeToString(d.hash.Sum(nil)) {
		return false, fmt.Errorf("%w: the checksum in manifest.json is not that of the files: the backup is damaged or has been changed", kv.ErrCorrupt)
	}
	return d.wanted != "", nil
}

// A backupDir is a backup that was unpacked.
type backupDir struct{ path string }

func (b *backupDir) close() error { return nil }

func (b *backupDir) check(count *byteCounter) (bool, error) {
	names, err := b.names()
	if err != nil {
		return false, err
	}
	sum := &directorySum{hash: sha256.New()}
	for _, name := range names {
		if err := b.with(name, count, func(r io.Reader) error { return sum.add(name, r) }); err != nil {
			return false, err
		}
	}
	return sum.judge()
}

// names are the paths of all files, in the order of the checksum.
func (b *backupDir) names() (names []string, err error) {
	err = fs.WalkDir(os.DirFS(b.path), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || entry.IsDir():
			return err
		case !entry.Type().IsRegular():
			return fmt.Errorf("%w: %s in the backup is neither a file nor a directory", kv.ErrCorrupt, name)
		}
		names = append(names, name)
		return nil
	})
	slices.SortFunc(names, func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) })
	return names, err
}

func (b *backupDir) with(name string, count *byteCounter, use func(io.Reader) error) (err error) {
	f, err := os.Open(filepath.Join(b.path, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return use(count.of(f))
}

func (b *backupDir) walk(count *byteCounter, visit func(string, io.Reader) error) error {
	entries, err := os.ReadDir(filepath.Join(b.path, "kv"))
	if errors.Is(err, fs.ErrNotExist) {
		return failf(exitInvalid, "%s has no directory kv, as a backup of nano-graphrag has; a working directory goes to Redis by kv migrate", b.path)
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := "kv/" + entry.Name()
		namespace, ok := namespaceIn(name)
		if !ok || !entry.Type().IsRegular() {
			continue
		}
		if err := b.with(name, count, func(r io.Reader) error { return visit(namespace, r) }); err != nil {
			return err
		}
	}
	return nil
}

// A backupArchive is an .ngbak file, a packed directory. Nothing of it is
// unpacked to the disk.
type backupArchive struct{ *os.File }

func (b *backupArchive) close() error { return b.Close() }

func (b *backupArchive) check(count *byteCounter) (bool, error) {
	sum := &directorySum{hash: sha256.New()}
	err := b.files(count, sum.add)
	if errors.Is(err, errOrder) {
		return false, failf(exitInvalid, "the files in %s are not in the order in which nano-graphrag packs them; unpack it, and name the directory", b.Name())
	}
	if err != nil {
		return false, err
	}
	return sum.judge()
}

func (b *backupArchive) walk(count *byteCounter, visit func(string, io.Reader) error) error {
	return b.files(count, func(name string, r io.Reader) error {
		if namespace, ok := namespaceIn(name); ok {
			return visit(namespace, r)
		}
		return nil
	})
}

// files calls visit with all files of the archive in turn.
func (b *backupArchive) files(count *byteCounter, visit func(name string, r io.Reader) error) error {
	if _, err := b.Seek(0, io.SeekStart); err != nil {
		return err
	}
	packed, err := gzip.NewReader(count.of(b.File))
	if err != nil {
		return unreadable(err)
	}
	in := tar.NewReader(unpacked{packed})
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return onlyPadding(unpacked{packed}) // And to where the checksum of gzip is.
		}
		if err != nil {
			return unreadable(err)
		}
		name := path.Clean(h.Name)
		switch {
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg, !fs.ValidPath(name):
			return fmt.Errorf("%w: the archive has something else than files and directories", kv.ErrCorrupt)
		}
		if err := visit(name, in); err != nil {
			return err
		}
	}
}

// onlyPadding reads what is behind the end of an archive, which tar fills up
// with zeros. Of two archives in one file only the first would be read.
func onlyPadding(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if slices.ContainsFunc(buf[:n], func(b byte) bool { return b != 0 }) {
			return fmt.Errorf("%w: something follows the end of the archive", kv.ErrCorrupt)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func unreadable(err error) error {
	if errors.As(err, new(*fs.PathError)) || errors.Is(err, kv.ErrCorrupt) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: this is no archive of nano-graphrag: %w", kv.ErrCorrupt, err)
}
