package jsonstore

import (
	"context"
	"io/fs"
	"os"
	"runtime"

	"github.com/ngraf/kv/internal/flock"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/health"
)

// Check looks at the files of the namespace and at the disk they are on. The
// documents are not read again.
func (e *Engine) Check(ctx context.Context, all *health.Report) {
	r := all.At(e.dir)
	defer func() { all.Join(r) }()
	e.checkSpace(r)
	if r.Opening {
		return
	}
	if _, err := e.files.Stat("."); err != nil {
		r.Reach(ctx, err)
		return
	}
	e.checkWrites(r)
	e.checkForeign(ctx, r)
	e.checkFiles(ctx, r)
	if e.readonly {
		e.checkLock(r)
	}
}

// checkSpace compares what is free with what a compaction writes beside the
// old document file: a new one, which has what is in the journals, too.
func (e *Engine) checkSpace(r *health.Report) {
	disk, ok := e.files.(interface{ Free() (int64, error) })
	if !ok {
		return
	}
	free, err := disk.Free()
	if err != nil {
		return // Not on this system.
	}
	const least = 64 << 10 // For a namespace that is still empty.
	need := e.snapshotBytes.Load()*11/10 + e.journalBytes.Load() + least
	switch {
	case free < need:
		r.Add(health.JSONDiskFull, "The disk has %d bytes free, and the next compaction needs %d", free, need)
	case free < need+2*e.journalMost():
		r.Add(health.JSONDiskLow, "The disk has %d bytes free, and the next compaction needs %d and more with every write", free, need)
	}
}

func (e *Engine) checkWrites(r *health.Report) {
	if e.health() != nil {
		r.Add(health.JSONStopped, "An fsync failed, so that the store refuses writes until it is opened anew")
	}
	if e.changedByOthers() {
		r.Add(health.JSONChanged, "Another program has changed, replaced or removed the document file while it was open")
	}
	switch journals := e.journalBytes.Load(); {
	case e.auto.failed.Load() > 0:
		r.Add(health.JSONJournal, "The last compaction failed, and the journals have %d bytes", journals)
	case journals > 2*e.journalMost():
		r.Add(health.JSONJournal, "The journals have %d bytes, the document file %d", journals, e.snapshotBytes.Load())
	}
	if e.policy == policyNo && r.TTL == 0 {
		r.Add(health.JSONNoFsync, "STORAGE_JSON_FSYNC is no: a machine that dies loses what its kernel had not written")
	}
}

// changedByOthers is unknown while a compaction replaces the file, and does
// not matter to one who only reads.
func (e *Engine) changedByOthers() bool {
	if e.readonly {
		return false
	}
	select {
	case c := <-e.compactor:
		if c == nil {
			return false
		}
		defer c.yield()
		same, err := c.unchanged()
		return err == nil && !same
	default:
		return false
	}
}

func (e *Engine) checkForeign(ctx context.Context, r *health.Report) {
	foreign := 0
	for from := 0; ctx.Err() == nil; from += keysPage {
		e.mu.RLock()
		docs := e.index.docs[min(from, len(e.index.docs)):min(from+keysPage, len(e.index.docs))]
		for i := range docs {
			if docs[i].foreign {
				foreign++
			}
		}
		e.mu.RUnlock()
		if len(docs) == 0 {
			break
		}
	}
	if foreign > 0 {
		r.Add(health.JSONForeign, "Values in the document file are not JSON, such as NaN: %d of them", foreign)
	}
}

// checkFiles looks at the names and modes of the namespace's files.
func (e *Engine) checkFiles(ctx context.Context, r *health.Report) {
	const others = 0o077
	hasModes := runtime.GOOS != "windows"
	if info, err := e.files.Stat("."); err == nil && hasModes && info.Mode()&others != 0 {
		r.Add(health.JSONOpenDirectory, "The directory has mode %04o, so that other users can look into it", info.Mode().Perm())
	}
	names, err := e.files.List()
	if err != nil {
		r.Reach(ctx, err)
		return
	}
	file := e.names.owned()
	open, left, size := 0, 0, int64(0)
	widest := fs.FileMode(0)
	for _, name := range names {
		match := file.FindStringSubmatch(name)
		info, err := e.files.Stat(name)
		if match == nil || err != nil { // Not ours, or gone since.
			continue
		}
		if mode := info.Mode(); hasModes && mode.IsRegular() && mode&others != 0 {
			open++
			widest |= mode.Perm()
		}
		if match[2] != "" {
			left++
			size += info.Size()
		}
	}
	if open > 0 {
		r.Add(health.JSONOpenFiles, "Other users can open files of the namespace: %d of them, with mode %04o", open, widest)
	}
	if left > 0 {
		r.Add(health.JSONLeftovers, "A crash or kv repair has left files: %d of them, with %d bytes", left, size)
	}
}

// checkLock asks who has the lock without taking it, not even for a moment: a
// service may be starting.
func (e *Engine) checkLock(r *health.Report) {
	dir, ok := e.files.(*fsys.Dir)
	if !ok {
		return
	}
	f, err := dir.OpenOS(e.names.lock(), os.O_RDONLY, 0)
	if err != nil {
		return // Nobody has ever written here.
	}
	defer f.Close()
	if held, err := flock.Holder(f); err == nil && held != nil {
		r.Add(health.JSONInUse, "The namespace is %v, as far as its lock says", held)
	}
}
