package kv_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

const modelOps = 2000

// A modelRun makes the same random calls on a store and on a map.
type modelRun struct {
	t      *testing.T
	rng    *rand.Rand
	store  kv.Store
	reopen func(kv.Store) kv.Store
	model  map[string]string
	seed   uint64
	op     int
}

// Whatever sequence of calls, every backend answers as a map would, also
// after it was closed and opened again.
func TestModelJSON(t *testing.T) {
	t.Parallel()
	ctx := jsonstore.WithCompactAt(t.Context(), 8<<10)
	for seed := range uint64(200 / testkit.Stride()) {
		cfg := kv.Config{WorkingDir: t.TempDir()}
		open := func() kv.Store {
			s, err := kv.Open(ctx, cfg, "docs")
			require.NoError(t, err)
			return s
		}
		runModel(t, seed, open(), func(s kv.Store) kv.Store {
			require.NoError(t, s.Close())
			return open()
		})
	}
}

func TestModelRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	modelOnRedis(t, server.SocketURL(), 40/testkit.Stride())
}

func TestModelCluster(t *testing.T) {
	t.Parallel()
	modelOnRedis(t, redistest.StartCluster(t, 3, 0).URL(), max(8/testkit.Stride(), 1))
}

func modelOnRedis(t *testing.T, url string, seeds int) {
	f, err := kv.NewFactory(kv.Config{Backend: "redis", Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}, kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer f.Close()
	for seed := range uint64(seeds) {
		open := func() kv.Store {
			s, err := f.Open(t.Context(), fmt.Sprint("docs", seed))
			require.NoError(t, err)
			return s
		}
		runModel(t, seed, open(), func(s kv.Store) kv.Store {
			require.NoError(t, s.Close())
			return open()
		})
	}
}

func runModel(t *testing.T, seed uint64, s kv.Store, reopen func(kv.Store) kv.Store) {
	r := &modelRun{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), store: s, reopen: reopen,
		model: make(map[string]string), seed: seed,
	}
	steps := []func(){r.upsert, r.upsert, r.upsert, r.insert, r.remove, r.get, r.get, r.getMany, r.missing, r.ttl}
	for r.op = range modelOps {
		switch n := r.rng.IntN(400); {
		case n == 0:
			r.no(r.store.Drop(t.Context()))
			clear(r.model)
		case n < 3:
			r.store = r.reopen(r.store)
		case n < 6:
			r.no(r.store.Flush(t.Context()))
		case n < 10:
			r.keys()
		default:
			steps[r.rng.IntN(len(steps))]()
		}
	}
	r.keys()
	r.no(r.store.Close())
}

func (r *modelRun) no(err error) {
	require.NoError(r.t, err, "seed %d, call %d", r.seed, r.op)
}

func (r *modelRun) same(want, got any) {
	require.Equal(r.t, want, got, "seed %d, call %d", r.seed, r.op)
}

func (r *modelRun) id() string {
	ids := []string{"", "a", "a:b", "*", "[a]", "é😀", "\x00\n", `\`}
	if n := r.rng.IntN(40); n < len(ids) {
		return ids[n]
	}
	return fmt.Sprint("id", r.rng.IntN(30))
}

func (r *modelRun) ids() []string {
	ids := make([]string, r.rng.IntN(6))
	for i := range ids {
		ids[i] = r.id()
	}
	return ids
}

// items have values that no other call stores.
func (r *modelRun) items() map[string]json.RawMessage {
	items := make(map[string]json.RawMessage)
	for i := range 1 + r.rng.IntN(4) {
		items[r.id()] = fmt.Appendf(nil, `{"op":%d,"n":%d.0,"s":"\u00e9é"}`, r.op, i)
	}
	return items
}

func (r *modelRun) upsert() {
	items := r.items()
	r.no(r.store.Upsert(r.t.Context(), items))
	for id, v := range items {
		r.model[id] = string(v)
	}
}

func (r *modelRun) insert() {
	items, want := r.items(), 0
	n, err := r.store.(kv.Inserter).Insert(r.t.Context(), items)
	r.no(err)
	for id, v := range items {
		if _, there := r.model[id]; !there {
			r.model[id] = string(v)
			want++
		}
	}
	r.same(want, n)
}

func (r *modelRun) remove() {
	ids, want := r.ids(), 0
	n, err := r.store.Delete(r.t.Context(), ids...)
	r.no(err)
	for _, id := range ids {
		if _, there := r.model[id]; there {
			delete(r.model, id)
			want++
		}
	}
	r.same(want, n)
}

func (r *modelRun) get() {
	id := r.id()
	value, err := r.store.Get(r.t.Context(), id)
	want, there := r.model[id]
	if !there {
		require.ErrorIs(r.t, err, kv.ErrNotFound, "seed %d, call %d", r.seed, r.op)
		return
	}
	r.no(err)
	r.same(want, compact(r.t, value))
}

func (r *modelRun) getMany() {
	ids := r.ids()
	values, err := r.store.GetMany(r.t.Context(), ids)
	r.no(err)
	for i, id := range ids {
		want, there := r.model[id]
		r.same(there, values[i] != nil)
		if there {
			r.same(want, compact(r.t, values[i]))
		}
	}
}

func (r *modelRun) missing() {
	ids := r.ids()
	got, err := r.store.Missing(r.t.Context(), ids)
	r.no(err)
	var want []string
	for _, id := range ids {
		if _, there := r.model[id]; !there && !slices.Contains(want, id) {
			want = append(want, id)
		}
	}
	require.ElementsMatch(r.t, want, got)
}

func (r *modelRun) ttl() {
	items := r.items()
	x := r.store.(kv.Expirer)
	r.no(x.UpsertTTL(r.t.Context(), items, time.Hour))
	for id, v := range items {
		r.model[id] = string(v)
		left, err := x.TTL(r.t.Context(), id)
		r.no(err)
		require.Greater(r.t, left, 50*time.Minute)
	}
}

func (r *modelRun) keys() {
	var got []string
	for id, err := range r.store.Keys(r.t.Context()) {
		r.no(err)
		got = append(got, id)
	}
	slices.Sort(got)
	r.same(slices.Sorted(maps.Keys(r.model)), slices.Clip(got))
}
