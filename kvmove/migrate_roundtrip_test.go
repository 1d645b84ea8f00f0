package kvmove_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvmove"
)

// A traveller is the documents of a namespace, which are to be the same
// wherever they have come to.
type traveller struct {
	namespace string
	ids       []string // in the order of the file
	values    map[string]string
	deadlines map[string]moment // of those with a time to live
	corrupt   []string          // of ids; they stay where they are
}

// A moment is one that is known to lie between two others.
type moment struct{ from, to time.Time }

// momentOf is the end of a time to live that was given or read after began.
func momentOf(began time.Time, ttl time.Duration) moment {
	return moment{began.Add(ttl), time.Now().Add(ttl)}
}

// config is that of json files, or of Redis if url is not empty. Documents of
// no namespace get a time to live by themselves.
func (tr *traveller) config(url, dir string) kv.Config {
	cfg := kv.Config{WorkingDir: dir, TTL: map[string]time.Duration{tr.namespace: 0}}
	if url != "" {
		cfg.Backend, cfg.Redis.URL = "redis", kv.RedisURL(url)
	}
	return cfg
}

func (tr *traveller) open(t *testing.T, url, dir string) builtin {
	return closeable(t, tr.config(url, dir), tr.namespace).(builtin)
}

// setOut takes what is in the files of a directory, and gives every third
// document a time to live of its own.
func setOut(t *testing.T, dir, namespace string) *traveller {
	tr := &traveller{namespace: namespace, values: make(map[string]string), deadlines: make(map[string]moment)}
	files := tr.open(t, "", dir)
	for id, err := range files.Keys(t.Context()) {
		require.NoError(t, err)
		value, err := files.Get(t.Context(), id)
		if err != nil {
			require.ErrorIs(t, err, kv.ErrCorrupt)
			tr.corrupt = append(tr.corrupt, id)
			continue
		}
		tr.ids, tr.values[id] = append(tr.ids, id), compact(t, value)
	}
	require.Greater(t, len(tr.ids), 0)
	for i := 0; i < len(tr.ids); i += 3 {
		id, ttl := tr.ids[i], time.Duration(i+1)*time.Hour+time.Duration(i)*time.Millisecond
		began := time.Now()
		require.NoError(t, files.UpsertTTL(t.Context(), map[string]json.RawMessage{id: json.RawMessage(tr.values[id])}, ttl))
		tr.deadlines[id] = momentOf(began, ttl)
	}
	require.NoError(t, files.Close())
	return tr
}

// arrived checks that a store has every document byte for byte in compact
// form, with its time to live within a second, and no other.
func (tr *traveller) arrived(t *testing.T, s builtin) {
	t.Helper()
	require.ElementsMatch(t, append(tr.ids, tr.left(s)...), listed(t, s))
	values, err := s.GetMany(t.Context(), tr.ids)
	require.NoError(t, err)
	for i, id := range tr.ids {
		require.Equal(t, tr.values[id], compact(t, values[i]), "%s %q", tr.namespace, id)
		began := time.Now()
		ttl, err := s.TTL(t.Context(), id)
		require.NoError(t, err)
		want, expires := tr.deadlines[id]
		require.Equal(t, expires, ttl > 0, "%s %q", tr.namespace, id)
		if expires {
			is := momentOf(began, ttl)
			require.False(t, is.to.Before(want.from.Add(-time.Second)), "%s %q expires %v early", tr.namespace, id, want.from.Sub(is.to))
			require.False(t, is.from.After(want.to.Add(time.Second)), "%s %q expires %v late", tr.namespace, id, is.from.Sub(want.to))
		}
	}
}

// left is what stays in a store of files, as no other takes it.
func (tr *traveller) left(s builtin) []string {
	if stats, err := s.Stats(context.Background()); err == nil && stats.JSON != nil && stats.JSON.Documents > len(tr.ids) {
		return tr.corrupt
	}
	return nil
}

// fromRedis is the way back into files whose documents are all out of date,
// but for their places.
func (tr *traveller) fromRedis(t *testing.T, url, dir string) {
	files := tr.open(t, "", dir)
	defer func() { require.NoError(t, files.Close()) }()
	for _, id := range tr.ids {
		require.NoError(t, files.UpsertTTL(t.Context(), map[string]json.RawMessage{id: json.RawMessage(`"out of date"`)}, 0))
	}
	there := tr.open(t, url, filepath.Join(dir, "none"))
	defer there.Close()
	r, err := kvmove.Migrate(t.Context(), files, there, kvmove.Options{Mirror: true})
	require.NoError(t, err)
	want := kvmove.Report{Overwritten: len(tr.ids), Verified: true}
	require.Equal(t, want, counts(r))
	tr.arrived(t, files)
}

