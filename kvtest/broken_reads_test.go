package kvtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ngraf/kv"
)

func brokenReads() []broken {
	return []broken{
		{name: "returns live memory", wrap: func(m *mem) kv.Store { m.give = same; return m }},
		{name: "caches projections", wrap: cachesProjections},
		{name: "cuts GetMany from one buffer", wrap: oneBuffer},
		{name: "Get of an absent id is nil", wrap: func(m *mem) kv.Store {
			return &override{mem: m, get: func(ctx context.Context, id string) (json.RawMessage, error) {
				v, err := m.Get(ctx, id)
				if errors.Is(err, kv.ErrNotFound) {
					err = nil
				}
				return v, err
			}}
		}},
		{name: "null is absence", wrap: nullIsAbsence},
		{name: "GetMany drops repeats", wrap: func(m *mem) kv.Store {
			return &override{mem: m, getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
				var once []string
				for _, id := range ids {
					if !slices.Contains(once, id) || len(ids) > 1000 {
						once = append(once, id)
					}
				}
				return m.GetMany(ctx, once, fields...)
			}}
		}},
		{name: "GetMany sorts ids", large: "GetMany/", wrap: func(m *mem) kv.Store {
			return &override{mem: m, getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
				return m.GetMany(ctx, slices.Sorted(slices.Values(ids)), fields...)
			}}
		}},
		{name: "GetMany repeats share memory", wrap: repeatsShare},
	}
}

func brokenMissing() []broken {
	return []broken{
		{name: "GetMany gives null for absence", wrap: func(m *mem) kv.Store {
			return &override{mem: m, getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
				vs, err := m.GetMany(ctx, ids, fields...)
				for i, v := range vs {
					if v == nil && err == nil {
						vs[i] = json.RawMessage(`null`)
					}
				}
				return vs, err
			}}
		}},
		{name: "GetMany returns a slice beside an error", wrap: func(m *mem) kv.Store {
			return &override{mem: m, getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
				vs, err := m.GetMany(ctx, ids, fields...)
				if vs == nil {
					vs = make([]json.RawMessage, len(ids))
				}
				return vs, err
			}}
		}},
		{name: "Missing repeats", wrap: withMissing(func(_, missing []string, all []string) []string {
			var out []string
			for _, id := range all {
				if slices.Contains(missing, id) {
					out = append(out, id)
				}
			}
			return out
		})},
		{name: "Missing sorts", wrap: withMissing(func(_, missing []string, _ []string) []string {
			return slices.Sorted(slices.Values(missing))
		})},
		{name: "Missing filters in place", wrap: withMissing(func(ids, missing []string, _ []string) []string {
			return ids[:copy(ids, missing)]
		})},
		{name: "Missing answers for 1,000 ids", large: "Missing/; Drop/", wrap: withMissing(func(_, missing []string, _ []string) []string {
			return missing[:min(len(missing), 1000)]
		})},
		{name: "Missing creates what it misses", wrap: func(m *mem) kv.Store {
			return &override{mem: m, missing: func(ctx context.Context, ids []string) ([]string, error) {
				missing, err := m.Missing(ctx, ids)
				for _, id := range missing {
					_ = m.Upsert(ctx, map[string]json.RawMessage{id: json.RawMessage(`{}`)})
				}
				return missing, err
			}}
		}},
		{name: "Get trims ids", wrap: func(m *mem) kv.Store {
			return &override{mem: m, get: func(ctx context.Context, id string) (json.RawMessage, error) {
				return m.Get(ctx, strings.TrimSpace(id))
			}}
		}},
	}
}

func same(raw []byte) []byte { return raw }

func cachesProjections(m *mem) kv.Store {
	cache := map[string][]byte{}
	m.fields = func(raw []byte, fields []string) []byte {
		key := string(raw) + fmt.Sprint(fields)
		if cache[key] == nil {
			cache[key] = project(raw, fields)
		}
		return cache[key]
	}
	return m
}

func oneBuffer(m *mem) kv.Store {
	return &override{mem: m, getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
		vs, err := m.GetMany(ctx, ids, fields...)
		buffer := bytes.Join(cast(vs), nil)
		for i, v := range vs {
			if v != nil {
				vs[i], buffer = buffer[:len(v)], buffer[len(v):]
			}
		}
		return vs, err
	}}
}

func cast(vs []json.RawMessage) (bs [][]byte) {
	for _, v := range vs {
		bs = append(bs, v)
	}
	return bs
}

func repeatsShare(m *mem) kv.Store {
	return &override{mem: m, getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
		vs, err := m.GetMany(ctx, ids, fields...)
		first := map[string]json.RawMessage{}
		for i, v := range vs {
			if first[ids[i]] == nil {
				first[ids[i]] = v
			}
			vs[i] = first[ids[i]]
		}
		return vs, err
	}}
}

func nullIsAbsence(m *mem) kv.Store {
	o := &override{mem: m}
	o.get = func(ctx context.Context, id string) (json.RawMessage, error) {
		v, err := m.Get(ctx, id)
		if string(v) == `null` {
			return nil, m.fail("get", m.ns, id, kv.ErrNotFound)
		}
		return v, err
	}
	o.getMany = func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
		vs, err := m.GetMany(ctx, ids, fields...)
		for i, v := range vs {
			if string(v) == `null` {
				vs[i] = nil
			}
		}
		return vs, err
	}
	o.missing = func(ctx context.Context, ids []string) ([]string, error) {
		missing, err := m.Missing(ctx, ids)
		for _, id := range ids {
			if v, err := m.Get(ctx, id); err == nil && string(v) == `null` {
				missing = append(missing, id)
			}
		}
		return missing, err
	}
	return o
}

