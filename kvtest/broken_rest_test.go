package kvtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ngraf/kv"
)

func brokenInserts() []broken {
	inserting := func(insert func(m *mem, ctx context.Context, items map[string]json.RawMessage) (int, error)) func(m *mem) kv.Store {
		return func(m *mem) kv.Store {
			return &override{mem: m, insert: func(ctx context.Context, items map[string]json.RawMessage) (int, error) {
				return insert(m, ctx, items)
			}}
		}
	}
	return []broken{
		{name: "Insert overwrites", large: "Insert/", wrap: inserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) (int, error) {
			missing, _ := m.Missing(ctx, slices.Collect(maps.Keys(items)))
			n, err := m.Insert(ctx, nil)
			if err == nil {
				n, err = len(missing), m.write(ctx, "insert", items, m.ttl, nil)
			}
			return n, err
		})},
		{name: "Insert counts what it was given", large: "Insert/", wrap: inserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) (int, error) {
			_, err := m.Insert(ctx, items)
			return len(items), err
		})},
		{name: "Insert of nothing counts one", wrap: inserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) (int, error) {
			n, err := m.Insert(ctx, items)
			if len(items) == 0 {
				n++
			}
			return n, err
		})},
		{name: "Insert looks before it leaps", large: "Insert/", wrap: inserting(leaps)},
		{name: "Insert is atomic in its store alone", large: "Insert/", wrap: func(m *mem) kv.Store {
			var mu sync.Mutex
			return inserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				return leaps(m, ctx, items)
			})(m)
		}},
		{name: "Insert gives no time to live", wrap: inserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) (int, error) {
			n := 0
			return n, m.write(ctx, "insert", items, 0, &n)
		})},
		{name: "Insert restarts lives", wrap: inserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) (int, error) {
			n, err := m.Insert(ctx, items)
			return n, errors.Join(err, m.do(ctx, "insert", nil, func(docs map[string]doc) (string, error) {
				for id := range items {
					if d, ok := docs[id]; ok && err == nil {
						docs[id] = doc{raw: d.raw, expires: m.area.end(m.ttl)}
					}
				}
				return "", nil
			}))
		})},
	}
}

// leaps inserts in two steps.
func leaps(m *mem, ctx context.Context, items map[string]json.RawMessage) (int, error) {
	missing, err := m.Missing(ctx, slices.Collect(maps.Keys(items)))
	if err != nil || len(items) > 1 {
		return m.Insert(ctx, items)
	}
	pause()
	fresh := map[string]json.RawMessage{}
	for _, id := range missing {
		fresh[id] = items[id]
	}
	if err := m.write(ctx, "insert", items, m.ttl, new(int)); err != nil {
		return 0, err
	}
	return len(fresh), m.write(ctx, "insert", fresh, m.ttl, nil)
}

func brokenRest() []broken {
	return slices.Concat(brokenCorrupt(), brokenAway(), brokenStats())
}

func brokenCorrupt() []broken {
	return []broken{
		{name: "corrupt values are missing", wrap: failing(func(err error) error {
			if errors.Is(err, kv.ErrCorrupt) {
				return kv.ErrNotFound
			}
			return err
		})},
		{name: "corrupt values fail the whole GetMany", wrap: func(m *mem) kv.Store {
			return &override{mem: m, getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
				vs, err := m.GetMany(ctx, ids, fields...)
				if err != nil {
					vs = nil
				}
				return vs, err
			}}
		}},
		{name: "corrupt values fail every GetMany", wrap: func(m *mem) kv.Store {
			return &override{mem: m, getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
				vs, err := m.GetMany(ctx, ids, fields...)
				if _, bad := m.Get(ctx, "bad"); err == nil && errors.Is(bad, kv.ErrCorrupt) {
					return nil, bad
				}
				return vs, err
			}}
		}},
		{name: "corrupt values are absent but for Get", wrap: corruptIsAbsent},
		{name: "corrupt values stay for ever", wrap: corruptStays},
		{name: "corrupt values go with Close", wrap: func(m *mem) kv.Store {
			return &override{mem: m, close: func() error {
				m.area.mu.Lock()
				maps.DeleteFunc(m.area.space(m.ns), func(_ string, d doc) bool { return !json.Valid(d.raw) })
				m.area.mu.Unlock()
				return m.Close()
			}}
		}},
		{name: "corrupt values are what is not tight", wrap: func(m *mem) kv.Store {
			return &override{mem: m, get: func(ctx context.Context, id string) (json.RawMessage, error) {
				v, err := m.Get(ctx, id)
				if slices.Contains(v, '\n') && v[0] == '{' {
					return nil, m.fail("get", m.ns, id, kv.ErrCorrupt)
				}
				return v, err
			}}
		}},
	}
}

