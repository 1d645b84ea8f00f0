package kvtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvtest"
)

// maxValue is so small that the limit itself is tested.
const maxValue = 1 << 20

// An area is the memory behind the stores of one harness, with a clock.
type area struct {
	mu     sync.Mutex
	now    time.Time // zero: the time of day
	max    int
	spaces map[string]map[string]doc
	away   bool
}

type doc struct {
	raw     []byte
	expires time.Time // zero: never
}

// A mem is a store in memory that keeps the contract, the reference against
// which the suite itself is tested. Its hooks are where broken ones differ.
type mem struct {
	area *area
	ns   string
	ttl  time.Duration

	closed bool
	stats  kv.Stats

	accept func(raw []byte) error                 // checks a value
	admit  func(ctx context.Context) error        // checks the context
	keep   func(raw []byte) []byte                // copies a value on the way in
	give   func(raw []byte) []byte                // copies a value on the way out
	fail   func(op, ns, id string, e error) error // makes an error
	fields func(raw []byte, fields []string) []byte
}

func newArea() *area {
	return &area{now: time.Unix(1e9, 0), max: maxValue, spaces: map[string]map[string]doc{}}
}

// harness is a harness around the area whose stores are what wrap makes of
// good ones.
func (a *area) harness(wrap func(*mem) kv.Store) kvtest.Harness {
	h := kvtest.Harness{
		Open: func(namespace string, ttl time.Duration) (kv.Store, error) {
			return wrap(&mem{
				area: a, ns: namespace, ttl: ttl,
				stats:  kv.Stats{Backend: "memory", Namespace: namespace},
				accept: a.checkJSON, admit: context.Context.Err,
				keep: bytes.Clone, give: bytes.Clone, fields: project,
				fail: func(op, ns, id string, err error) error {
					return &kv.Error{Op: op, Namespace: ns, ID: id, Err: err}
				},
			}), nil
		},
		Persistent:    true,
		MaxValueBytes: int64(a.max),
		Plant: func(namespace string, raw map[string][]byte) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			for id, v := range raw {
				a.space(namespace)[id] = doc{raw: v}
			}
			return nil
		},
		Advance: func(d time.Duration) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.now = a.now.Add(d)
		},
		Away:     func() error { return a.setAway(true) },
		Back:     func() error { return a.setAway(false) },
		Patience: 2 * time.Second,
	}
	if a.now.IsZero() {
		h.Advance = nil
	}
	return h
}

func (a *area) time() time.Time {
	if a.now.IsZero() {
		return time.Now()
	}
	return a.now
}

func (a *area) setAway(away bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away = away
	return nil
}

// space returns the living documents of a namespace.
func (a *area) space(ns string) map[string]doc {
	if a.spaces[ns] == nil {
		a.spaces[ns] = map[string]doc{}
	}
	now := a.time()
	maps.DeleteFunc(a.spaces[ns], func(_ string, d doc) bool {
		return !d.expires.IsZero() && !now.Before(d.expires)
	})
	return a.spaces[ns]
}

// do runs f on the documents if the call may go on.
func (m *mem) do(ctx context.Context, op string, ids []string, f func(docs map[string]doc) (string, error)) error {
	m.area.mu.Lock()
	defer m.area.mu.Unlock()
	id, err := m.check(ctx, ids)
	if err == nil {
		id, err = f(m.area.space(m.ns))
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, kv.ErrNotFound) {
		m.stats.Errors++
	}
	return m.fail(op, m.ns, id, err)
}

func (m *mem) check(ctx context.Context, ids []string) (string, error) {
	if m.closed {
		return "", kv.ErrClosed
	}
	if err := m.admit(ctx); err != nil {
		return "", err
	}
	for _, id := range ids {
		if !utf8.ValidString(id) || len(id) > 64<<10 {
			return id, kv.ErrInvalid
		}
	}
	if m.area.away {
		return "", kv.ErrUnavailable
	}
	return "", nil
}

func (m *mem) Get(ctx context.Context, id string) (v json.RawMessage, err error) {
	err = m.do(ctx, "get", []string{id}, func(docs map[string]doc) (string, error) {
		m.stats.Gets++
		d, ok := docs[id]
		if !ok {
			return id, kv.ErrNotFound
		}
		m.stats.Hits++
		if !json.Valid(d.raw) || !utf8.Valid(d.raw) {
			return id, kv.ErrCorrupt
		}
		v = m.give(d.raw)
		return "", nil
	})
	return v, err
}

func (m *mem) GetMany(ctx context.Context, ids []string, fields ...string) (vs []json.RawMessage, err error) {
	err = m.do(ctx, "getmany", ids, func(docs map[string]doc) (bad string, err error) {
		vs = make([]json.RawMessage, len(ids))
		for i, id := range ids {
			m.stats.Gets++
			d, ok := docs[id]
			if !ok {
				continue
			}
			m.stats.Hits++
			switch {
			case !json.Valid(d.raw) || !utf8.Valid(d.raw):
				bad, err = id, kv.ErrCorrupt
			case len(fields) > 0:
				vs[i] = m.fields(d.raw, fields)
			default:
				vs[i] = m.give(d.raw)
			}
		}
		return bad, err
	})
	return vs, err
}

func (m *mem) Missing(ctx context.Context, ids []string) (missing []string, err error) {
	err = m.do(ctx, "missing", ids, func(docs map[string]doc) (string, error) {
		seen := map[string]bool{}
		for _, id := range ids {
			if _, ok := docs[id]; !ok && !seen[id] {
				seen[id] = true
				missing = append(missing, id)
			}
		}
		return "", nil
	})
	return missing, err
}

