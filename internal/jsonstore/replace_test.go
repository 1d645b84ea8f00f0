package jsonstore

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/testkit"
)

// doReplace is a step that replaces all documents by new ones, in one step:
// the ids that are there and not named go.
func doReplace(ttl time.Duration, ids ...string) func(*rig) {
	return func(r *rig) {
		if r.wrong != nil {
			return
		}
		next := make(jsonState)
		var list []engine.Change
		expires := int64(0)
		if ttl > 0 {
			expires = r.now + ttl.Milliseconds()
		}
		for _, id := range ids {
			value := r.fresh(id)
			next[id] = document{value, expires}
			list = append(list, engine.Change{Item: engine.Item{ID: id, Value: json.RawMessage(value), TTL: ttl}, Remove: false})
		}
		for _, id := range slices.Sorted(maps.Keys(r.last().at(r.now))) {
			if _, ok := next[id]; !ok {
				list = append(list, engine.Change{Item: engine.Item{ID: id}, Remove: true})
			}
		}
		all := func(s jsonState) { clear(s); maps.Copy(s, next) }
		r.write([]record{all}, func(ctx context.Context) error {
			before := r.acked
			_, err := r.engine.Replace(ctx, each(list))
			if err == nil { // It is durable whatever the policy is.
				r.acked = len(r.chain) - 1
				r.promise(r.acked)
				return nil
			}
			// After an error it is there, or it is not.
			if seen, look := r.look(); look == nil && maps.Equal(seen, next.at(r.now)) && !maps.Equal(seen, r.chain[before].at(r.now)) {
				r.branches = append(r.branches, r.chain[before])
				return nil
			}
			return err
		})
		r.previousAreWhole()
	}
}

func each(list []engine.Change) iter.Seq2[engine.Change, error] {
	return func(yield func(engine.Change, error) bool) {
		for _, c := range list {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// previousAreWhole checks that each copy of the files of before is a state
// that there was.
func (r *rig) previousAreWhole() {
	for _, name := range r.fs.Names() {
		if !strings.Contains(name, ".json"+previousMark) || strings.HasSuffix(name, ".tmp") {
			continue
		}
		text, _ := r.fs.Bytes(name)
		if !json.Valid(text) || text[0] != '{' {
			r.fail("%s is not whole", name)
		}
	}
}

// replaceScript is a history with replacements in it.
func replaceScript() []func(*rig) {
	const short, long = 10 * time.Second, 10 * time.Minute
	return []func(*rig){
		doReplace(0, "a", "b"), doUpsert(0, "c"), doReplace(long, "b", "c", "d"), doUpsert(0, "b"), doTick,
		doReplace(0, "d", "a", "new"), doReopen, doUpsert(short, "a"), doUpsert(0, "e"), doFlush,
		doReplace(0, "e", "a"), doWait(11 * time.Second), doReplace(short, "f"), doReplace(0, "g"), doFlush, doReopen,
		doReplace(0), doUpsert(0, "x"), doReplace(long, "x", "y"), doUpsert(0, "y"), doReopen, doReplace(0, "z"),
		// Into what has been emptied, with journals and times to live of before.
		doReplace(0), doReplace(long, "p", "q"), doUpsert(0, "p"), doReopen, doDrop, doReplace(short, "r", "q"), doFlush,
		doDelete("r", "q"), doReplace(0, "q"), doUpsert(long, "s"),
	}
}

func replaceRig(policy Policy) *rig {
	r := newRig(policy)
	r.steps = replaceScript()
	return r
}

// reliability.md, "compaction": every prefix of the steps of a replacement
// recovers to the state before it or after it, under every kind of crash.
func TestJSONReplaceCrash(t *testing.T) {
	t.Parallel()
	for _, policy := range []Policy{policyAlways, policyEverySec, policyNo} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			r := replaceRig(policy)
			r.watch(uint64(testkit.Soak("KV_SOAK_SEEDS", max(1, 4/testkit.Stride()))))
			require.NoError(t, r.run())
			r.crash("at the end", 2)
			require.NoError(t, r.wrong)
			t.Logf("%d recoveries, %d operations", r.checks, r.fs.Ops())
		})
	}
}