// withMissing changes what Missing returns; all are the ids with repeats.
func withMissing(change func(ids, missing, all []string) []string) func(m *mem) kv.Store {
	return func(m *mem) kv.Store {
		return &override{mem: m, missing: func(ctx context.Context, ids []string) ([]string, error) {
			missing, err := m.Missing(ctx, ids)
			if err != nil {
				return nil, err
			}
			return change(ids, missing, slices.Clone(ids)), nil
		}}
	}
}

// withFields projects in another way.
func withFields(f func(raw []byte, fields []string) []byte) func(m *mem) kv.Store {
	return func(m *mem) kv.Store { m.fields = f; return m }
}

func isObject(raw []byte) bool { return strings.HasPrefix(strings.TrimSpace(string(raw)), "{") }

func brokenFields() []broken {
	return []broken{
		{name: "fields are ignored", large: "GetMany/", wrap: withFields(func(raw []byte, _ []string) []byte { return bytes.Clone(raw) })},
		{name: "fields go through a map", wrap: withFields(throughMap)},
		{name: "fields in their own order", wrap: withFields(func(raw []byte, fields []string) []byte {
			if !isObject(raw) {
				return bytes.Clone(raw)
			}
			var out []string
			for _, f := range fields {
				if one := project(raw, []string{f}); len(one) > 2 {
					out = append(out, string(one[1:len(one)-1]))
				}
			}
			return []byte("{" + strings.Join(out, ",") + "}")
		})},
		{name: "fields compare raw names", wrap: withFields(func(raw []byte, fields []string) []byte {
			return cut(raw, func(name, _ string) bool {
				return slices.Contains(fields, name) && !strings.ContainsAny(name, "\"\\\U0001f600") && !strings.Contains(string(raw), `\u0061`)
			})
		})},
		{name: "fields of any depth", wrap: withFields(func(raw []byte, fields []string) []byte {
			return cut(raw, func(name, value string) bool {
				return slices.ContainsFunc(fields, func(f string) bool { return name == f || strings.Contains(value, `"`+f+`"`) })
			})
		})},
		{name: "fields in strings", wrap: withFields(func(raw []byte, fields []string) []byte {
			return cut(raw, func(name, value string) bool {
				return slices.ContainsFunc(fields, func(f string) bool { return name == f || strings.Contains(value, `\"`+f+`\"`) })
			})
		})},
	}
}

func brokenFieldValues() []broken {
	return []broken{
		{name: "fields ignore case", wrap: withFields(func(raw []byte, fields []string) []byte {
			return cut(raw, func(name, _ string) bool {
				return slices.ContainsFunc(fields, func(f string) bool { return strings.EqualFold(name, f) })
			})
		})},
		{name: "fields drop null and empty names", wrap: withFields(func(raw []byte, fields []string) []byte {
			return cut(raw, func(name, value string) bool {
				return slices.Contains(fields, name) && value != "null" && name != ""
			})
		})},
		{name: "fields of a value that is no object are null", wrap: withFields(func(raw []byte, fields []string) []byte {
			if !isObject(raw) {
				return []byte(`{}`)
			}
			return project(raw, fields)
		})},
		{name: "fields that are all missing make nil", wrap: withFields(func(raw []byte, fields []string) []byte {
			if out := project(raw, fields); string(out) != `{}` {
				return out
			}
			return nil
		})},
		{name: "fields that are missing become null", wrap: withFields(func(raw []byte, fields []string) []byte {
			out := project(raw, fields)
			for _, f := range fields {
				if isObject(raw) && len(project(raw, []string{f})) == 2 {
					out = append(bytes.TrimSuffix(bytes.TrimSuffix(out, []byte("}")), []byte(",")), fmt.Sprintf(`,%q:null}`, f)...)
				}
			}
			return bytes.Replace(out, []byte("{,"), []byte("{"), 1)
		})},
		{name: "fields that are none make empty objects", wrap: func(m *mem) kv.Store {
			return &override{mem: m, getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
				if fields != nil && len(fields) == 0 {
					fields = []string{"no such member"}
				}
				return m.GetMany(ctx, ids, fields...)
			}}
		}},
		{name: "fields end at 64 KiB", large: "GetMany/", wrap: withFields(func(raw []byte, fields []string) []byte {
			if len(raw) > 64<<10 {
				return []byte(`{}`)
			}
			return project(raw, fields)
		})},
		{name: "fields need tight objects", wrap: withFields(func(raw []byte, fields []string) []byte {
			if !bytes.HasPrefix(raw, []byte("{")) {
				return bytes.Clone(raw)
			}
			return project(raw, fields)
		})},
	}
}

func throughMap(raw []byte, fields []string) []byte {
	var m map[string]any
	if json.Unmarshal(raw, &m) != nil || m == nil {
		return bytes.Clone(raw)
	}
	for name := range m {
		if !slices.Contains(fields, name) {
			delete(m, name)
		}
	}
	out, _ := json.Marshal(m)
	return out
}
