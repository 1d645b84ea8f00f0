package kvtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/ngraf/kv"
)

// pause lets other goroutines in between two steps that should be one.
func pause() { time.Sleep(time.Millisecond) }

// lifeOf changes the time to live on its way into the store.
func lifeOf(change func(ttl time.Duration) time.Duration) func(m *mem) kv.Store {
	return func(m *mem) kv.Store {
		return &override{mem: m, upsertTTL: func(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
			return m.UpsertTTL(ctx, items, change(ttl))
		}}
	}
}

// ttlIs changes what TTL returns.
func ttlIs(change func(m *mem, ttl time.Duration, err error) (time.Duration, error)) func(m *mem) kv.Store {
	return func(m *mem) kv.Store {
		return &override{mem: m, ttlOf: func(ctx context.Context, id string) (time.Duration, error) {
			ttl, err := m.TTL(ctx, id)
			return change(m, ttl, err)
		}}
	}
}

func brokenLives() []broken {
	return []broken{
		{name: "time to live is lost", wrap: lifeOf(func(ttl time.Duration) time.Duration { return min(ttl, 0) })},
		{name: "time to live of 0 is a default", wrap: lifeOf(func(ttl time.Duration) time.Duration {
			if ttl == 0 {
				return time.Hour
			}
			return ttl
		})},
		{name: "time to live may be negative", wrap: lifeOf(func(ttl time.Duration) time.Duration { return max(ttl, 0) })},
		{name: "time to live in seconds, rounded down", wrap: lifeOf(func(ttl time.Duration) time.Duration { return ttl.Truncate(time.Second) })},
		{name: "time to live in seconds, rounded up", wrap: lifeOf(func(ttl time.Duration) time.Duration {
			if ttl > 0 && ttl < 1<<62 {
				return (ttl + time.Second - 1).Truncate(time.Second)
			}
			return ttl
		})},
		{name: "time to live overflows", wrap: lifeOf(func(ttl time.Duration) time.Duration {
			if ttl > 1<<62 {
				return 1
			}
			return ttl
		})},
		{name: "namespace's time to live is ignored", wrap: func(m *mem) kv.Store { m.ttl = 0; return m }},
		{name: "namespace's time to live is everybody's", wrap: func(m *mem) kv.Store {
			m.ttl = max(m.ttl, time.Hour)
			return m
		}},
		{name: "Upsert keeps the old time to live", wrap: keepsLife},
		{name: "UpsertTTL keeps the old value", wrap: keepsValue},
		{name: "UpsertTTL keeps the longer life", wrap: keepsLonger},
		{name: "TTL of an absent id is 0", wrap: ttlIs(func(_ *mem, ttl time.Duration, err error) (time.Duration, error) {
			if errors.Is(err, kv.ErrNotFound) {
				err = nil
			}
			return ttl, err
		})},
		{name: "TTL of a document that lives for ever is -1", wrap: ttlIs(func(_ *mem, ttl time.Duration, err error) (time.Duration, error) {
			if ttl == 0 {
				ttl = -1
			}
			return ttl, err
		})},
		{name: "TTL rounds down to 0", wrap: ttlIs(func(_ *mem, ttl time.Duration, err error) (time.Duration, error) {
			if ttl <= time.Millisecond {
				ttl = 0
			}
			return ttl, err
		})},
		{name: "TTL is that of the beginning", wrap: ttlOfTheBeginning},
		{name: "expiry ends with Close", wrap: forgetsLives},
		{name: "reading prolongs", wrap: prolongs},
		{name: "expired documents are there for GetMany", wrap: undeadMany},
		{name: "expired documents are there for Missing and Keys", wrap: undeadKeys},
		{name: "expired documents are there for Delete and Insert", wrap: undeadWrites},
		{name: "expired documents come back with Open", wrap: rises},
	}
}

func keepsLife(m *mem) kv.Store {
	return &override{mem: m, upsert: func(ctx context.Context, items map[string]json.RawMessage) error {
		before := map[string]time.Time{}
		_ = m.do(ctx, "upsert", nil, func(docs map[string]doc) (string, error) {
			for id := range items {
				if d, ok := docs[id]; ok {
					before[id] = d.expires
				}
			}
			return "", nil
		})
		err := m.Upsert(ctx, items)
		if err == nil {
			_ = m.do(ctx, "upsert", nil, func(docs map[string]doc) (string, error) {
				for id, end := range before {
					docs[id] = doc{raw: docs[id].raw, expires: end}
				}
				return "", nil
			})
		}
		return err
	}}
}

func keepsValue(m *mem) kv.Store {
	return &override{mem: m, upsertTTL: func(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
		changed := maps.Clone(items)
		for id := range items {
			if v, err := m.Get(ctx, id); err == nil && json.Valid(items[id]) {
				changed[id] = v
			}
		}
		return m.UpsertTTL(ctx, changed, ttl)
	}}
}

