package jsonstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/testkit"
)

// faults are what every operation is made to fail with.
var faults = []error{syscall.EIO, syscall.ENOSPC, crashfs.Short{Err: syscall.ENOSPC}, syscall.EROFS}

// inject makes the n-th operation fail, and the one that comes again after it,
// unless that is 0, and the steps after it bear that. It reports whether there
// is such an operation.
func (r *rig) inject(n, again int, fault error) bool {
	count := 0
	r.fs.SetHook(func(op crashfs.Op) error {
		err := r.happens(op)
		count++
		if count != n && (again == 0 || count != n+again) || errors.As(fault, new(crashfs.Short)) && op.Kind != "write" {
			return err
		}
		r.injected = true
		return fmt.Errorf("injected into %s: %w", op, fault)
	})
	looked := 0
	r.reopen()
	for i, step := range r.steps {
		if r.wrong != nil {
			break
		}
		step(r)
		if !r.injected || r.wrong != nil {
			continue
		}
		if looked++; looked == 1 {
			r.crash(fmt.Sprintf("after step %d with operation %d failed by %v", i, n, fault), 1)
		}
		r.sound(i, looked <= 2)
	}
	if r.wrong == nil {
		r.close()
		r.reopen()
		r.close()
	}
	return count >= n
}

// sound checks a store in which something has failed: what is visible is what
// was acknowledged, and a store that refuses writes does so until reopened.
func (r *rig) sound(step int, kill bool) {
	seen, err := r.look()
	if err != nil || !maps.Equal(seen, r.last().at(r.now)) {
		r.fail("step %d: has %v, not %v: %w", step, brief(seen), brief(r.last().at(r.now)), err)
	}
	ctx := context.Background()
	if r.wrong != nil {
		return
	}
	if r.store.Ping(ctx) == nil {
		if !kill {
			return
		}
		// Nothing that failed comes back when the process dies.
		branches := r.branches
		r.branches = nil
		if err := r.survives(r.fs.Crash(crashfs.Process, 0), r.acked); err != nil {
			r.fail("step %d: after a killed process: %w", step, err)
		}
		r.branches = branches
		return
	}
	items := map[string]json.RawMessage{"refused": json.RawMessage("1")}
	for range 2 {
		if err := r.store.Upsert(ctx, items); !errors.Is(err, fault.ErrUnavailable) {
			r.fail("step %d: a write after a failed sync: %w", step, err)
		}
	}
	doReopen(r)
}

func TestJSONEveryOperationFails(t *testing.T) {
	t.Parallel()
	for _, policy := range []Policy{policyAlways, policyEverySec} { // Without the timer, no is everysec.
		for i, fault := range faults {
			t.Run(fmt.Sprintf("%s, %v", policy, fault), func(t *testing.T) {
				t.Parallel()
				injected, checks := 0, 0
				for n := 1 + i*(testkit.Stride()-1)/4; ; n += testkit.Stride() {
					r := newRig(policy)
					there := r.inject(n, 0, fault)
					require.NoErrorf(t, r.wrong, "%s, operation %d failed by %v", policy, n, fault)
					if !there {
						break
					}
					if r.injected {
						injected++
					}
					checks += r.checks
				}
				t.Logf("%d faults, %d recoveries", injected, checks)
			})
		}
	}
}

// Two operations fail, the second one while the first failure is dealt with.
func TestJSONTwoOperationsFail(t *testing.T) {
	t.Parallel()
	for _, policy := range []Policy{policyAlways, policyEverySec} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(testkit.Soak("KV_SOAK_PAIRS_SEED", 1)), 0))
			pairs, checks := testkit.Soak("KV_SOAK_PAIRS", 400/testkit.Stride()), 0
			for range pairs {
				n, again, fault := 1+rng.IntN(900), 1+rng.IntN(8), faults[rng.IntN(len(faults))]
				r := newRig(policy)
				r.inject(n, again, fault)
				require.NoErrorf(t, r.wrong, "%s, operations %d and %d behind it failed by %v", policy, n, again, fault)
				checks += r.checks
			}
			t.Logf("%d pairs, %d recoveries", pairs, checks)
		})
	}
}

// A mutant is an engine with one of its protections taken away, by a file
// system that only says that it did something.
type mutant struct {
	name   string
	policy Policy
	lie    func() func(crashfs.Op) bool // operations that do nothing
	wrap   func(fsys.FS) fsys.FS
	faults bool // found by faults, not by crashes
}

func lieAbout(kind, prefix string) func() func(crashfs.Op) bool {
	return func() func(crashfs.Op) bool {
		return func(op crashfs.Op) bool { return op.Kind == kind && strings.HasPrefix(op.Name, prefix) }
	}
}

// lieAfter lies about syncs of the directory after a change of one name.
func lieAfter(prefix string, kinds ...string) func() func(crashfs.Op) bool {
	return func() func(crashfs.Op) bool {
		armed := false
		return func(op crashfs.Op) bool {
			switch {
			case op.Kind == "sync" && op.Name == ".":
				return armed
			case op.Kind == "create" || op.Kind == "rename" || op.Kind == "remove":
				armed = slices.Contains(kinds, op.Kind) && strings.HasPrefix(op.Name, prefix)
			}
			return false
		}
	}
}

