package kvtest

import (
	"context"
	"encoding/json"

	"github.com/ngraf/kv"
)

// A method is a call of any method of the contract that takes a context, for
// the rules that hold for every one of them.
type method struct {
	name string
	ids  bool // it takes ids
	// call calls the method, with ids if it takes them.
	call func(ctx context.Context, s kv.Store, ids ...string) error
	// need skips the case if the method belongs to an optional interface that
	// the store lacks.
	need func(e *env, s kv.Store)
}

// skip skips the case if the store lacks the method.
func (m method) skip(e *env, s kv.Store) {
	if m.need != nil {
		m.need(e, s)
	}
}

func methods() []method {
	return append(coreMethods(), optionalMethods()...)
}

func coreMethods() []method {
	return []method{
		{name: "Get", ids: true, call: func(ctx context.Context, s kv.Store, ids ...string) error {
			for _, id := range ids {
				if _, err := s.Get(ctx, id); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "GetMany", ids: true, call: func(ctx context.Context, s kv.Store, ids ...string) error {
			_, err := s.GetMany(ctx, ids)
			return err
		}},
		{name: "Missing", ids: true, call: func(ctx context.Context, s kv.Store, ids ...string) error {
			_, err := s.Missing(ctx, ids)
			return err
		}},
		{name: "Keys", call: func(ctx context.Context, s kv.Store, _ ...string) error {
			var last error
			for _, err := range s.Keys(ctx) {
				last = err
			}
			return last
		}},
		{name: "Upsert", ids: true, call: func(ctx context.Context, s kv.Store, ids ...string) error {
			return s.Upsert(ctx, named(ids))
		}},
		{name: "Delete", ids: true, call: func(ctx context.Context, s kv.Store, ids ...string) error {
			_, err := s.Delete(ctx, ids...)
			return err
		}},
		{name: "Drop", call: func(ctx context.Context, s kv.Store, _ ...string) error { return s.Drop(ctx) }},
		{name: "Flush", call: func(ctx context.Context, s kv.Store, _ ...string) error { return s.Flush(ctx) }},
	}
}

func optionalMethods() []method {
	return []method{
		{name: "Ping", need: needs[kv.Pinger], call: func(ctx context.Context, s kv.Store, _ ...string) error {
			p, _ := kv.As[kv.Pinger](s)
			return p.Ping(ctx)
		}},
		{name: "Insert", ids: true, need: needs[kv.Inserter], call: func(ctx context.Context, s kv.Store, ids ...string) error {
			i, _ := kv.As[kv.Inserter](s)
			_, err := i.Insert(ctx, named(ids))
			return err
		}},
		{name: "TTL", ids: true, need: needs[kv.Expirer], call: func(ctx context.Context, s kv.Store, ids ...string) error {
			x, _ := kv.As[kv.Expirer](s)
			for _, id := range ids {
				if _, err := x.TTL(ctx, id); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "UpsertTTL", ids: true, need: needs[kv.Expirer], call: func(ctx context.Context, s kv.Store, ids ...string) error {
			x, _ := kv.As[kv.Expirer](s)
			return x.UpsertTTL(ctx, named(ids), hour)
		}},
		{name: "Stats", need: needs[kv.Statser], call: func(ctx context.Context, s kv.Store, _ ...string) error {
			st, _ := kv.As[kv.Statser](s)
			_, err := st.Stats(ctx)
			return err
		}},
	}
}

func needs[T any](e *env, s kv.Store) {
	e.Helper()
	as[T](e, s)
}

// named makes items of ids, all with one value.
func named(ids []string) map[string]json.RawMessage {
	m := make(map[string]json.RawMessage, len(ids))
	for _, id := range ids {
		m[id] = json.RawMessage(`"written"`)
	}
	return m
}