func keepsLonger(m *mem) kv.Store {
	return &override{mem: m, upsertTTL: func(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
		for id := range items {
			if old, err := m.TTL(ctx, id); err == nil && ttl > 0 {
				ttl = max(ttl, old)
			}
		}
		return m.UpsertTTL(ctx, items, ttl)
	}}
}

func ttlOfTheBeginning(m *mem) kv.Store {
	given := map[string]time.Duration{}
	o := &override{mem: m}
	o.upsertTTL = func(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
		for id := range items {
			given[id] = ttl
		}
		return m.UpsertTTL(ctx, items, ttl)
	}
	o.ttlOf = func(ctx context.Context, id string) (time.Duration, error) {
		ttl, err := m.TTL(ctx, id)
		if err == nil && ttl > 0 {
			ttl = max(ttl, given[id])
		}
		return ttl, err
	}
	return o
}

func forgetsLives(m *mem) kv.Store {
	return &override{mem: m, close: func() error {
		if m.area.spaces[m.ns] != nil {
			for id, d := range m.area.space(m.ns) {
				m.area.spaces[m.ns][id] = doc{raw: d.raw}
			}
		}
		return m.Close()
	}}
}

// prolongs gives documents another minute when they are read.
func prolongs(m *mem) kv.Store {
	return &override{mem: m, getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
		vs, err := m.GetMany(ctx, ids, fields...)
		_ = m.do(ctx, "getmany", ids, func(docs map[string]doc) (string, error) {
			for _, id := range ids {
				if d, ok := docs[id]; ok && !d.expires.IsZero() {
					docs[id] = doc{raw: d.raw, expires: m.area.end(time.Minute)}
				}
			}
			return "", nil
		})
		return vs, err
	}}
}

// remembers keeps the documents of UpsertTTL where they do not expire.
func remembers(m *mem) (*override, map[string]json.RawMessage) {
	undead := map[string]json.RawMessage{}
	return &override{mem: m, upsertTTL: func(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
		err := m.UpsertTTL(ctx, items, ttl)
		if err == nil && ttl > time.Millisecond {
			maps.Copy(undead, items)
		}
		return err
	}}, undead
}

func undeadMany(m *mem) kv.Store {
	o, undead := remembers(m)
	o.getMany = func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
		vs, err := m.GetMany(ctx, ids, fields...)
		for i := range vs {
			if vs[i] == nil && undead[ids[i]] != nil {
				vs[i] = undead[ids[i]]
			}
		}
		return vs, err
	}
	o.ttlOf = func(ctx context.Context, id string) (time.Duration, error) {
		ttl, err := m.TTL(ctx, id)
		if errors.Is(err, kv.ErrNotFound) && undead[id] != nil {
			return -1, nil
		}
		return ttl, err
	}
	return o
}

func undeadKeys(m *mem) kv.Store {
	o, undead := remembers(m)
	o.missing = func(ctx context.Context, ids []string) ([]string, error) {
		missing, err := m.Missing(ctx, ids)
		return slices.DeleteFunc(missing, func(id string) bool { return undead[id] != nil }), err
	}
	o.keys = func(ctx context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			m.Keys(ctx)(yield)
			for id := range undead {
				if _, err := m.Get(ctx, id); errors.Is(err, kv.ErrNotFound) && !yield(id, nil) {
					return
				}
			}
		}
	}
	return o
}

func undeadWrites(m *mem) kv.Store {
	o, undead := remembers(m)
	o.remove = func(ctx context.Context, ids ...string) (int, error) {
		n, err := m.Delete(ctx, ids...)
		if err == nil && n < len(ids) && undead[ids[0]] != nil {
			n++
		}
		return n, err
	}
	o.insert = func(ctx context.Context, items map[string]json.RawMessage) (int, error) {
		items = maps.Clone(items)
		maps.DeleteFunc(items, func(id string, _ json.RawMessage) bool { return undead[id] != nil })
		return m.Insert(ctx, items)
	}
	o.upsert = func(ctx context.Context, items map[string]json.RawMessage) error {
		var left time.Duration
		for id := range items {
			if _, err := m.Get(ctx, id); undead[id] != nil && errors.Is(err, kv.ErrNotFound) {
				left = time.Hour
			}
		}
		if left > 0 {
			return m.UpsertTTL(ctx, items, left)
		}
		return m.Upsert(ctx, items)
	}
	return o
}

// rises brings expired documents back when a namespace is opened again.
func rises(m *mem) kv.Store {
	o, undead := remembers(m)
	o.close = func() error {
		m.area.mu.Lock()
		for id, v := range undead {
			if _, ok := m.area.space(m.ns)[id]; !ok {
				m.area.space(m.ns)[id] = doc{raw: v}
			}
		}
		m.area.mu.Unlock()
		return m.Close()
	}
	return o
}
