package kvtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ngraf/kv"
)

func brokenCloses() []broken {
	closing := func(close func(m *mem) error) func(m *mem) kv.Store {
		return func(m *mem) kv.Store {
			return &override{mem: m, close: func() error { return close(m) }}
		}
	}
	return []broken{
		{name: "Flush fails without a write", wrap: func(m *mem) kv.Store {
			return &override{mem: m, flush: func(ctx context.Context) error {
				if m.stats.Upserts == 0 {
					return m.fail("flush", m.ns, "", errors.New("nothing to do"))
				}
				return m.Flush(ctx)
			}}
		}},
		{name: "Flush brings back what was deleted", wrap: flushRestores},
		{name: "Close twice is an error", large: "Close/", wrap: closing(func(m *mem) error {
			if m.isClosed() {
				return kv.ErrClosed
			}
			return m.Close()
		})},
		{name: "Close closes nothing", large: "Concurrency/", wrap: closing(func(*mem) error { return nil })},
		{name: "Close closes all namespaces", large: "Persistence/", wrap: func(m *mem) kv.Store {
			return &override{mem: m, close: func() error { _ = m.area.setAway(true); return m.Close() }}
		}},
		{name: "Close makes calls fail as unavailable", large: "Concurrency/", wrap: failing(func(err error) error {
			if errors.Is(err, kv.ErrClosed) {
				return kv.ErrUnavailable
			}
			return err
		})},
		{name: "Close loses all documents", large: "Persistence/", wrap: closing(func(m *mem) error {
			m.area.mu.Lock()
			delete(m.area.spaces, m.ns)
			m.area.mu.Unlock()
			return m.Close()
		})},
		{name: "Close loses changes of what was flushed", wrap: losesChanges},
		{name: "Close writes a refused batch", wrap: writesRefused},
	}
}

func (m *mem) isClosed() bool {
	m.area.mu.Lock()
	defer m.area.mu.Unlock()
	return m.closed
}

// failing changes the cause of every error.
func failing(change func(err error) error) func(m *mem) kv.Store {
	return func(m *mem) kv.Store {
		good := m.fail
		m.fail = func(op, ns, id string, err error) error { return good(op, ns, id, change(err)) }
		return m
	}
}

func flushRestores(m *mem) kv.Store {
	deleted := map[string]doc{}
	o := &override{mem: m}
	o.remove = func(ctx context.Context, ids ...string) (int, error) {
		_ = m.do(ctx, "delete", nil, func(docs map[string]doc) (string, error) {
			for _, id := range ids {
				if d, ok := docs[id]; ok {
					deleted[id] = d
				}
			}
			return "", nil
		})
		return m.Delete(ctx, ids...)
	}
	o.flush = func(ctx context.Context) error {
		return m.do(ctx, "flush", nil, func(docs map[string]doc) (string, error) {
			maps.Copy(docs, deleted)
			return "", nil
		})
	}
	return o
}

// losesChanges goes back to what was flushed if anything was.
func losesChanges(m *mem) kv.Store {
	var flushed map[string]doc
	o := &override{mem: m}
	o.flush = func(ctx context.Context) error {
		return m.do(ctx, "flush", nil, func(docs map[string]doc) (string, error) {
			flushed = maps.Clone(docs)
			return "", nil
		})
	}
	o.close = func() error {
		m.area.mu.Lock()
		if flushed != nil {
			m.area.spaces[m.ns] = flushed
		}
		m.area.mu.Unlock()
		return m.Close()
	}
	return o
}

func writesRefused(m *mem) kv.Store {
	refused := map[string]doc{}
	o := &override{mem: m}
	o.upsert = func(ctx context.Context, items map[string]json.RawMessage) error {
		err := m.Upsert(ctx, items)
		if errors.Is(err, kv.ErrInvalid) {
			for id, v := range items {
				refused[id] = doc{raw: v}
			}
		}
		return err
	}
	o.close = func() error {
		m.area.mu.Lock()
		maps.Copy(m.area.space(m.ns), refused)
		m.area.mu.Unlock()
		return m.Close()
	}
	return o
}

