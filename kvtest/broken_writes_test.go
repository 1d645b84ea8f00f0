package kvtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ngraf/kv"
)

func brokenValues() []broken {
	return []broken{
		{name: "values are not checked", large: "Limits/", wrap: accepting(func([]byte) bool { return true })},
		{name: "values are checked by encoding json", wrap: accepting(func(raw []byte) bool { return len(raw) <= maxValue && json.Valid(raw) })},
		{name: "values may be as Python's", wrap: accepting(func(raw []byte) bool {
			return json.Valid([]byte(strings.NewReplacer("-Infinity", "0", "Infinity", "0", "NaN", "0").Replace(string(raw))))
		})},
		{name: "values have no limit", large: "Limits/", wrap: accepting(func(raw []byte) bool { return json.Valid(raw) && utf8.Valid(raw) && depth(raw) <= 512 })},
		{name: "values end before the limit", large: "Limits/", wrap: refusing(func(raw []byte) bool { return len(raw) >= maxValue-1 })},
		{name: "values over 8 MiB are cut", large: "Upsert/", max: 64 << 20, wrap: keeping(func(raw []byte) []byte {
			return bytes.Clone(raw[:min(len(raw), 8<<20)])
		})},
		{name: "values may be 500 deep", wrap: refusing(func(raw []byte) bool { return depth(raw) > 500 })},
		{name: "values are refused by brackets", wrap: refusing(func(raw []byte) bool {
			return bytes.Count(raw, []byte("["))+bytes.Count(raw, []byte("{")) > 512
		})},
		{name: "values go through any", wrap: keeping(func(raw []byte) []byte {
			var v any
			if json.Unmarshal(raw, &v) != nil {
				return bytes.Clone(raw)
			}
			out, _ := json.Marshal(v)
			return out
		})},
		{name: "values are HTML", wrap: keeping(func(raw []byte) []byte {
			var out bytes.Buffer
			json.HTMLEscape(&out, raw)
			return out.Bytes()
		})},
		{name: "values are ASCII", wrap: keeping(func(raw []byte) []byte {
			return []byte(strings.Map(func(r rune) rune {
				if r > unicode.MaxASCII || r == 0x7f {
					return '?'
				}
				return r
			}, string(raw)))
		})},
		{name: "values lose all spaces", wrap: keeping(func(raw []byte) []byte { return bytes.ReplaceAll(raw, []byte(" "), nil) })},
		{name: "values have objects for empty arrays", wrap: keeping(func(raw []byte) []byte {
			return bytes.ReplaceAll(raw, []byte("[]"), []byte("{}"))
		})},
		{name: "values are spaced in strings", wrap: keeping(func(raw []byte) []byte { return bytes.ReplaceAll(raw, []byte(","), []byte(", ")) })},
	}
}

func brokenWrites() []broken {
	return []broken{
		{name: "keeps given memory", wrap: func(m *mem) kv.Store { m.keep = same; return m }},
		{name: "writes before checking", wrap: writesFirst},
		{name: "Upsert merges objects", wrap: upserting(mergesObjects)},
		{name: "Upsert does not replace", wrap: upserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) error {
			_, err := m.Insert(ctx, items)
			return err
		})},
		{name: "Upsert replaces the namespace", wrap: upserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) error {
			err := m.Upsert(ctx, items)
			if err == nil && len(items) > 0 {
				keep := slices.Collect(maps.Keys(items))
				_ = m.do(ctx, "upsert", keep, func(docs map[string]doc) (string, error) {
					maps.DeleteFunc(docs, func(id string, _ doc) bool { return !slices.Contains(keep, id) })
					return "", nil
				})
			}
			return err
		})},
		{name: "Upsert stores one item", wrap: upserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) error {
			if len(items) == 2 || len(items) == 3 {
				items = maps.Clone(items)
				delete(items, slices.Max(slices.Collect(maps.Keys(items))))
			}
			return m.Upsert(ctx, items)
		})},
		{name: "Upsert stores 1,000 items", large: "GetMany/; Missing/; Keys/; Upsert/; Delete/; Persistence/", wrap: upserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) error {
			if len(items) > 3000 {
				items = maps.Clone(items)
				for _, id := range slices.Sorted(maps.Keys(items))[1000:] {
					delete(items, id)
				}
			}
			return m.Upsert(ctx, items)
		})},
		{name: "Upsert of null deletes", wrap: upserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) error {
			err := m.Upsert(ctx, items)
			for id, v := range items {
				if err == nil && string(v) == `null` {
					_, err = m.Delete(ctx, id)
				}
			}
			return err
		})},
		{name: "Upsert fails when repeated", wrap: upserting(func(m *mem, ctx context.Context, items map[string]json.RawMessage) error {
			for id, v := range items {
				if old, err := m.Get(ctx, id); err == nil && bytes.Equal(old, v) {
					return m.fail("upsert", m.ns, "", errors.New("exists"))
				}
			}
			return m.Upsert(ctx, items)
		})},
		{name: "keeps the map", wrap: keepsMap},
		{name: "loses updates", large: "Concurrency/", wrap: losesUpdates},
	}
}