func corrupt(m *mem) (ids []string) {
	_ = m.do(context.Background(), "", nil, func(docs map[string]doc) (string, error) {
		for id, d := range docs {
			if !json.Valid(d.raw) {
				ids = append(ids, id)
			}
		}
		return "", nil
	})
	return ids
}

func corruptIsAbsent(m *mem) kv.Store {
	o := &override{mem: m}
	o.missing = func(ctx context.Context, ids []string) ([]string, error) {
		missing, err := m.Missing(ctx, ids)
		return append(missing, corrupt(m)...), err
	}
	o.keys = func(ctx context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			bad := corrupt(m)
			for id, err := range m.Keys(ctx) {
				if !slices.Contains(bad, id) && !yield(id, err) {
					return
				}
			}
		}
	}
	o.insert = func(ctx context.Context, items map[string]json.RawMessage) (int, error) {
		bad := corrupt(m)
		if len(bad) > 0 {
			_, _ = m.Delete(ctx, bad...)
		}
		return m.Insert(ctx, items)
	}
	o.ttlOf = func(ctx context.Context, id string) (time.Duration, error) {
		if slices.Contains(corrupt(m), id) {
			return 0, m.fail("ttl", m.ns, id, kv.ErrNotFound)
		}
		return m.TTL(ctx, id)
	}
	return o
}

func corruptStays(m *mem) kv.Store {
	o := &override{mem: m}
	o.upsert = func(ctx context.Context, items map[string]json.RawMessage) error {
		for _, id := range corrupt(m) {
			if items[id] != nil {
				return m.fail("upsert", m.ns, id, kv.ErrCorrupt)
			}
		}
		return m.Upsert(ctx, items)
	}
	o.remove = func(ctx context.Context, ids ...string) (int, error) {
		bad := corrupt(m)
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(bad, id) })
		return m.Delete(ctx, ids...)
	}
	o.drop = func(ctx context.Context) error {
		if bad := corrupt(m); len(bad) > 0 {
			return m.fail("drop", m.ns, "", kv.ErrCorrupt)
		}
		return m.Drop(ctx)
	}
	return o
}

func brokenAway() []broken {
	return []broken{
		{name: "a backend that is away is an error of its own", wrap: failing(func(err error) error {
			if errors.Is(err, kv.ErrUnavailable) {
				return errors.New("connection refused")
			}
			return err
		})},
		{name: "a backend that was away stays away", wrap: staysAway},
		{name: "a backend that is away is not noticed", wrap: func(m *mem) kv.Store {
			o := &override{mem: m}
			o.get = func(ctx context.Context, id string) (json.RawMessage, error) {
				v, err := m.Get(ctx, id)
				if errors.Is(err, kv.ErrUnavailable) {
					return json.RawMessage(`1`), nil
				}
				return v, err
			}
			o.upsert = func(ctx context.Context, items map[string]json.RawMessage) error {
				if err := m.Upsert(ctx, items); !errors.Is(err, kv.ErrUnavailable) {
					return err
				}
				return nil
			}
			return o
		}},
	}
}

func staysAway(m *mem) kv.Store {
	gone := false
	good := m.fail
	m.fail = func(op, ns, id string, err error) error {
		gone = gone || errors.Is(err, kv.ErrUnavailable)
		return good(op, ns, id, err)
	}
	admit := m.admit
	m.admit = func(ctx context.Context) error {
		if err := admit(ctx); err != nil || !gone {
			return err
		}
		return kv.ErrUnavailable
	}
	return m
}

func brokenStats() []broken {
	return []broken{
		{name: "Stats count nothing", wrap: func(m *mem) kv.Store {
			return &override{mem: m, statsOf: func(ctx context.Context) (kv.Stats, error) {
				_, err := m.Stats(ctx)
				return kv.Stats{}, err
			}}
		}},
		{name: "Stats count ErrNotFound as a failure", wrap: func(m *mem) kv.Store {
			return &override{mem: m, statsOf: func(ctx context.Context) (kv.Stats, error) {
				st, err := m.Stats(ctx)
				st.Errors += st.Gets - st.Hits
				return st, err
			}}
		}},
		{name: "Ping fails", wrap: func(m *mem) kv.Store {
			return &override{mem: m, ping: func(ctx context.Context) error {
				if err := m.Ping(ctx); err != nil {
					return err
				}
				return m.fail("ping", m.ns, "", errors.New("pong"))
			}}
		}},
	}
}