func (m *mem) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var ids []string
		err := m.do(ctx, "keys", nil, func(docs map[string]doc) (string, error) {
			ids = slices.Sorted(maps.Keys(docs)) // So that broken stores break alike.
			return "", nil
		})
		for _, id := range ids {
			if ctx.Err() != nil {
				err = m.do(ctx, "keys", nil, nothing)
				break
			}
			if !yield(id, nil) {
				return
			}
		}
		if err != nil {
			yield("", err)
		}
	}
}

func nothing(map[string]doc) (string, error) { return "", nil }

func (m *mem) Upsert(ctx context.Context, items map[string]json.RawMessage) error {
	return m.write(ctx, "upsert", items, m.ttl, nil)
}

func (m *mem) UpsertTTL(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
	return m.write(ctx, "upsertttl", items, ttl, nil)
}

func (m *mem) Insert(ctx context.Context, items map[string]json.RawMessage) (int, error) {
	n := 0
	return n, m.write(ctx, "insert", items, m.ttl, &n)
}

// write stores items, with inserted only those that are absent, and counts
// them.
func (m *mem) write(ctx context.Context, op string, items map[string]json.RawMessage, ttl time.Duration, inserted *int) error {
	return m.do(ctx, op, slices.Sorted(maps.Keys(items)), func(docs map[string]doc) (string, error) {
		if ttl < 0 {
			return "", fmt.Errorf("%w: a negative time to live", kv.ErrInvalid)
		}
		for id, v := range items {
			if err := m.accept(v); err != nil {
				return id, err
			}
		}
		for id, v := range items {
			if _, ok := docs[id]; ok && inserted != nil {
				continue
			}
			if inserted != nil {
				*inserted++
			}
			m.stats.Upserts++
			docs[id] = doc{raw: m.keep(v), expires: m.area.end(ttl)}
		}
		return "", nil
	})
}

// end is when a life of ttl is over, in whole milliseconds.
func (a *area) end(ttl time.Duration) time.Time {
	if ttl == 0 {
		return time.Time{}
	}
	if whole := ttl.Truncate(time.Millisecond); whole < ttl && whole < whole+time.Millisecond {
		ttl = whole + time.Millisecond
	}
	return a.time().Add(ttl)
}

func (m *mem) TTL(ctx context.Context, id string) (ttl time.Duration, err error) {
	err = m.do(ctx, "ttl", []string{id}, func(docs map[string]doc) (string, error) {
		d, ok := docs[id]
		if !ok {
			return id, kv.ErrNotFound
		}
		if !d.expires.IsZero() {
			ttl = d.expires.Sub(m.area.time())
		}
		return "", nil
	})
	return ttl, err
}

func (m *mem) Delete(ctx context.Context, ids ...string) (n int, err error) {
	err = m.do(ctx, "delete", ids, func(docs map[string]doc) (string, error) {
		for _, id := range ids {
			if _, ok := docs[id]; ok {
				delete(docs, id)
				n++
				m.stats.Deletes++
			}
		}
		return "", nil
	})
	return n, err
}

func (m *mem) Drop(ctx context.Context) error {
	return m.do(ctx, "drop", nil, func(docs map[string]doc) (string, error) {
		clear(docs)
		return "", nil
	})
}

func (m *mem) Flush(ctx context.Context) error { return m.do(ctx, "flush", nil, nothing) }
func (m *mem) Ping(ctx context.Context) error  { return m.do(ctx, "ping", nil, nothing) }

func (m *mem) Stats(ctx context.Context) (st kv.Stats, err error) {
	err = m.do(ctx, "stats", nil, func(map[string]doc) (string, error) {
		st = m.stats
		return "", nil
	})
	return st, err
}

func (m *mem) Close() error {
	m.area.mu.Lock()
	defer m.area.mu.Unlock()
	m.closed = true
	return nil
}

// checkJSON checks a value by the rules of the contract.
func (a *area) checkJSON(raw []byte) error {
	var small bytes.Buffer
	if json.Compact(&small, raw) != nil || small.Len() > a.max || !utf8.Valid(raw) || depth(raw) > 512 {
		return fmt.Errorf("%w: a value is not JSON or too large", kv.ErrInvalid)
	}
	return nil
}

// depth is how deep valid JSON is nested.
func depth(raw []byte) (deepest int) {
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return deepest
}

// project cuts an object down to the members named in fields.
func project(raw []byte, fields []string) []byte {
	return cut(raw, func(name, _ string) bool { return slices.Contains(fields, name) })
}

// cut keeps those members of an object for whose name and value keep says so.
func cut(raw []byte, keep func(name, value string) bool) []byte {
	if !strings.HasPrefix(strings.TrimLeft(string(raw), " \t\r\n"), "{") {
		return bytes.Clone(raw)
	}
	var tight bytes.Buffer
	if err := json.Compact(&tight, raw); err != nil {
		panic(err) // It was checked.
	}
	dec := json.NewDecoder(bytes.NewReader(tight.Bytes()))
	_, _ = dec.Token()
	var members []string
	for dec.More() {
		start := dec.InputOffset()
		name, _ := dec.Token()
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			panic(err)
		}
		if keep(name.(string), string(value)) {
			members = append(members, strings.TrimPrefix(string(tight.Bytes()[start:dec.InputOffset()]), ","))
		}
	}
	return []byte("{" + strings.Join(members, ",") + "}")
}