// writesFirst stores in order of ids until one is bad.
func writesFirst(m *mem) kv.Store {
	one := func(write func(item map[string]json.RawMessage) error, items map[string]json.RawMessage) error {
		if len(items) == 0 {
			return write(items)
		}
		for _, id := range slices.Sorted(maps.Keys(items)) {
			if err := write(map[string]json.RawMessage{id: items[id]}); err != nil {
				return err
			}
		}
		return nil
	}
	o := &override{mem: m}
	o.upsert = func(ctx context.Context, items map[string]json.RawMessage) error {
		return one(func(item map[string]json.RawMessage) error { return m.Upsert(ctx, item) }, items)
	}
	o.upsertTTL = func(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
		return one(func(item map[string]json.RawMessage) error { return m.UpsertTTL(ctx, item, ttl) }, items)
	}
	o.insert = func(ctx context.Context, items map[string]json.RawMessage) (n int, err error) {
		err = one(func(item map[string]json.RawMessage) error {
			added, err := m.Insert(ctx, item)
			n += added
			return err
		}, items)
		return n, err
	}
	return o
}

func mergesObjects(m *mem, ctx context.Context, items map[string]json.RawMessage) error {
	merged := maps.Clone(items)
	for id, v := range items {
		old, err := m.Get(ctx, id)
		if err != nil || !isObject(old) || !json.Valid(v) || !isObject(v) || len(old) < 3 || len(v) < 3 {
			continue
		}
		merged[id] = json.RawMessage(strings.TrimSuffix(string(old), "}") + "," + strings.TrimPrefix(string(v), "{"))
	}
	return m.Upsert(ctx, merged)
}

// keepsMap reads what is not written yet from the maps that it was given.
func keepsMap(m *mem) kv.Store {
	var given []map[string]json.RawMessage
	o := &override{mem: m}
	o.upsert = func(ctx context.Context, items map[string]json.RawMessage) error {
		given = append(given, items)
		return m.Upsert(ctx, items)
	}
	o.flush = func(ctx context.Context) error {
		for _, items := range given {
			if err := m.Upsert(ctx, items); err != nil {
				return err
			}
		}
		return m.Flush(ctx)
	}
	return o
}

// losesUpdates writes, with a single item, a whole namespace that it read some
// time before.
func losesUpdates(m *mem) kv.Store {
	return &override{mem: m, upsert: func(ctx context.Context, items map[string]json.RawMessage) error {
		if len(items) != 1 {
			return m.Upsert(ctx, items)
		}
		var before map[string]doc
		if err := m.do(ctx, "upsert", nil, func(docs map[string]doc) (string, error) {
			before = maps.Clone(docs)
			return "", nil
		}); err != nil {
			return err
		}
		if len(before) > 0 {
			pause()
		}
		return m.do(ctx, "upsert", slices.Collect(maps.Keys(items)), func(docs map[string]doc) (string, error) {
			for id, v := range items {
				if err := m.accept(v); err != nil {
					return id, err
				}
			}
			for id, v := range items {
				before[id] = doc{raw: m.keep(v), expires: m.area.end(m.ttl)}
				m.stats.Upserts++
			}
			clear(docs)
			maps.Copy(docs, before)
			return "", nil
		})
	}}
}

func accepting(ok func(raw []byte) bool) func(m *mem) kv.Store {
	return func(m *mem) kv.Store {
		good := m.accept
		m.accept = func(raw []byte) error {
			if ok(raw) {
				return nil
			}
			return good(raw)
		}
		return m
	}
}

func refusing(bad func(raw []byte) bool) func(m *mem) kv.Store {
	return func(m *mem) kv.Store {
		good := m.accept
		m.accept = func(raw []byte) error {
			if bad(raw) {
				return kv.ErrInvalid
			}
			return good(raw)
		}
		return m
	}
}

func keeping(change func(raw []byte) []byte) func(m *mem) kv.Store {
	return func(m *mem) kv.Store { m.keep = change; return m }
}

func upserting(upsert func(m *mem, ctx context.Context, items map[string]json.RawMessage) error) func(m *mem) kv.Store {
	return func(m *mem) kv.Store {
		return &override{mem: m, upsert: func(ctx context.Context, items map[string]json.RawMessage) error {
			return upsert(m, ctx, items)
		}}
	}
}
