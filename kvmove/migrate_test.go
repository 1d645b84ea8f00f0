package kvmove_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvmove"
)

// A plainStore is a third party's: the nine methods and nothing else.
type plainStore struct {
	mu   sync.Mutex
	docs map[string]json.RawMessage
	gets func(ids []string) error // before each GetMany; may be nil
}

func newPlain(docs map[string]string) *plainStore {
	s := &plainStore{docs: make(map[string]json.RawMessage)}
	for id, value := range docs {
		s.docs[id] = json.RawMessage(value)
	}
	return s
}

func (s *plainStore) Get(ctx context.Context, id string) (json.RawMessage, error) {
	values, err := s.GetMany(ctx, []string{id})
	if err == nil && values[0] == nil {
		err = kv.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

func (s *plainStore) GetMany(ctx context.Context, ids []string, _ ...string) ([]json.RawMessage, error) {
	if s.gets != nil {
		if err := s.gets(ids); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	values := make([]json.RawMessage, len(ids))
	for i, id := range ids {
		values[i] = slices.Clone(s.docs[id])
	}
	return values, ctx.Err()
}

func (s *plainStore) Missing(ctx context.Context, ids []string) (missing []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if _, ok := s.docs[id]; !ok {
			missing = append(missing, id)
		}
	}
	return missing, ctx.Err()
}

func (s *plainStore) Keys(ctx context.Context) iter.Seq2[string, error] {
	s.mu.Lock()
	ids := slices.Sorted(maps.Keys(s.docs))
	s.mu.Unlock()
	return func(yield func(string, error) bool) {
		for _, id := range ids {
			if ctx.Err() != nil {
				yield("", ctx.Err())
				return
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

func (s *plainStore) Upsert(ctx context.Context, items map[string]json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, value := range items {
		s.docs[id] = slices.Clone(value)
	}
	return ctx.Err()
}

func (s *plainStore) Delete(ctx context.Context, ids ...string) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if _, ok := s.docs[id]; ok {
			n++
		}
		delete(s.docs, id)
	}
	return n, ctx.Err()
}

func (s *plainStore) Drop(ctx context.Context) error {
	_, err := s.Delete(ctx, slices.Collect(maps.Keys(s.docs))...)
	return err
}
func (s *plainStore) Flush(context.Context) error { return nil }
func (s *plainStore) Close() error                { return nil }

// kinds makes an empty store of each kind.
func kinds(t *testing.T) map[string]func() kv.Store {
	server := redistest.Start(t)
	var n atomic.Int64
	return map[string]func() kv.Store{
		"json":  func() kv.Store { return openFiles(t, t.TempDir(), "docs") },
		"redis": func() kv.Store { return openRedisStore(t, redisCfg(server.URL()), fmt.Sprint("docs", n.Add(1))) },
		"plain": func() kv.Store { return newPlain(nil) },
	}
}

func have(t *testing.T, s kv.Store, docs map[string]string) {
	t.Helper()
	items := make(map[string]json.RawMessage)
	for id, value := range docs {
		items[id] = json.RawMessage(value)
	}
	if e, ok := kv.As[kv.Expirer](s); ok {
		require.NoError(t, e.UpsertTTL(t.Context(), items, 0))
		return
	}
	require.NoError(t, s.Upsert(t.Context(), items))
}

func holds(t *testing.T, s kv.Store) map[string]string {
	t.Helper()
	docs := make(map[string]string)
	for id, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		value, err := s.Get(t.Context(), id)
		if errors.Is(err, kv.ErrCorrupt) {
			docs[id] = "corrupt"
			continue
		}
		require.NoError(t, err)
		docs[id] = compact(t, value)
	}
	return docs
}

type docs = map[string]string

// Migrate's rules for conflicts, between stores of every kind: what the
// report counts, and what is there in the end. The source stays as it was.
func TestMigrateRules(t *testing.T) {
	t.Parallel()
	open := kinds(t)
	source := docs{"new": `{"a":1}`, "equal": `"\u00e9 /"`, "other": `[1,2]`, "number": `1.0`}
	there := docs{"equal": "\"é \\/\"", "other": `[1, 3]`, "number": `1`, "extra": `true`}
	for _, tt := range []struct {
		name   string
		opts   kvmove.Options
		report kvmove.Report
		want   docs
		err    string
	}{
		{name: "skip",
			report: kvmove.Report{Copied: 1, Same: 1, Skipped: 2, Verified: true},
			want:   docs{"new": `{"a":1}`, "equal": "\"é \\/\"", "other": `[1,3]`, "number": `1`, "extra": `true`}},
		{name: "overwrite", opts: kvmove.Options{OnConflict: kvmove.Overwrite},
			report: kvmove.Report{Copied: 1, Same: 1, Overwritten: 2, Verified: true},
			want:   docs{"new": `{"a":1}`, "equal": "\"é \\/\"", "other": `[1,2]`, "number": `1.0`, "extra": `true`}},
		{name: "mirror", opts: kvmove.Options{Mirror: true},
			report: kvmove.Report{Copied: 1, Same: 1, Overwritten: 2, Removed: 1, Verified: true},
			want:   docs{"new": `{"a":1}`, "equal": "\"é \\/\"", "other": `[1,2]`, "number": `1.0`}},
		{name: "fail", opts: kvmove.Options{OnConflict: kvmove.Fail}, want: nil, err: "another value"},
		{name: "dry run", opts: kvmove.Options{DryRun: true},
			report: kvmove.Report{DryRun: true, Copied: 1, Same: 1, Skipped: 2}, want: there},
		{name: "dry mirror", opts: kvmove.Options{DryRun: true, Mirror: true},
			report: kvmove.Report{DryRun: true, Copied: 1, Same: 1, Overwritten: 2, Removed: 1}, want: there},
		{name: "without verification", opts: kvmove.Options{SkipVerify: true, OnConflict: kvmove.Overwrite},
			report: kvmove.Report{Copied: 1, Same: 1, Overwritten: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for from, makeSource := range open {
				for to, makeTarget := range open {
					name := from + " to " + to
					src, dst := makeSource(), makeTarget()
					have(t, src, source)
					have(t, dst, there)
					before := holds(t, src)
					r, err := kvmove.Migrate(t.Context(), dst, src, tt.opts)
					require.Equal(t, before, holds(t, src), name)
					if tt.err != "" {
						require.ErrorContains(t, err, tt.err, name)
						require.Contains(t, []string{"other", "number"}, idIn(err), name)
						require.Subset(t, holds(t, dst), compacted(t, there), name)
						continue
					}
					require.NoError(t, err, name)
					require.ElementsMatch(t, []string{"other", "number"}[:r.Skipped], r.SkippedIDs, name)
					require.Equal(t, tt.report, counts(r), name)
					if tt.opts.DryRun {
						require.Equal(t, compacted(t, there), holds(t, dst), name)
					} else if tt.want != nil {
						require.Equal(t, tt.want, holds(t, dst), name)
					}
					if tt.opts.Mirror && !tt.opts.DryRun {
						require.Equal(t, r.Source, r.Destination, name)
					}
				}
			}
		})
	}
}

// idIn is the document that an error names.
func idIn(err error) string {
	if e := (*kv.Error)(nil); errors.As(err, &e) {
		return e.ID
	}
	return ""
}

func compacted(t *testing.T, d docs) docs {
	c := make(docs)
	for id, value := range d {
		c[id] = compact(t, []byte(value))
	}
	return c
}

// counts is what of a report does not depend on the kind of the stores.
func counts(r kvmove.Report) kvmove.Report {
	return kvmove.Report{DryRun: r.DryRun, Copied: r.Copied, Same: r.Same, Skipped: r.Skipped, Overwritten: r.Overwritten,
		Removed: r.Removed, Expired: r.Expired, Refused: r.Refused, TTLKept: r.TTLKept, Verified: r.Verified}
}

// Times to live come along, as what is left of them, in every direction.
// Those of equal documents are left, or replaced with Overwrite.
func TestMigrateTTL(t *testing.T) {
	t.Parallel()
	open := kinds(t)
	for _, pair := range [][2]string{{"json", "redis"}, {"redis", "json"}, {"redis", "redis"}, {"json", "json"}} {
		for _, mirror := range []bool{false, true} {
			src, dst := open[pair[0]](), open[pair[1]]()
			name := fmt.Sprint(pair, mirror)
			a, _ := kv.As[kv.Expirer](src)
			b, _ := kv.As[kv.Expirer](dst)
			ctx := t.Context()
			one := func(id string) map[string]json.RawMessage {
				return map[string]json.RawMessage{id: json.RawMessage("1")}
			}
			require.NoError(t, a.UpsertTTL(ctx, one("hour"), time.Hour), name)
			require.NoError(t, a.UpsertTTL(ctx, one("ever"), 0), name)
			require.NoError(t, a.UpsertTTL(ctx, one("longer"), 2*time.Hour), name)
			require.NoError(t, b.UpsertTTL(ctx, one("longer"), time.Hour), name)
			r, err := kvmove.Migrate(ctx, dst, src, kvmove.Options{Mirror: mirror})
			require.NoError(t, err, name)
			want := kvmove.Report{Copied: 2, Same: 1, TTLKept: 1, Verified: true}
			longer := time.Hour
			if mirror {
				want = kvmove.Report{Copied: 2, Overwritten: 1, Verified: true}
				longer = 2 * time.Hour
			}
			require.Equal(t, want, counts(r), name)
			for id, want := range map[string]time.Duration{"hour": time.Hour, "ever": 0, "longer": longer} {
				ttl, err := b.TTL(ctx, id)
				require.NoError(t, err, name)
				require.LessOrEqual(t, ttl, want, name)
				require.Equal(t, want == 0, ttl == 0, name)
				require.Less(t, want-ttl, time.Minute, name)
			}
			// What was given once is not prolonged.
			_, err = kvmove.Migrate(ctx, dst, src, kvmove.Options{OnConflict: kvmove.Overwrite, TTL: 10 * time.Hour})
			require.NoError(t, err, name)
			ttl, err := b.TTL(ctx, "ever")
			require.NoError(t, err, name)
			require.Greater(t, ttl, 9*time.Hour, name)
			r, err = kvmove.Migrate(ctx, dst, src, kvmove.Options{OnConflict: kvmove.Overwrite, TTL: 20 * time.Hour})
			require.NoError(t, err, name)
			require.Equal(t, 3, r.Same, name)
		}
	}
}

// What is corrupt in the source is listed and left behind, and nothing that
// is corrupt in the destination is removed by Mirror. Ids that are not UTF-8
// count as corrupt.
func TestMigrateCorrupt(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	src := openRedisStore(t, redisCfg(server.URL()), "docs")
	have(t, src, docs{"a": "1", "b": "2"})
	c := server.Client()
	require.NoError(t, c.RPush(ctx, "nano_graphrag:docs:list", "x").Err())
	require.NoError(t, c.Set(ctx, "nano_graphrag:docs:nan", "NaN", 0).Err())
	require.NoError(t, c.Set(ctx, "nano_graphrag:docs:\xff", "1", 0).Err())
	for _, mirror := range []bool{false, true} {
		dir := t.TempDir()
		file := filepath.Join(dir, "kv_store_docs.json")
		require.NoError(t, os.WriteFile(file, []byte(`{"inf": Infinity, "nan": "sound", "a": 3}`), 0o600))
		dst := openFiles(t, dir, "docs")
		r, err := kvmove.Migrate(ctx, dst, src, kvmove.Options{Mirror: mirror})
		require.NoError(t, err)
		require.Equal(t, 3, r.Refused)
		require.ElementsMatch(t, []string{"list", "nan", "\xff"}, r.RefusedIDs)
		require.True(t, r.Verified)
		want := docs{"inf": "corrupt", "nan": `"sound"`, "a": "3", "b": "2"}
		if mirror {
			want["a"] = "1"
		}
		require.Equal(t, want, holds(t, dst))
	}
	from := openFiles(t, t.TempDir(), "docs")
	have(t, from, docs{"a": "5"})
	r, err := kvmove.Migrate(ctx, src, from, kvmove.Options{Mirror: true})
	require.NoError(t, err)
	require.Equal(t, kvmove.Report{Overwritten: 1, Removed: 1, Verified: true}, counts(r))
	keys := testkit.AllKeys(t, c)
	require.Len(t, keys, 4)
}

// What breaks a rule is refused before anything is written.
func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	full := openFiles(t, dir, "docs")
	have(t, full, docs{"a": "1"})
	require.NoError(t, full.Flush(t.Context()))
	looking := openFiles(t, dir, "docs", kv.WithReadOnly())
	other := newPlain(docs{"b": "2"})
	for name, tt := range map[string]struct {
		dst, src kv.Store
		opts     kvmove.Options
	}{
		"itself":             {full, full, kvmove.Options{}},
		"read-only":          {looking, other, kvmove.Options{}},
		"policy":             {full, other, kvmove.Options{OnConflict: 7}},
		"mirror and fail":    {full, other, kvmove.Options{OnConflict: kvmove.Fail, Mirror: true}},
		"negative":           {full, other, kvmove.Options{TTL: -1}},
		"empty":              {full, newPlain(nil), kvmove.Options{Mirror: true}},
		"empty for a third":  {other, newPlain(nil), kvmove.Options{Mirror: true}},
		"bad value":          {full, newPlain(docs{"c": "NaN"}), kvmove.Options{}},
		"bad value mirrored": {full, newPlain(docs{"c": "NaN"}), kvmove.Options{Mirror: true}},
	} {
		_, err := kvmove.Migrate(t.Context(), tt.dst, tt.src, tt.opts)
		require.ErrorIs(t, err, kv.ErrInvalid, name)
		var e *kv.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "migrate", e.Op)
	}
	require.Equal(t, docs{"a": "1"}, holds(t, full))
	require.Equal(t, docs{"b": "2"}, holds(t, other))
}

// A call that was interrupted at any page is completed by another, which
// writes no document twice.
func TestMigrateInterrupted(t *testing.T) {
	t.Parallel()
	source := newPlain(nil)
	for i := range 120 {
		source.docs[fmt.Sprint("id-", i)] = json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))
	}
	for to, open := range kinds(t) {
		for _, mirror := range []bool{false, true} {
			for k := 1; ; k += max(1, testkit.Stride()/2) {
				dst := open()
				have(t, dst, docs{"extra": "1"})
				ctx, cancel := context.WithCancel(t.Context())
				n := 0
				source.gets = func([]string) error {
					if n++; n == k {
						cancel()
					}
					return nil
				}
				first, err := kvmove.Migrate(ctx, dst, source, kvmove.Options{Mirror: mirror})
				source.gets = nil
				cancel()
				if n < k {
					require.NoError(t, err)
					break
				}
				name := fmt.Sprintf("%s, mirror %v, page %d", to, mirror, k)
				require.ErrorIs(t, err, context.Canceled, name)
				atOnce := to == "json"
				if mirror && atOnce { // All, when only the comparison was cut short, or none.
					require.Equal(t, first.Copied, 120*first.Removed, name)
					require.Len(t, listed(t, dst), 1+119*first.Removed, name)
				}
				second, err := kvmove.Migrate(t.Context(), dst, source, kvmove.Options{Mirror: mirror})
				require.NoError(t, err, name)
				if !mirror || !atOnce {
					require.GreaterOrEqual(t, second.Same, first.Copied, name) // A cut write may have been applied.
				}
				require.Equal(t, 120, second.Same+second.Copied, name)
				v, err := kvmove.Verify(t.Context(), source, dst)
				require.NoError(t, err, name)
				if !mirror {
					require.Equal(t, []kvmove.Difference{{"extra", kvmove.OnlyInB}}, v.Differences, name)
					continue
				}
				require.Empty(t, v.Differences, name)
				require.Equal(t, v.A, v.B, name)
			}
		}
	}
}

// Progress counts every document of the source, copying and verifying.
func TestMigrateProgress(t *testing.T) {
	t.Parallel()
	src, dst := openFiles(t, t.TempDir(), "docs"), newPlain(nil)
	require.NoError(t, src.Upsert(t.Context(), testkit.Numbered(700)))
	var last [2]kvmove.Progress
	r, err := kvmove.Migrate(t.Context(), dst, src, kvmove.Options{Progress: func(p kvmove.Progress) {
		i := 0
		if p.Verifying {
			i = 1
		}
		require.GreaterOrEqual(t, p.Documents, last[i].Documents)
		last[i] = p
	}})
	require.NoError(t, err)
	require.Equal(t, kvmove.Progress{Documents: 700, Bytes: r.Bytes, Total: 700}, last[0])
	require.Equal(t, kvmove.Progress{Verifying: true, Documents: 700, Total: 700}, last[1])
	line, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(line), `{"namespace":"docs","copied":700,"same":0,`)
}
