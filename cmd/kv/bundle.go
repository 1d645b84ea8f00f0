package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvmove"
)

// openBundle tells by its content what a path is. as is the namespace of a
// single file of nano-graphrag, or nothing.
func openBundle(a *app, path, as string) (bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, failf(exitInvalid, "cannot read the import: %v", err)
	}
	if info.IsDir() {
		return newPython(a, &backupDir{path}, 0), nil
	}
	if !info.Mode().IsRegular() {
		return nil, failf(exitInvalid, "%s is neither a file nor a directory", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, failf(exitInvalid, "cannot read the import: %v", err)
	}
	head := make([]byte, 64)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.Join(err, f.Close())
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return newPython(a, &backupArchive{f}, info.Size()), nil
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")), bytes.HasPrefix(head, []byte(`{"kv":"export"`)):
		return &exported{app: a, file: f, size: info.Size(), packed: head[0] == '\x28'}, nil
	}
	if as == "" {
		match := pythonFile.FindStringSubmatch(filepath.Base(path))
		if match == nil {
			return nil, errors.Join(failf(exitInvalid, "%s is no export of kv; if it is one of nano-graphrag, say by --as which namespace it is of", path), f.Close())
		}
		as = match[1]
	}
	return newPython(a, &backupFile{f, as}, info.Size()), nil
}

// pythonFile is the name of a namespace in a backup of nano-graphrag. A copy
// of a document file is read, too.
var pythonFile = regexp.MustCompile(`^(?:kv_store_)?([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})\.json$`)

// maxWindow bounds what a zstd stream may have its reader hold: what zstd itself
// reads by default, and sixteen times what kv export has.
const maxWindow = 128 << 20

// An exported is a file that kv export wrote.
type exported struct {
	app    *app
	file   *os.File
	size   int64
	packed bool
}

// read calls do with the stream from its beginning.
func (e *exported) read(ctx context.Context, what string, do func(io.Reader) ([]kvmove.ImportReport, error)) ([]kvmove.ImportReport, error) {
	if _, err := e.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	count := e.app.byteCounter(ctx, what, e.size)
	defer count.bar.end()
	in := count.of(e.file)
	if e.packed {
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		in = unpacked{d}
	}
	return do(in)
}

func (e *exported) check(ctx context.Context) ([]kvmove.ImportReport, error) {
	return e.read(ctx, "checking", func(r io.Reader) ([]kvmove.ImportReport, error) { return kvmove.VerifyExport(ctx, r) })
}

func (e *exported) load(ctx context.Context, open kvmove.Opener, mode kvmove.Mode) ([]kvmove.ImportReport, error) {
	return e.read(ctx, "importing", func(r io.Reader) ([]kvmove.ImportReport, error) { return kvmove.Import(ctx, r, open, mode) })
}

func (e *exported) place() string { return "line %s" }

func (e *exported) close() error { return e.file.Close() }

// An unpacked reader says that what cannot be unpacked is damaged.
type unpacked struct{ io.Reader }

func (u unpacked) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, new(*fs.PathError)) && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: cannot unpack it: %w", kv.ErrCorrupt, err)
	}
	return n, err
}

// A backup is what nano-graphrag wrote, in one of its forms.
type backup interface {
	// check compares the checksum, if there is one.
	check(count *byteCounter) (sum bool, err error)
	// walk calls visit with the export of each namespace.
	walk(count *byteCounter, visit func(namespace string, r io.Reader) error) error
	close() error
}

// A python is a bundle made of a backup.
type python struct {
	app    *app
	backup backup
	size   int64
}

func newPython(a *app, b backup, size int64) *python { return &python{a, b, size} }

func (p *python) counter(ctx context.Context, what string) *byteCounter {
	return p.app.byteCounter(ctx, what, p.size)
}

func (p *python) check(ctx context.Context) ([]kvmove.ImportReport, error) {
	count := p.counter(ctx, "checking")
	sum, err := p.backup.check(count)
	count.bar.end()
	if err != nil {
		return nil, err
	}
	if !sum {
		p.app.note("it has no checksum, so that some damage cannot be seen")
	}
	nothing := func(context.Context, string) (kv.Store, error) { return nil, nil }
	return p.each(ctx, "reading", nothing, kvmove.Merge, true)
}

func (p *python) load(ctx context.Context, open kvmove.Opener, mode kvmove.Mode) ([]kvmove.ImportReport, error) {
	return p.each(ctx, "importing", open, mode, false)
}

// each imports the namespaces that have a store. With all, it reads those, too,
// that have none.
func (p *python) each(ctx context.Context, what string, open kvmove.Opener, mode kvmove.Mode, all bool) ([]kvmove.ImportReport, error) {
	var reports []kvmove.ImportReport
	count := p.counter(ctx, what)
	defer count.bar.end()
	err := p.backup.walk(count, func(namespace string, r io.Reader) (err error) {
		store, err := open(ctx, namespace)
		if err != nil || store == nil && !all {
			return err
		}
		if store != nil {
			defer func() { err = errors.Join(err, store.Close()) }()
		}
		report, err := kvmove.ImportPython(ctx, r, store, namespace, mode)
		reports = append(reports, report)
		return err
	})
	return reports, err
}

func (p *python) place() string { return "place %s, counted from 0" }

func (p *python) close() error { return p.backup.close() }

// A backupFile is the export of one namespace.
type backupFile struct {
	*os.File
	namespace string
}

func (b *backupFile) check(*byteCounter) (bool, error) { return false, nil }

func (b *backupFile) walk(count *byteCounter, visit func(string, io.Reader) error) error {
	if _, err := b.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return visit(b.namespace, count.of(b.File))
}

func (b *backupFile) close() error { return b.Close() }

// namespaceIn reads the path of a file in a backup.
func namespaceIn(name string) (string, bool) {
	base, ok := strings.CutPrefix(name, "kv/")
	match := pythonFile.FindStringSubmatch(base)
	if !ok || match == nil {
		return "", false
	}
	return strings.TrimSuffix(base, ".json"), true
}
