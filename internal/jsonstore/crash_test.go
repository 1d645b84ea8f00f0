package jsonstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/testkit"
)

// A state is the documents of a namespace, by id.
type jsonState map[string]document

type document struct {
	value   string // without white space
	expires int64
}

// at is what of a state can be seen at a time.
func (s jsonState) at(now int64) jsonState {
	seen := make(jsonState, len(s))
	for id, d := range s {
		if d.expires == 0 || d.expires > now {
			seen[id] = d
		}
	}
	return seen
}

// A rig runs a script of operations on an engine over a crashfs, and knows
// what must be there after each.
type rig struct {
	fs     *crashfs.FS
	wrap   func(fsys.FS) fsys.FS // makes a mutant
	policy Policy
	now    int64
	engine *Engine
	store  *enginetest.Store
	seq    int
	steps  []func(*rig)

	// chain is the state after each record, in order; those after acked are
	// of the call that is under way. A crash must leave one of those from
	// durable on, or one of branches, which calls that failed have left.
	chain          []jsonState
	acked, durable int
	branches       []jsonState

	injected bool       // an error, so calls may fail
	during   func(*rig) // runs once, when a compaction has begun
	lie      func(crashfs.Op) error
	wrong    error // the first violation
	checks   int   // recoveries
}

func newRig(policy Policy) *rig {
	return &rig{fs: crashfs.New(), policy: policy, now: 1_700_000_000_000, chain: []jsonState{{}}, steps: script()}
}

func (r *rig) fail(format string, args ...any) {
	if r.wrong == nil {
		r.wrong = fmt.Errorf(format, args...)
	}
}

// open makes a store on a directory.
func (r *rig) open(files fsys.FS) (*Engine, *enginetest.Store, error) {
	if r.wrap != nil {
		files = r.wrap(files)
	}
	e := newEngine(Options{Dir: "dir", Namespace: "t", Files: files, Policy: r.policy, Logger: slog.New(slog.DiscardHandler)})
	e.now = func() time.Time { return time.UnixMilli(r.now) }
	// The script syncs when it wants to, so the pulse waits for a write of long
	// from now.
	e.commits.pulse.oldest = time.UnixMilli(1 << 50)
	if err := e.recover(context.Background()); err != nil {
		return nil, nil, errors.Join(err, e.discard())
	}
	return e, enginetest.Wrap(e), nil
}

// observe reads everything there is.
func observe(e *Engine, s *enginetest.Store) (jsonState, error) {
	ctx := context.Background()
	seen := make(jsonState)
	now := e.clock()
	for id, err := range s.Keys(ctx) {
		if err != nil {
			return nil, err
		}
		value, err := s.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		ttl, err := s.TTL(ctx, id)
		if err != nil {
			return nil, err
		}
		if _, twice := seen[id]; twice {
			return nil, fmt.Errorf("%q comes twice", id)
		}
		d := document{value: string(jsonscan.AppendCompact(nil, value))}
		if ttl > 0 {
			d.expires = now + ttl.Milliseconds()
		}
		seen[id] = d
	}
	return seen, nil
}

// allowed reports whether a state may be there, if what was in chain[from]
// must be.
func (r *rig) allowed(seen jsonState, from int) bool {
	same := func(s jsonState) bool { return maps.Equal(seen, s.at(r.now)) }
	return slices.ContainsFunc(r.chain[from:], same) || slices.ContainsFunc(r.branches, same)
}

// survives checks what a crash has left: it opens, it holds what it must, and
// it works.
func (r *rig) survives(after *crashfs.FS, from int) error {
	r.checks++
	e, s, err := r.open(after)
	if err != nil {
		return fmt.Errorf("does not open: %w", err)
	}
	seen, err := observe(e, s)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if !r.allowed(seen, from) {
		return fmt.Errorf("%s: has %v,\nbut must have %v\nor a later state, at most %v (%d branches)",
			after.Names(), brief(seen), brief(r.chain[from].at(r.now)), brief(r.chain[len(r.chain)-1].at(r.now)), len(r.branches))
	}
	return r.works(after, e, s, seen)
}

