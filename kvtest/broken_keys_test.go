package kvtest_test

import (
	"context"
	"encoding/json"
	"iter"
	"path"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/ngraf/kv"
)

// withKeys changes the sequence of Keys.
func withKeys(change func(m *mem, ctx context.Context, yield func(string, error) bool)) func(m *mem) kv.Store {
	return func(m *mem) kv.Store {
		return &override{mem: m, keys: func(ctx context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) { change(m, ctx, yield) }
		}}
	}
}

func brokenKeys() []broken {
	return []broken{
		{name: "Keys repeats", large: "Keys/; Delete/; Concurrency/mixed; Persistence/", wrap: withKeys(func(m *mem, ctx context.Context, yield func(string, error) bool) {
			for id, err := range m.Keys(ctx) {
				if !yield(id, err) || err == nil && !yield(id, nil) {
					return
				}
			}
		})},
		{name: "Keys yields an empty id for an empty namespace", wrap: withKeys(func(m *mem, ctx context.Context, yield func(string, error) bool) {
			n := 0
			for id, err := range m.Keys(ctx) {
				if n++; !yield(id, err) {
					return
				}
			}
			if n == 0 {
				yield("", nil)
			}
		})},
		{name: "Keys ends after a page", large: "Keys/; Persistence/", wrap: withKeys(func(m *mem, ctx context.Context, yield func(string, error) bool) {
			n := 0
			for id, err := range m.Keys(ctx) {
				if n++; n > 1000 || !yield(id, err) {
					return
				}
			}
		})},
		{name: "Keys goes on where a loop left", large: "Keys/", wrap: keysGoesOn},
		{name: "Keys holds the lock", large: "Keys/", wrap: keysLocks},
		{name: "Keys yields its error with an id", large: "Keys/", wrap: withKeys(func(m *mem, ctx context.Context, yield func(string, error) bool) {
			for id, err := range m.Keys(ctx) {
				if err != nil {
					id = "last"
				}
				if !yield(id, err) {
					return
				}
			}
		})},
		{name: "Keys ignores a context that ends on the way", large: "Keys/", wrap: withKeys(func(m *mem, ctx context.Context, yield func(string, error) bool) {
			if err := ctx.Err(); err == nil {
				ctx = context.WithoutCancel(ctx)
			}
			m.Keys(ctx)(yield)
		})},
		{name: "Keys keeps its error to itself", large: "Keys/", wrap: withKeys(func(m *mem, ctx context.Context, yield func(string, error) bool) {
			for id, err := range m.Keys(ctx) {
				if err != nil || !yield(id, nil) {
					return
				}
			}
		})},
	}
}

func keysGoesOn(m *mem) kv.Store {
	var left sync.Map
	return withKeys(func(m *mem, ctx context.Context, yield func(string, error) bool) {
		for id, err := range m.Keys(ctx) {
			if _, seen := left.LoadOrStore(id, true); !seen && !yield(id, err) {
				return
			}
		}
		left.Clear()
	})(m)
}