func brokenRules() []broken {
	admitting := func(admit func(ctx context.Context) error) func(m *mem) kv.Store {
		return func(m *mem) kv.Store { m.admit = admit; return m }
	}
	return []broken{
		{name: "contexts are ignored", large: "Keys/", wrap: admitting(func(context.Context) error { return nil })},
		{name: "contexts end calls as unavailable", wrap: failing(func(err error) error {
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%w: %w", kv.ErrUnavailable, err)
			}
			return err
		})},
		{name: "contexts end calls with an error of their own", large: "Keys/", wrap: failing(func(err error) error {
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				return errors.New("interrupted")
			}
			return err
		})},
		{name: "any deadline has passed", wrap: admitting(func(ctx context.Context) error {
			if _, ok := ctx.Deadline(); ok {
				return context.DeadlineExceeded
			}
			return ctx.Err()
		})},
		{name: "empty input is invalid", wrap: emptyIsInvalid},
		{name: "empty input is everything", wrap: emptyIsAll},
		{name: "ids that were passed are sorted", wrap: func(m *mem) kv.Store {
			return &override{mem: m, remove: func(ctx context.Context, ids ...string) (int, error) {
				slices.Sort(ids)
				return m.Delete(ctx, ids...)
			}}
		}},
	}
}

func emptyIsInvalid(m *mem) kv.Store {
	check := func(op string, n int) error {
		if n == 0 {
			return m.fail(op, m.ns, "", kv.ErrInvalid)
		}
		return nil
	}
	o := &override{mem: m}
	o.getMany = func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
		if err := check("getmany", len(ids)); err != nil {
			return nil, err
		}
		return m.GetMany(ctx, ids, fields...)
	}
	o.missing = func(ctx context.Context, ids []string) ([]string, error) {
		if err := check("missing", len(ids)); err != nil {
			return nil, err
		}
		return m.Missing(ctx, ids)
	}
	o.upsert = func(ctx context.Context, items map[string]json.RawMessage) error {
		return errors.Join(check("upsert", len(items)), m.Upsert(ctx, items))
	}
	o.insert = func(ctx context.Context, items map[string]json.RawMessage) (int, error) {
		if err := check("insert", len(items)); err != nil {
			return 0, err
		}
		return m.Insert(ctx, items)
	}
	o.upsertTTL = func(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
		return errors.Join(check("upsertttl", len(items)), m.UpsertTTL(ctx, items, ttl))
	}
	return o
}

// emptyIsAll takes no ids for all ids.
func emptyIsAll(m *mem) kv.Store {
	return &override{mem: m, remove: func(ctx context.Context, ids ...string) (int, error) {
		if len(ids) == 0 {
			return 0, m.Drop(ctx)
		}
		return m.Delete(ctx, ids...)
	}}
}

func brokenErrors() []broken {
	fail := func(f func(op, ns, id string, err error) error) func(m *mem) kv.Store {
		return func(m *mem) kv.Store { m.fail = f; return m }
	}
	return []broken{
		{name: "errors are bare", wrap: fail(func(_, _, _ string, err error) error { return err })},
		{name: "errors have another Op", wrap: fail(func(op, ns, id string, err error) error {
			return &kv.Error{Op: strings.ToUpper(op), Namespace: ns, ID: id, Err: err}
		})},
		{name: "errors name no id", wrap: fail(func(op, ns, _ string, err error) error {
			return &kv.Error{Op: op, Namespace: ns, Err: err}
		})},
		{name: "errors say the id", wrap: saysIDs},
		{name: "errors say the value", wrap: func(m *mem) kv.Store {
			good := m.accept
			m.accept = func(raw []byte) error {
				if err := good(raw); err != nil {
					return fmt.Errorf("%w: %s", err, raw)
				}
				return nil
			}
			return m
		}},
	}
}

func saysIDs(m *mem) kv.Store {
	m.fail = func(op, ns, id string, err error) error {
		return &kv.Error{Op: op, Namespace: ns, ID: id, Err: fmt.Errorf("%w: %s", err, id)}
	}
	return m
}
