package jsonstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/wal"
)

// A repairReport says what Repair found and did, as kv documents it.
type repairReport struct {
	Documents int
	Lost      []loss
	Copies    []string
}

// A loss is a part of a file that could not be read.
type loss struct {
	File   string
	Offset int64
	Bytes  int64
	Reason string
}

// Repair salvages what can be read of a namespace that does not open, and
// syncs whatever it writes.
func Repair(ctx context.Context, o Options) (repairReport, error) {
	o.Policy, o.ReadOnly = policyAlways, false
	e, err := newLocked(o, false)
	if err != nil {
		return repairReport{}, err
	}
	err = e.recover(ctx)
	r := &repairer{compactor: <-e.compactor}
	if errors.Is(err, fault.ErrCorrupt) {
		r.reset()
		err = r.run(ctx)
	}
	r.report.Documents = len(e.index.position)
	return r.report, errors.Join(err, r.discard())
}

type repairer struct {
	*compactor
	report repairReport
}

func (r *repairer) lost(file string, offset, bytes int64, reason string) {
	r.report.Lost = append(r.report.Lost, loss{file, offset, bytes, reason})
}

func (r *repairer) run(ctx context.Context) error {
	e := r.engine
	names, err := e.files.List()
	if err != nil {
		return err
	}
	journals := e.names.journals(names)
	if err := r.copyAside(journals); err != nil {
		return fmt.Errorf("nothing was changed, since no copy could be made: %w", err)
	}
	if err := r.document(ctx); err != nil {
		return err
	}
	if err := r.readTTLs(); err != nil {
		if !errors.Is(err, fault.ErrCorrupt) {
			return err
		}
		r.lost(e.names.ttl(), 0, 0, "times to live from here on: "+err.Error())
	}
	next := uint64(1)
	for _, g := range journals {
		if err := r.journal(ctx, g); err != nil {
			return err
		}
		next = g + 1
	}
	// A journal of its own carries the announcement of the new snapshot.
	j, err := e.createJournal(&r.leftover, next, journalHeader{compacts: true})
	if err != nil {
		return err
	}
	e.use(j)
	r.owed = true
	if err := r.compact(ctx, false); err != nil {
		return err
	}
	return r.removeJournals(j.generation)
}

// copyAside copies all files of the namespace.
func (r *repairer) copyAside(journals []uint64) error {
	e := r.engine
	names := []string{e.names.document(), e.names.ttl()}
	for _, g := range journals {
		names = append(names, e.names.journal(g))
	}
	suffix := damagedMark + e.now().UTC().Format(markTime)
	for _, name := range names {
		err := copyFile(e.files, name, name+suffix, os.O_EXCL)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		r.report.Copies = append(r.report.Copies, e.path(name+suffix))
	}
	return e.files.Sync()
}

func copyFile(files fsys.FS, from, to string, flag int) error {
	src, err := files.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	return copyPart(files, src, 0, info.Size(), to, flag)
}

// copyPart copies n bytes at offset to a file, and syncs it. flag says
// what is done if there is a file of that name.
func copyPart(files fsys.FS, src io.ReaderAt, offset, n int64, to string, flag int) error {
	dst, err := files.OpenFile(to, os.O_WRONLY|os.O_CREATE|flag, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(dst, 0), io.NewSectionReader(src, offset, n))
	if err == nil {
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}

// document reads the members whose end is certain. Behind a bad one it goes
// on at the next line that begins a member in Python's layout.
func (r *repairer) document(ctx context.Context) error {
	e := r.engine
	if exists, err := r.openDocument(); err != nil || !exists {
		return err
	}
	size := r.snapshot.info.Size()
	members := jsonscan.NewSizedReader(io.NewSectionReader(r.snapshot.file, 0, size), engine.MaxDepth, size)
	for {
		bad, err := r.members(ctx, members)
		if err != nil || bad == nil {
			return err
		}
		next, err := members.Skip()
		end := errors.Is(err, io.EOF)
		switch {
		case end:
			next = size
		case err != nil:
			return err
		}
		r.lost(e.names.document(), bad.Offset, next-bad.Offset, bad.Msg)
		if end {
			return nil
		}
	}
}

// members puts members into the index, up to the first that is bad.
func (r *repairer) members(ctx context.Context, members *jsonscan.Reader) (bad *jsonscan.Error, err error) {
	for n := 0; ; n++ {
		m, err := members.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case errors.As(err, &bad):
			return bad, nil
		case err != nil:
			return nil, err
		case n%1024 == 0 && ctx.Err() != nil:
			return nil, ctx.Err()
		}
		r.engine.index.put(documentOf(r.snapshot.segment, m))
	}
}

// journal applies every record with a right checksum.
func (r *repairer) journal(ctx context.Context, generation uint64) error {
	l, err := r.engine.openJournal(generation, os.O_RDWR)
	if err != nil {
		return err
	}
	past := func(d *wal.Damage) bool {
		end := cmp.Or(d.Next, d.Offset+d.Cut)
		r.lost(l.name, d.Offset, end-d.Offset, d.Reason)
		return d.Next > 0
	}
	err = l.each(past, r.engine.applyEntry(ctx, l))
	if damage := (*wal.Damage)(nil); errors.As(err, &damage) {
		return nil // There is nothing behind it.
	}
	return err
}