// keysLocks holds a lock of its own while the body of the loop runs. A call
// that waits for it is let go when the case is over.
func keysLocks(m *mem) kv.Store {
	lock := make(chan struct{}, 1)
	o := withKeys(func(m *mem, ctx context.Context, yield func(string, error) bool) {
		lock <- struct{}{}
		defer func() { <-lock }()
		m.Keys(ctx)(yield)
	})(m).(*override)
	o.upsert = func(ctx context.Context, items map[string]json.RawMessage) error {
		if ctx.Err() != nil {
			return m.Upsert(ctx, items)
		}
		select {
		case lock <- struct{}{}:
			defer func() { <-lock }()
			return m.Upsert(ctx, items)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return o
}

// brokenIDs list other ids than were stored, as stores do that put them into
// file names, patterns, lines or markup.
func brokenIDs() []broken {
	mangled := func(mangle func(id string) string) func(m *mem) kv.Store {
		return withKeys(func(m *mem, ctx context.Context, yield func(string, error) bool) {
			for id, err := range m.Keys(ctx) {
				if !yield(mangle(id), err) {
					return
				}
			}
		})
	}
	replace := func(pairs ...string) func(string) string { return strings.NewReplacer(pairs...).Replace }
	return []broken{
		{name: "ids are trimmed", wrap: mangled(strings.TrimSpace)},
		{name: "ids end at NUL", wrap: mangled(func(id string) string { id, _, _ = strings.Cut(id, "\x00"); return id })},
		{name: "ids end at a line", wrap: mangled(func(id string) string { id, _, _ = strings.Cut(id, "\n"); return id })},
		{name: "ids end at a line separator", wrap: mangled(func(id string) string { id, _, _ = strings.Cut(id, "\u2028"); return id })},
		{name: "ids end at a colon", wrap: mangled(func(id string) string { return id[strings.LastIndex(id, ":")+1:] })},
		{name: "ids lose control characters", wrap: mangled(func(id string) string {
			return strings.Map(func(r rune) rune {
				if unicode.IsControl(r) {
					return -1
				}
				return r
			}, id)
		})},
		{name: "ids are ASCII", wrap: mangled(func(id string) string {
			return strings.Map(func(r rune) rune { return min(r, 0x80) }, id)
		})},
		{name: "ids in the basic plane", wrap: mangled(func(id string) string {
			return strings.Map(func(r rune) rune { return min(r, 0xfffe) }, id)
		})},
		{name: "ids lose U+FFFD", wrap: mangled(replace("\ufffd", ""))},
		{name: "ids lose a byte order mark", wrap: mangled(replace("\ufeff", ""))},
		{name: "ids are HTML", wrap: mangled(replace("<", `\u003c`, ">", `\u003e`, "&", `\u0026`))},
		{name: "ids are unquoted", wrap: mangled(replace(`"`, ``, `'`, ``))},
		{name: "ids are unescaped", wrap: mangled(replace(`\u0061`, `a`, `\n`, "\n", `\`, ``))},
		{name: "ids are paths", wrap: mangled(path.Clean)},
		{name: "ids are formats", wrap: mangled(replace("%", "%%"))},
		{name: "ids lose braces", wrap: mangled(replace("{", "", "}", ""))},
		{name: "ids with underscores are internal", wrap: mangled(func(id string) string { return strings.TrimLeft(id, "_") })},
		{name: "ids are file names", wrap: mangled(func(id string) string { return id[:min(len(id), 255)] })},
		{name: "ids may have 64 Ki bytes less 1", wrap: mangled(func(id string) string { return id[:min(len(id), 1<<16-1)] })},
		{name: "ids lose case and accents", wrap: mapped(func(id string) string {
			return strings.ToLower(strings.ReplaceAll(id, "a\u0301", "\u00e1"))
		})},
		{name: "ids are patterns for Delete", wrap: deletesPattern},
		{name: "bad UTF-8 is repaired", wrap: mapped(func(id string) string {
			return strings.ToValidUTF8(id, "?")
		})},
		{name: "ids have no limit", wrap: mapped(func(id string) string {
			return id[:min(len(id), 64<<10)]
		})},
	}
}

// deletesPattern deletes what an id matches as a pattern, as a store does that
// hands ids to a shell or to SCAN.
func deletesPattern(m *mem) kv.Store {
	return &override{mem: m, remove: func(ctx context.Context, ids ...string) (int, error) {
		var matching []string
		for key := range m.Keys(ctx) {
			for _, id := range ids {
				if ok, _ := path.Match(id, key); ok {
					matching = append(matching, key)
				}
			}
		}
		n, err := m.Delete(ctx, ids...)
		if err == nil && len(matching) > 0 {
			n, err = m.Delete(ctx, matching...)
		}
		return n, err
	}}
}

// mapped changes each id on its way in.
func mapped(f func(id string) string) func(m *mem) kv.Store {
	each := func(ids []string) (out []string) {
		for _, id := range ids {
			out = append(out, f(id))
		}
		return out
	}
	keys := func(items map[string]json.RawMessage) map[string]json.RawMessage {
		out := map[string]json.RawMessage{}
		for id, v := range items {
			out[f(id)] = v
		}
		return out
	}
	return func(m *mem) kv.Store {
		return &override{
			mem: m,
			get: func(ctx context.Context, id string) (json.RawMessage, error) { return m.Get(ctx, f(id)) },
			getMany: func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
				return m.GetMany(ctx, each(ids), fields...)
			},
			missing: func(ctx context.Context, ids []string) ([]string, error) { return m.Missing(ctx, each(ids)) },
			upsert:  func(ctx context.Context, items map[string]json.RawMessage) error { return m.Upsert(ctx, keys(items)) },
			remove:  func(ctx context.Context, ids ...string) (int, error) { return m.Delete(ctx, each(ids)...) },
			insert: func(ctx context.Context, items map[string]json.RawMessage) (int, error) {
				return m.Insert(ctx, keys(items))
			},
			ttlOf: func(ctx context.Context, id string) (time.Duration, error) { return m.TTL(ctx, f(id)) },
			upsertTTL: func(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
				return m.UpsertTTL(ctx, keys(items), ttl)
			},
		}
	}
}