// lieInCompaction lies about syncs of a journal before, or after, the
// temporary file of a snapshot has been written.
func lieInCompaction(after bool) func() func(crashfs.Op) bool {
	return func() func(crashfs.Op) bool {
		writing := false
		return func(op crashfs.Op) bool {
			switch {
			case op.Kind == "sync" && op.Name == "kv_store_t.json.tmp":
				writing = true
			case op.Kind == "rename" && op.Name == "kv_store_t.json":
				writing = false
			}
			return op.Kind == "sync" && strings.Contains(op.Name, ".journal.") && writing == after
		}
	}
}

// changedFS is a file system in which some operations do something else.
type changedFS struct {
	fsys.FS
	open   func(name string, flag int) (string, int)
	file   func(fsys.File) fsys.File
	rename func(oldname, newname string) error
}

func (c *changedFS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	if c.open != nil {
		name, flag = c.open(name, flag)
	}
	f, err := c.FS.OpenFile(name, flag, perm)
	if err == nil && c.file != nil {
		f = c.file(f)
	}
	return f, err
}

func (c *changedFS) Rename(oldname, newname string) error {
	if c.rename != nil {
		return c.rename(oldname, newname)
	}
	return c.FS.Rename(oldname, newname)
}

// trusting believes a sync that failed.
type trusting struct{ fsys.File }

func (f trusting) Sync() error {
	_ = f.File.Sync()
	return nil
}

// late syncs the document's temporary file when it has been renamed.
type late struct {
	fsys.File
	after *[]func() error
}

func (f late) Sync() error {
	*f.after = append(*f.after, f.File.Sync)
	return nil
}

func trustingFS(d fsys.FS) fsys.FS {
	return &changedFS{FS: d, file: func(f fsys.File) fsys.File { return trusting{f} }}
}

func lateFS(d fsys.FS) fsys.FS {
	var after []func() error
	c := &changedFS{FS: d}
	temp := false
	c.open = func(name string, flag int) (string, int) {
		temp = name == "kv_store_t.json.tmp"
		return name, flag
	}
	c.file = func(f fsys.File) fsys.File {
		if temp {
			return late{f, &after}
		}
		return f
	}
	c.rename = func(oldname, newname string) error {
		err := d.Rename(oldname, newname)
		for _, sync := range after {
			err = errors.Join(err, sync())
		}
		after = nil
		return err
	}
	return c
}

// inPlaceFS has no temporary file: the document file is written over.
func inPlaceFS(d fsys.FS) fsys.FS {
	return &changedFS{
		FS: d,
		open: func(name string, flag int) (string, int) {
			return strings.TrimSuffix(name, ".tmp"), flag
		},
		rename: func(string, string) error { return nil },
	}
}

// hastyFS removes journals before the document file takes over.
func hastyFS(d fsys.FS) fsys.FS {
	return &changedFS{FS: d, rename: func(oldname, newname string) error {
		names, err := d.List()
		generations := fileNames("t").journals(names)
		for i := 0; newname == "kv_store_t.json" && i < len(generations)-1; i++ {
			err = errors.Join(err, d.Remove(fileNames("t").journal(generations[i])))
		}
		return errors.Join(err, d.Rename(oldname, newname))
	}}
}

var mutants = []mutant{
	{name: "the journal is not synced", policy: policyAlways, lie: lieAbout("sync", "kv_store_t.journal.")},
	{name: "a new journal's entry is not synced", policy: policyAlways, lie: lieAfter("kv_store_t.journal.", "create")},
	{name: "the journal is not synced before the next", policy: policyEverySec, lie: lieInCompaction(false)},
	{name: "the announcement is not synced", policy: policyEverySec, lie: lieInCompaction(true)},
	{name: "the document file is not synced", policy: policyNo, lie: lieAbout("sync", "kv_store_t.json.tmp")},
	{name: "the document file's name is not synced", policy: policyNo, lie: lieAfter("kv_store_t.json", "rename")},
	{name: "the document file is synced after its rename", policy: policyAlways, wrap: lateFS},
	{name: "the document file is written in place", policy: policyAlways, wrap: inPlaceFS},
	{name: "journals go before the document file comes", policy: policyAlways, wrap: hastyFS},
	{name: "times to live are not synced", policy: policyNo, lie: lieAbout("sync", "kv_store_t.ttl.tmp")},
	{name: "the name of the times to live is not synced", policy: policyNo, lie: lieAfter("kv_store_t.ttl", "rename", "remove")},
	{name: "no directory is ever synced", policy: policyEverySec, lie: lieAbout("sync", ".")},
	{name: "a failed write is not taken back", policy: policyAlways, lie: lieAbout("truncate", "kv_store_t.journal."), faults: true},
	{name: "a failed sync is believed", policy: policyAlways, wrap: trustingFS, faults: true},
}

func TestJSONMutantsAreCaught(t *testing.T) {
	t.Parallel()
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			err := m.proof()
			require.Error(t, err, "nothing found it")
			t.Logf("%.300v", err)
		})
	}
}

func (m mutant) rig() *rig {
	r := newRig(m.policy)
	r.wrap = m.wrap
	if m.lie != nil {
		lies := m.lie()
		r.lie = func(op crashfs.Op) error {
			if lies(op) {
				return crashfs.ErrLie
			}
			return nil
		}
	}
	return r
}

// proof is the first thing that goes wrong.
func (m mutant) proof() error {
	if !m.faults {
		r := m.rig()
		r.watch(4) // As many as TestJSONCrashEverywhere tries.
		return r.run()
	}
	for n := 1; ; n++ {
		for _, fault := range faults[:3] {
			r := m.rig()
			there := r.inject(n, 0, fault)
			if r.wrong != nil {
				return r.wrong
			}
			if !there {
				return nil
			}
		}
	}
}