// toRedis is the way there by the variable alone.
func (tr *traveller) toRedis(t *testing.T, url, dir string) {
	s := tr.open(t, url, dir)
	defer s.Close()
	tr.arrived(t, s)
}

// A round trip json → redis → json → export → import → redis → json of all
// golden and real data: the same documents byte for byte in compact form, the
// same order in the file, times to live within a second (issue 5). What is
// not JSON stays in the files and is named at every step.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t)
	for _, file := range sampleFiles {
		dir, namespace, _ := sample(t, file)
		roundTrip(t, setOut(t, dir, namespace), dir, first.URL(), second.URL())
	}
}

// The same with what Python wrote into Redis, with its escapes.
func TestRoundTripOfPythonsRedis(t *testing.T) {
	t.Parallel()
	first, second, python := redistest.Start(t), redistest.Start(t), redistest.Start(t)
	written := make(map[string]string)
	for line := range bytes.Lines(testData(t, "golden", "redis.ndjson")) {
		var entry struct{ Key, Value string }
		require.NoError(t, json.Unmarshal(line, &entry))
		require.NoError(t, python.Client().Set(t.Context(), entry.Key, entry.Value, 0).Err())
		written[entry.Key] = compact(t, []byte(entry.Value))
	}
	dir := t.TempDir()
	files := openFiles(t, dir, "golden")
	_, err := kvmove.Migrate(t.Context(), files, openRedisStore(t, redisCfg(python.URL()), "golden"), kvmove.Options{Mirror: true})
	require.NoError(t, err)
	require.NoError(t, files.Close())
	tr := setOut(t, dir, "golden")
	require.Len(t, tr.ids, len(written))
	for id, value := range tr.values {
		require.Equal(t, written["nano_graphrag:golden:"+id], value)
	}
	roundTrip(t, tr, dir, first.URL(), second.URL())
}

func roundTrip(t *testing.T, tr *traveller, dir, first, second string) {
	tr.toRedis(t, first, dir)
	tr.fromRedis(t, first, dir)

	var stream bytes.Buffer
	exports, err := kvmove.Export(t.Context(), &stream, opens(t, tr.config("", dir)), tr.namespace)
	require.NoError(t, err)
	require.Len(t, exports, 1)
	require.Equal(t, len(tr.ids), exports[0].Documents)
	require.ElementsMatch(t, tr.corrupt, exports[0].Refused)
	copied := t.TempDir()
	imports, err := kvmove.Import(t.Context(), bytes.NewReader(stream.Bytes()), opens(t, tr.config("", copied)), kvmove.IfEmpty)
	require.NoError(t, err)
	require.Equal(t, []kvmove.ImportReport{{Namespace: tr.namespace, Documents: len(tr.ids), Stored: len(tr.ids)}}, imports)

	tr.toRedis(t, second, copied)
	tr.fromRedis(t, second, copied)
	ids, values := members(t, fileOf(t, copied, tr.namespace))
	require.Equal(t, tr.ids, ids)
	for id, value := range values {
		require.Equal(t, tr.values[id], compact(t, value))
	}
	if len(tr.corrupt) == 0 {
		require.Equal(t, string(fileOf(t, copied, tr.namespace)), string(fileOf(t, dir, tr.namespace)))
	}
}

// A doomed store's documents all end at one moment.
type doomed struct {
	*plainStore
	end time.Time
}

func (s doomed) TTL(context.Context, string) (time.Duration, error) { return time.Until(s.end), nil }

func (s doomed) UpsertTTL(ctx context.Context, items map[string]json.RawMessage, _ time.Duration) error {
	return s.Upsert(ctx, items)
}

// slowWriter takes long for every write, as a pipe to a slow host does.
type slowWriter struct{ bytes.Buffer }

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Minute)
	return w.Buffer.Write(p)
}

// An export that its reader keeps waiting has the moments at which documents
// expire, and not those moments and the waiting.
func TestExportToASlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := doomed{newPlain(nil), time.Now().Add(24 * time.Hour)}
		for i := range 500 {
			s.docs[fmt.Sprint("id-", i)] = json.RawMessage(`"` + strings.Repeat("x", 4<<10) + `"`)
		}
		var stream slowWriter
		_, err := kvmove.Export(t.Context(), &stream, func(context.Context, string) (kv.Store, error) { return s, nil }, "docs")
		require.NoError(t, err)
		require.Greater(t, time.Until(s.end), time.Hour)
		require.Less(t, time.Until(s.end), 24*time.Hour-4*time.Minute)
		expires := regexp.MustCompile(`"expires":(\d+)`).FindAllStringSubmatch(stream.String(), -1)
		require.Len(t, expires, 500)
		for _, m := range expires {
			require.Equal(t, fmt.Sprint(s.end.UnixMilli()), m[1])
		}
	})
}
