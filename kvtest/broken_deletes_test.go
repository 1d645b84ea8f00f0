package kvtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/ngraf/kv"
)

func brokenDeletes() []broken {
	removing := func(remove func(m *mem, ctx context.Context, ids []string) (int, error)) func(m *mem) kv.Store {
		return func(m *mem) kv.Store {
			return &override{mem: m, remove: func(ctx context.Context, ids ...string) (int, error) { return remove(m, ctx, ids) }}
		}
	}
	return []broken{
		{name: "Delete counts what it was given", large: "Concurrency/", wrap: removing(func(m *mem, ctx context.Context, ids []string) (int, error) {
			_, err := m.Delete(ctx, ids...)
			return len(ids), err
		})},
		{name: "Delete counts repeats", wrap: removing(func(m *mem, ctx context.Context, ids []string) (n int, err error) {
			vs, err := m.GetMany(ctx, ids)
			for _, v := range vs {
				if v != nil {
					n++
				}
			}
			if m, err2 := m.Delete(ctx, ids...); len(ids) < 3 || err2 != nil || errors.Is(err, kv.ErrCorrupt) {
				return m, err2
			}
			return n, err
		})},
		{name: "Delete of an absent id fails", wrap: removing(func(m *mem, ctx context.Context, ids []string) (int, error) {
			n, err := m.Delete(ctx, ids...)
			if err == nil && n == 0 && len(ids) > 0 {
				err = m.fail("delete", m.ns, ids[0], kv.ErrNotFound)
			}
			return n, err
		})},
		{name: "Delete ends after 1,000", large: "Delete/", wrap: removing(func(m *mem, ctx context.Context, ids []string) (int, error) {
			return m.Delete(ctx, ids[:min(len(ids), 1000)]...)
		})},
		{name: "Delete deletes in all namespaces", wrap: removing(func(m *mem, ctx context.Context, ids []string) (int, error) {
			n, err := m.Delete(ctx, ids...)
			m.area.mu.Lock()
			defer m.area.mu.Unlock()
			for _, docs := range m.area.spaces {
				for _, id := range ids {
					if err == nil {
						delete(docs, id)
					}
				}
			}
			return n, err
		})},
		{name: "Delete only hides", wrap: hides},
		{name: "Delete is for ever", wrap: deletesForEver},
		{name: "Delete counts for each caller", large: "Concurrency/", wrap: removing(func(m *mem, ctx context.Context, ids []string) (int, error) {
			missing, err := m.Missing(ctx, ids)
			if err == nil && len(ids) == 1 && len(missing) == 0 {
				pause()
			}
			n, err := m.Delete(ctx, ids...)
			if err == nil && len(ids) == 1 {
				n = 1 - len(missing)
			}
			return n, err
		})},
	}
}

func brokenDrops() []broken {
	dropping := func(drop func(m *mem, ctx context.Context) error) func(m *mem) kv.Store {
		return func(m *mem) kv.Store {
			return &override{mem: m, drop: func(ctx context.Context) error { return drop(m, ctx) }}
		}
	}
	return []broken{
		{name: "Drop drops by prefix", wrap: dropping(func(m *mem, ctx context.Context) error {
			err := m.Drop(ctx)
			m.area.mu.Lock()
			defer m.area.mu.Unlock()
			for ns, docs := range m.area.spaces {
				if err == nil && strings.HasPrefix(ns, m.ns) {
					clear(docs)
				}
			}
			return err
		})},
		{name: "Drop leaves odd ids", wrap: dropping(func(m *mem, ctx context.Context) error {
			return m.do(ctx, "drop", nil, func(docs map[string]doc) (string, error) {
				maps.DeleteFunc(docs, func(id string, _ doc) bool { return !strings.ContainsAny(id, "[*") })
				return "", nil
			})
		})},
		{name: "Drop leaves what is beyond 1,000", large: "Drop/", wrap: dropping(func(m *mem, ctx context.Context) error {
			n := 0
			return m.do(ctx, "drop", nil, func(docs map[string]doc) (string, error) {
				maps.DeleteFunc(docs, func(string, doc) bool { n++; return n <= 1000 })
				return "", nil
			})
		})},
		{name: "Drop does nothing", wrap: dropping(func(m *mem, ctx context.Context) error { return m.do(ctx, "drop", nil, nothing) })},
		{name: "Drop closes", wrap: dropping(func(m *mem, ctx context.Context) error {
			if err := m.Drop(ctx); err != nil {
				return err
			}
			return m.Close()
		})},
		{name: "namespaces are one", wrap: func(m *mem) kv.Store {
			if m.ns != "documents" && m.ns != "other" && !strings.Contains(m.ns, "c") {
				m.ns = "one"
			}
			return m
		}},
	}
}

// hides deletes for Get alone.
func hides(m *mem) kv.Store {
	hidden := map[string]bool{}
	o := &override{mem: m}
	o.remove = func(ctx context.Context, ids ...string) (n int, err error) {
		missing, err := m.Missing(ctx, ids)
		if err != nil {
			return m.Delete(ctx, ids...)
		}
		for _, id := range ids {
			if !slices.Contains(missing, id) && !hidden[id] {
				hidden[id] = true
				n++
			}
		}
		return n, nil
	}
	o.get = func(ctx context.Context, id string) (json.RawMessage, error) {
		if v, err := m.Get(ctx, id); err != nil || !hidden[id] {
			return v, err
		}
		return nil, m.fail("get", m.ns, id, kv.ErrNotFound)
	}
	return o
}

// deletesForEver takes every write of a deleted id for an old one.
func deletesForEver(m *mem) kv.Store {
	gone := map[string]bool{}
	o := &override{mem: m}
	o.remove = func(ctx context.Context, ids ...string) (int, error) {
		n, err := m.Delete(ctx, ids...)
		for _, id := range ids {
			gone[id] = err == nil
		}
		return n, err
	}
	live := func(items map[string]json.RawMessage) map[string]json.RawMessage {
		items = maps.Clone(items)
		maps.DeleteFunc(items, func(id string, _ json.RawMessage) bool { return gone[id] })
		return items
	}
	o.upsert = func(ctx context.Context, items map[string]json.RawMessage) error { return m.Upsert(ctx, live(items)) }
	o.insert = func(ctx context.Context, items map[string]json.RawMessage) (int, error) {
		return m.Insert(ctx, live(items))
	}
	return o
}