// reliability.md: every operation of a replacement that fails is reported or
// harmless, and leaves the state before it or after it.
func TestJSONReplaceFaults(t *testing.T) {
	t.Parallel()
	for i, fault := range faults {
		t.Run(fault.Error(), func(t *testing.T) {
			t.Parallel()
			injected := 0
			for n := 1 + i*(testkit.Stride()-1)/4; ; n += testkit.Stride() {
				r := replaceRig(policyEverySec)
				there := r.inject(n, 0, fault)
				require.NoErrorf(t, r.wrong, "operation %d failed by %v", n, fault)
				if !there {
					break
				}
				if r.injected {
					injected++
				}
			}
			t.Logf("%d faults", injected)
		})
	}
}

// The proofs find a replacement whose protections were taken away.
func TestJSONReplaceMutants(t *testing.T) {
	t.Parallel()
	for _, m := range []mutant{
		{name: "the new journal is not synced", policy: policyNo, lie: lieAbout("sync", "kv_store_t.journal.tmp")},
		{name: "its name is not synced", policy: policyNo, lie: lieAfter("kv_store_t.journal.", "rename")},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			r := m.rig()
			r.steps = replaceScript()
			r.watch(2)
			err := r.run()
			require.Error(t, err, "nothing found it")
			t.Logf("%.300v", err)
		})
	}
}

// A write to the namespace while it is being replaced makes that fail, and
// changes nothing but what was written.
func TestJSONReplaceMeetsWriter(t *testing.T) {
	t.Parallel()
	r := newRig(policyNo)
	r.reopen()
	doUpsert(0, "a", "b")(r)
	changes := func(yield func(engine.Change, error) bool) {
		doUpsert(0, "c")(r)
		yield(engine.Change{Item: engine.Item{ID: "a", Value: json.RawMessage("1"), TTL: 0}, Remove: false}, nil)
	}
	_, err := r.engine.Replace(t.Context(), changes)
	require.ErrorIs(t, err, fault.ErrUnavailable)
	seen, err := r.look()
	require.NoError(t, err)
	require.Equal(t, r.last(), seen)
	require.NotContains(t, fmt.Sprint(r.fs.Names()), previousMark)
	require.NotContains(t, fmt.Sprint(r.fs.Names()), ".tmp")
	r.close()
	require.NoError(t, r.wrong)
	require.Zero(t, r.fs.Handles())
}

// Ids that the file has keep their place, new ones follow in the order given,
// and the file of before is kept byte for byte. An empty replacement changes
// nothing.
func TestJSONReplaceFile(t *testing.T) {
	t.Parallel()
	r := newRig(policyNo)
	old := []byte(`{"b": 1, "nan": NaN,   "a":2,"c":[3]}`)
	r.fs.Put("kv_store_t.json", old)
	r.reopen()
	previous, err := r.engine.Replace(t.Context(), each(nil))
	require.NoError(t, err)
	require.Empty(t, previous)
	same, _ := r.fs.Bytes("kv_store_t.json")
	require.Equal(t, old, same)
	for i := range 2 {
		previous, err = r.engine.Replace(t.Context(), each([]engine.Change{
			{Item: engine.Item{ID: "b"}, Remove: true}, {Item: engine.Item{ID: "z", Value: json.RawMessage("9"), TTL: time.Hour}, Remove: false},
			{Item: engine.Item{ID: "c", Value: json.RawMessage(fmt.Sprint(i)), TTL: 0}, Remove: false}, {Item: engine.Item{ID: "y", Value: json.RawMessage("8"), TTL: 0}, Remove: false},
		}))
		require.NoError(t, err)
		if i == 0 {
			kept, _ := r.fs.Bytes(previous)
			require.Equal(t, old, kept)
		}
	}
	doFlush(r)
	text, _ := r.fs.Bytes("kv_store_t.json")
	require.Equal(t, "{\n  \"nan\": NaN,\n  \"a\": 2,\n  \"c\": 1,\n  \"z\": 9,\n  \"y\": 8\n}", string(text))
	kept, _ := r.fs.Bytes(previous)
	require.Equal(t, "{\n  \"nan\": NaN,\n  \"a\": 2,\n  \"c\": 0,\n  \"z\": 9,\n  \"y\": 8\n}", string(kept))
	_, hasTTL := r.fs.Bytes(strings.Replace(previous, ".json", ".ttl", 1))
	require.True(t, hasTTL)
	r.close()
	require.NoError(t, r.wrong)
}