// works uses a store that has been recovered.
func (r *rig) works(after *crashfs.FS, e *Engine, s *enginetest.Store, want jsonState) error {
	ctx := context.Background()
	value := json.RawMessage(`{"written":"after the crash"}`)
	if err := s.Upsert(ctx, map[string]json.RawMessage{"a": value, "new": value}); err != nil {
		return err
	}
	want["a"], want["new"] = document{value: string(value)}, document{value: string(value)}
	if _, err := s.Delete(ctx, "b"); err != nil {
		return err
	}
	delete(want, "b")
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if n := e.journalBytes.Load(); n < 0 || n > 1000 {
		return fmt.Errorf("counts %d bytes in the journals after a flush", n)
	}
	if err := s.Close(); err != nil {
		return err
	}
	if n := after.Handles(); n != 0 {
		return fmt.Errorf("%d files left open", n)
	}
	for _, name := range after.Names() {
		if strings.HasSuffix(name, ".tmp") || strings.Contains(name, ".journal.") && !strings.HasSuffix(name, ".torn") {
			return fmt.Errorf("%s is left after Close", name)
		}
	}
	e, s, err := r.open(after.Crash(crashfs.Nothing, 0))
	if err != nil {
		return fmt.Errorf("does not open again: %w", err)
	}
	seen, err := observe(e, s)
	if err == nil && !maps.Equal(seen, want) {
		err = fmt.Errorf("has %v after it was used, not %v", brief(seen), brief(want))
	}
	return errors.Join(err, s.Close())
}

// brief is a state for a message.
func brief(s jsonState) string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%s=%.16s", id, s[id].value)
		if s[id].expires != 0 {
			fmt.Fprintf(&b, "@%d", s[id].expires)
		}
		b.WriteByte(' ')
	}
	return "{" + b.String() + "}"
}

// crash checks what is found if the machine, or the process, dies now.
func (r *rig) crash(op string, seeds uint64) {
	try := func(mode crashfs.Mode, seed uint64, from int) {
		if r.wrong != nil {
			return
		}
		if err := r.survives(r.fs.Crash(mode, seed), from); err != nil {
			r.fail("%s, %s, crash mode %d, seed %d: %w", r.policy, op, mode, seed, err)
		}
	}
	try(crashfs.Process, 0, r.acked)
	try(crashfs.Nothing, 0, r.durable)
	if !r.injected { // A sync that failed may have lost what it was to write.
		try(crashfs.Everything, 0, r.acked)
	}
	for seed := range seeds {
		try(crashfs.Random, seed+uint64(r.fs.Ops())<<8, r.durable)
		try(crashfs.Reordered, seed+uint64(r.fs.Ops())<<8, r.durable)
	}
}

// watch crashes before every operation that may find something new.
func (r *rig) watch(seeds uint64) {
	changed := true
	r.fs.SetHook(func(op crashfs.Op) error {
		if changed {
			r.crash("before "+op.String(), seeds)
			r.crashTwice(seeds)
		}
		changed = op.Changes()
		return r.happens(op)
	})
}

// happens is the part of every hook that belongs to the script.
func (r *rig) happens(op crashfs.Op) error {
	if f := r.during; f != nil && op.Kind == "create" && op.Name == "kv_store_t.json.tmp" {
		r.during = nil
		f(r)
	}
	if r.lie != nil {
		return r.lie(op)
	}
	return nil
}

// crashTwice crashes, and then again before every change that recovery makes.
func (r *rig) crashTwice(seeds uint64) {
	if r.wrong != nil || r.fs.Ops()%4 != 0 || seeds == 0 {
		return
	}
	seed := uint64(r.fs.Ops())
	after := r.fs.Crash(crashfs.Random, seed)
	after.SetHook(func(op crashfs.Op) error {
		for _, mode := range []crashfs.Mode{crashfs.Process, crashfs.Nothing, crashfs.Random} {
			if !op.Changes() || r.wrong != nil {
				return nil
			}
			if err := r.survives(after.Crash(mode, seed), r.durable); err != nil {
				r.fail("%s, second crash, in recovery, before %s, mode %d: %w", r.policy, op, mode, err)
			}
		}
		return nil
	})
	e, _, err := r.open(after)
	if err != nil {
		r.fail("%s, while crashing twice: %w", r.policy, err)
		return
	}
	after.SetHook(nil)
	_ = e.discard()
}

// run does the script, on a store that it opens and closes.
func (r *rig) run() error {
	r.reopen()
	for _, step := range r.steps {
		if r.wrong != nil {
			break
		}
		step(r)
	}
	if r.wrong == nil {
		r.close()
	}
	return r.wrong
}

func TestJSONCrashEverywhere(t *testing.T) {
	t.Parallel()
	seeds := uint64(testkit.Soak("KV_SOAK_SEEDS", max(1, 4/testkit.Stride())))
	for _, policy := range []Policy{policyAlways, policyEverySec, policyNo} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			r := newRig(policy)
			r.watch(seeds)
			require.NoError(t, r.run())
			r.crash("at the end", seeds)
			require.NoError(t, r.wrong)
			t.Logf("%d recoveries, %d operations", r.checks, r.fs.Ops())
		})
	}
}
