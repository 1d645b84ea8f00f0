package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/move"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
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
		err = ErrNotFound
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

// openFiles opens a namespace of a directory until the test ends.
func openFiles(t *testing.T, dir, namespace string, opts ...Option) *store {
	t.Helper()
	s, err := Open(t.Context(), Config{WorkingDir: dir}, namespace, append(opts, WithLogger(slog.New(slog.DiscardHandler)))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.(*store)
}

// kinds makes an empty store of each kind.
func kinds(t *testing.T) map[string]func() Store {
	server := redistest.Start(t)
	var n atomic.Int64
	return map[string]func() Store{
		"json":  func() Store { return openFiles(t, t.TempDir(), "docs") },
		"redis": func() Store { return openRedisStore(t, redisCfg(server.URL()), fmt.Sprint("docs", n.Add(1))) },
		"plain": func() Store { return newPlain(nil) },
	}
}

func have(t *testing.T, s Store, docs map[string]string) {
	t.Helper()
	items := make(map[string]json.RawMessage)
	for id, value := range docs {
		items[id] = json.RawMessage(value)
	}
	if e, ok := As[Expirer](s); ok {
		require.NoError(t, e.UpsertTTL(t.Context(), items, 0))
		return
	}
	require.NoError(t, s.Upsert(t.Context(), items))
}

func holds(t *testing.T, s Store) map[string]string {
	t.Helper()
	docs := make(map[string]string)
	for id, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		value, err := s.Get(t.Context(), id)
		if errors.Is(err, ErrCorrupt) {
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
		opts   MigrateOptions
		report MigrateReport
		want   docs
		err    string
	}{
		{name: "skip",
			report: MigrateReport{Copied: 1, Same: 1, Skipped: 2, Verified: true},
			want:   docs{"new": `{"a":1}`, "equal": "\"é \\/\"", "other": `[1,3]`, "number": `1`, "extra": `true`}},
		{name: "overwrite", opts: MigrateOptions{OnConflict: Overwrite},
			report: MigrateReport{Copied: 1, Same: 1, Overwritten: 2, Verified: true},
			want:   docs{"new": `{"a":1}`, "equal": "\"é \\/\"", "other": `[1,2]`, "number": `1.0`, "extra": `true`}},
		{name: "mirror", opts: MigrateOptions{Mirror: true},
			report: MigrateReport{Copied: 1, Same: 1, Overwritten: 2, Removed: 1, Verified: true},
			want:   docs{"new": `{"a":1}`, "equal": "\"é \\/\"", "other": `[1,2]`, "number": `1.0`}},
		{name: "fail", opts: MigrateOptions{OnConflict: Fail}, want: nil, err: "another value"},
		{name: "dry run", opts: MigrateOptions{DryRun: true},
			report: MigrateReport{DryRun: true, Copied: 1, Same: 1, Skipped: 2}, want: there},
		{name: "dry mirror", opts: MigrateOptions{DryRun: true, Mirror: true},
			report: MigrateReport{DryRun: true, Copied: 1, Same: 1, Overwritten: 2, Removed: 1}, want: there},
		{name: "without verification", opts: MigrateOptions{SkipVerify: true, OnConflict: Overwrite},
			report: MigrateReport{Copied: 1, Same: 1, Overwritten: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for from, makeSource := range open {
				for to, makeTarget := range open {
					name := from + " to " + to
					src, dst := makeSource(), makeTarget()
					have(t, src, source)
					have(t, dst, there)
					before := holds(t, src)
					r, err := Migrate(t.Context(), dst, src, tt.opts)
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
	if e := (*Error)(nil); errors.As(err, &e) {
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
func counts(r MigrateReport) MigrateReport {
	return MigrateReport{DryRun: r.DryRun, Copied: r.Copied, Same: r.Same, Skipped: r.Skipped, Overwritten: r.Overwritten,
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
			a, _ := As[Expirer](src)
			b, _ := As[Expirer](dst)
			ctx := t.Context()
			one := func(id string) map[string]json.RawMessage {
				return map[string]json.RawMessage{id: json.RawMessage("1")}
			}
			require.NoError(t, a.UpsertTTL(ctx, one("hour"), time.Hour), name)
			require.NoError(t, a.UpsertTTL(ctx, one("ever"), 0), name)
			require.NoError(t, a.UpsertTTL(ctx, one("longer"), 2*time.Hour), name)
			require.NoError(t, b.UpsertTTL(ctx, one("longer"), time.Hour), name)
			r, err := Migrate(ctx, dst, src, MigrateOptions{Mirror: mirror})
			require.NoError(t, err, name)
			want := MigrateReport{Copied: 2, Same: 1, TTLKept: 1, Verified: true}
			longer := time.Hour
			if mirror {
				want = MigrateReport{Copied: 2, Overwritten: 1, Verified: true}
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
			_, err = Migrate(ctx, dst, src, MigrateOptions{OnConflict: Overwrite, TTL: 10 * time.Hour})
			require.NoError(t, err, name)
			ttl, err := b.TTL(ctx, "ever")
			require.NoError(t, err, name)
			require.Greater(t, ttl, 9*time.Hour, name)
			r, err = Migrate(ctx, dst, src, MigrateOptions{OnConflict: Overwrite, TTL: 20 * time.Hour})
			require.NoError(t, err, name)
			require.Equal(t, 3, r.Same, name)
		}
	}
}

// A time to live that has run out since it was read counts as expired, and of
// the others what has passed is taken off, to no less than a millisecond.
func TestMigrateExpired(t *testing.T) {
	t.Parallel()
	var m move.Migration
	page := move.PageOf{At: time.Now().Add(-10 * time.Second)}
	for _, ttl := range []time.Duration{0, time.Second, 20 * time.Second} {
		page.Docs = append(page.Docs, move.Moved{Item: engine.Item{ID: "a", Value: json.RawMessage("1"), TTL: ttl}})
	}
	page.Docs = append(page.Docs, move.Moved{Item: engine.Item{ID: "b"}, Err: ErrNotFound})
	docs := m.Sound(page)
	require.Equal(t, 2, m.Report.Expired)
	require.Len(t, docs, 2)
	require.Zero(t, docs[0].TTL)
	require.InDelta(t, 10*time.Second, docs[1].TTL, float64(5*time.Second))
	require.Equal(t, time.Millisecond, move.Moved{Item: engine.Item{TTL: time.Millisecond}}.After(time.Microsecond).TTL)
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
		r, err := Migrate(ctx, dst, src, MigrateOptions{Mirror: mirror})
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
	r, err := Migrate(ctx, src, from, MigrateOptions{Mirror: true})
	require.NoError(t, err)
	require.Equal(t, MigrateReport{Overwritten: 1, Removed: 1, Verified: true}, counts(r))
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
	looking := openFiles(t, dir, "docs", WithReadOnly())
	other := newPlain(docs{"b": "2"})
	for name, tt := range map[string]struct {
		dst, src Store
		opts     MigrateOptions
	}{
		"itself":             {full, full, MigrateOptions{}},
		"read-only":          {looking, other, MigrateOptions{}},
		"policy":             {full, other, MigrateOptions{OnConflict: 7}},
		"mirror and fail":    {full, other, MigrateOptions{OnConflict: Fail, Mirror: true}},
		"negative":           {full, other, MigrateOptions{TTL: -1}},
		"empty":              {full, newPlain(nil), MigrateOptions{Mirror: true}},
		"empty for a third":  {other, newPlain(nil), MigrateOptions{Mirror: true}},
		"bad value":          {full, newPlain(docs{"c": "NaN"}), MigrateOptions{}},
		"bad value mirrored": {full, newPlain(docs{"c": "NaN"}), MigrateOptions{Mirror: true}},
	} {
		_, err := Migrate(t.Context(), tt.dst, tt.src, tt.opts)
		require.ErrorIs(t, err, ErrInvalid, name)
		var e *Error
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
			for k := 1; ; k += max(1, testkit.Stride/2) {
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
				first, err := Migrate(ctx, dst, source, MigrateOptions{Mirror: mirror})
				source.gets = nil
				cancel()
				if n < k {
					require.NoError(t, err)
					break
				}
				name := fmt.Sprintf("%s, mirror %v, page %d", to, mirror, k)
				require.ErrorIs(t, err, context.Canceled, name)
				_, atOnce := sideOf(dst).Engine.(engine.Replacer)
				if mirror && atOnce { // All, when only the comparison was cut short, or none.
					require.Equal(t, first.Copied, 120*first.Removed, name)
					require.Len(t, listed(t, dst), 1+119*first.Removed, name)
				}
				second, err := Migrate(t.Context(), dst, source, MigrateOptions{Mirror: mirror})
				require.NoError(t, err, name)
				if !mirror || !atOnce {
					require.GreaterOrEqual(t, second.Same, first.Copied, name) // A cut write may have been applied.
				}
				require.Equal(t, 120, second.Same+second.Copied, name)
				v, err := Verify(t.Context(), source, dst)
				require.NoError(t, err, name)
				if !mirror {
					require.Equal(t, []Difference{{"extra", OnlyInB}}, v.Differences, name)
					continue
				}
				require.Empty(t, v.Differences, name)
				require.Equal(t, v.A, v.B, name)
			}
		}
	}
}

// Pages have a bound in bytes: exact where the sizes are known, and learnt
// from the pages before where not.
func TestReadIsBounded(t *testing.T) {
	t.Parallel()
	big := `"` + strings.Repeat("x", 2<<20) + `"`
	plain := newPlain(nil)
	files := openFiles(t, t.TempDir(), "docs")
	for i := range 8 {
		for _, s := range []Store{plain, files} {
			have(t, s, docs{fmt.Sprintf("big-%02d", i): big, fmt.Sprintf("small-%02d", i): "1"})
		}
	}
	for _, s := range []Store{plain, files} {
		n := 0
		for p, err := range move.ReadAhead(t.Context(), sideOf(s), sideOf(s).Pages(t.Context())) {
			require.NoError(t, err)
			bytes := 0
			for _, d := range p.Docs {
				bytes += len(d.Value)
			}
			require.LessOrEqual(t, bytes, move.BulkBytes+1<<20)
			n += len(p.Docs)
		}
		require.Equal(t, 16, n)
	}
}

// Progress counts every document of the source, copying and verifying.
func TestMigrateProgress(t *testing.T) {
	t.Parallel()
	src, dst := openFiles(t, t.TempDir(), "docs"), newPlain(nil)
	require.NoError(t, src.Upsert(t.Context(), testkit.Numbered(700)))
	var last [2]Progress
	r, err := Migrate(t.Context(), dst, src, MigrateOptions{Progress: func(p Progress) {
		i := 0
		if p.Verifying {
			i = 1
		}
		require.GreaterOrEqual(t, p.Documents, last[i].Documents)
		last[i] = p
	}})
	require.NoError(t, err)
	require.Equal(t, Progress{Documents: 700, Bytes: r.Bytes, Total: 700}, last[0])
	require.Equal(t, Progress{Verifying: true, Documents: 700, Total: 700}, last[1])
	line, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(line), `{"namespace":"docs","copied":700,"same":0,`)
}
