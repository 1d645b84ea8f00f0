package kv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvmove"
)

// A swing is one service that goes back and forth between files and Redis.
type swing struct {
	t      *testing.T
	server *redistest.Server
	dir    string
	cfg    kv.Config
}

func newSwing(t *testing.T, opts ...redistest.Option) *swing {
	w := &swing{t: t, server: redistest.Start(t, opts...), dir: t.TempDir()}
	w.cfg = importCfg(w.server.URL(), w.dir)
	return w
}

// files and redis use the namespace there, and close it.
func (w *swing) files(use func(s builtin)) { w.with(kv.Config{WorkingDir: w.dir}, use) }
func (w *swing) redis(use func(s builtin)) { w.with(w.cfg, use) }

func (w *swing) with(cfg kv.Config, use func(s builtin)) {
	w.t.Helper()
	s, err := kv.Open(w.t.Context(), cfg, "docs", quietly())
	require.NoError(w.t, err)
	use(s.(builtin))
	require.NoError(w.t, s.Close())
}

// age makes all files of a directory some hours newer, or older.
func age(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		at := time.Now().Add(by)
		require.NoError(t, os.Chtimes(filepath.Join(dir, e.Name()), at, at))
	}
}

func (w *swing) put(s kv.Store, id, value string) {
	w.t.Helper()
	require.NoError(w.t, s.Upsert(w.t.Context(), map[string]json.RawMessage{id: json.RawMessage(value)}))
}

func (w *swing) remove(s kv.Store, id string) {
	w.t.Helper()
	_, err := s.Delete(w.t.Context(), id)
	require.NoError(w.t, err)
}

func (w *swing) have(want map[string]string) func(builtin) {
	return func(s builtin) { w.t.Helper(); require.Equal(w.t, want, documents(w.t, s)) }
}

// migrate copies between the two, as the command does, with nobody's import.
func (w *swing) migrate(to string, opts kvmove.Options) kvmove.Report {
	w.t.Helper()
	cfg := w.cfg
	cfg.NoMigrate = true
	there := openRedisStore(w.t, cfg, "docs", quietly())
	files, err := kv.Open(w.t.Context(), kv.Config{WorkingDir: w.dir, TTL: w.cfg.TTL}, "docs", quietly())
	require.NoError(w.t, err)
	src, dst := files, kv.Store(there)
	if to == "json" {
		src, dst = dst, src
	}
	r, err := kvmove.Migrate(w.t.Context(), dst, src, opts)
	require.NoError(w.t, err)
	require.Equal(w.t, !opts.DryRun, r.Verified)
	require.NoError(w.t, files.Close())
	return r
}

// counts is what of a report says what was done with documents.
func counts(r kvmove.Report) kvmove.Report {
	return kvmove.Report{DryRun: r.DryRun, Copied: r.Copied, Same: r.Same, Skipped: r.Skipped, Overwritten: r.Overwritten,
		Removed: r.Removed, Expired: r.Expired, Refused: r.Refused, TTLKept: r.TTLKept, Verified: r.Verified}
}

// The same bytes under another time, in another directory, from a backup, and
// on 20 hosts: what was deleted in Redis does not come back, and neither does
// what was dropped. (Issue 14, line 1.)
func TestMergeOfTheSameFilesRaisesNothing(t *testing.T) {
	t.Parallel()
	w := newSwing(t)
	w.files(func(s builtin) { w.put(s, "a", "1"); w.put(s, "b", "2") })
	w.redis(func(s builtin) { w.remove(s, "a") })
	old := t.TempDir()
	require.NoError(t, os.CopyFS(old, os.DirFS(w.dir)))
	age(t, w.dir, time.Hour)
	w.redis(w.have(map[string]string{"b": "2"}))
	w.redis(func(s builtin) { require.NoError(t, s.Drop(t.Context())) })
	for i := range 20 {
		w.dir = t.TempDir()
		w.cfg.WorkingDir = w.dir
		require.NoError(t, os.CopyFS(w.dir, os.DirFS(old)))
		if i%2 == 1 {
			age(t, w.dir, -time.Duration(i)*time.Hour)
		}
		w.redis(w.have(map[string]string{}))
	}
}

// An older copy of the files changes nothing, whether it was seen before or is
// older by its own time; a missing file changes nothing either.
func TestMergeOfAnOlderCopyChangesNothing(t *testing.T) {
	t.Parallel()
	w := newSwing(t)
	w.files(func(s builtin) { w.put(s, "a", "1"); w.put(s, "gone", "1") })
	w.redis(func(builtin) {})
	old := t.TempDir()
	require.NoError(t, os.CopyFS(old, os.DirFS(w.dir)))
	w.files(func(s builtin) { w.put(s, "a", "2"); w.remove(s, "gone") })
	age(t, w.dir, time.Hour)
	w.redis(w.have(map[string]string{"a": "2", "gone": "1"}))
	w.redis(func(s builtin) { w.remove(s, "gone") })
	now := map[string]string{"a": "2"}

	require.NoError(t, os.RemoveAll(w.dir))
	w.redis(w.have(now))
	require.NoError(t, os.CopyFS(w.dir, os.DirFS(old)))
	age(t, w.dir, 2*time.Hour)
	w.redis(w.have(now))
	writeDocument(t, w.dir, "docs", `{"a": 0, "never": 1}`)
	age(t, w.dir, -24*time.Hour)
	book := new(testkit.LogBook)
	require.Equal(t, now, documents(t, openRedisStore(t, w.cfg, "docs", kv.WithLogger(book.Logger()))))
	require.Len(t, book.Warnings(), 1)
	require.Contains(t, book.Warnings()[0], "the files are older than those")
	w.redis(w.have(now))
}

// What the files' era has written goes to Redis at the next switch, updates
// as well as new documents. (Line 2.)
func TestMergeOfTheFilesEra(t *testing.T) {
	t.Parallel()
	w := newSwing(t)
	w.files(func(s builtin) {
		for _, id := range []string{"kept", "updated", "both", "removed", "deleted"} {
			w.put(s, id, "1")
		}
	})
	w.redis(func(s builtin) { w.put(s, "both", `"redis"`); w.remove(s, "deleted"); w.put(s, "new", `"redis"`) })
	w.files(func(s builtin) {
		w.put(s, "updated", "2")
		w.put(s, "both", `"files"`)
		w.put(s, "more", "3")
		w.remove(s, "removed")
	})
	book := new(testkit.LogBook)
	s := openRedisStore(t, w.cfg, "docs", kv.WithLogger(book.Logger()))
	want := map[string]string{"kept": "1", "updated": "2", "both": `"redis"`, "removed": "1", "new": `"redis"`, "more": "3"}
	require.Equal(t, want, documents(t, s))
	require.Contains(t, book.Text(), "imported=1 equal=0 conflicts=1 left=0 expired=0 updated=1 unchanged=2")
	require.Contains(t, book.Text(), "documents that the files do not have any more stay in Redis")
}

// While a json worker has the files, opening on Redis fails at once and says
// who it is, or waits for it as an option; then nothing of it is missing. Off
// is the way round. (Line 3.)
func TestMergeBesideAJSONWorker(t *testing.T) {
	t.Parallel()
	w := newSwing(t)
	w.files(func(s builtin) { w.put(s, "a", "1") })
	worker, err := kv.Open(t.Context(), kv.Config{WorkingDir: w.dir}, "docs", quietly())
	require.NoError(t, err)
	_, err = kv.Open(t.Context(), w.cfg, "docs", quietly())
	require.ErrorIs(t, err, kv.ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("held by pid %d", os.Getpid()))
	require.ErrorContains(t, err, "STORAGE_KV_MIGRATE=off")
	require.Empty(t, testkit.AllKeys(t, w.server.Client()))
	off := w.cfg
	off.NoMigrate = true
	w.with(off, w.have(map[string]string{}))

	waits := w.cfg
	waits.MigrateWait = true
	brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = kv.Open(brief, waits, "docs", quietly())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "held by pid")
	book := new(testkit.LogBook)
	opened := testkit.InBackground(func() error {
		s, err := kv.Open(t.Context(), waits, "docs", kv.WithLogger(book.Logger()))
		if err == nil {
			err = s.Close()
		}
		return err
	})
	require.NoError(t, testkit.Await(func() bool { return strings.Contains(book.Text(), "waiting for the process that has the files") }))
	w.put(worker, "a", "2")
	require.NoError(t, worker.Close())
	require.NoError(t, <-opened)
	w.redis(w.have(map[string]string{"a": "2"}))
}

// A migration to files after services wrote to them again removes nothing of
// theirs and replaces nothing; what was removed from Redis goes from the files
// as well. (Line 4.)
func TestMigrateInTheWrongOrder(t *testing.T) {
	t.Parallel()
	w := newSwing(t)
	w.files(func(s builtin) {
		for _, id := range []string{"kept", "file", "redis", "both", "deleted"} {
			w.put(s, id, "1")
		}
	})
	w.redis(func(s builtin) {
		w.put(s, "redis", "2")
		w.put(s, "both", "2")
		w.put(s, "new in Redis", "2")
		w.remove(s, "deleted")
	})
	w.files(func(s builtin) { w.put(s, "file", "3"); w.put(s, "both", "3"); w.put(s, "new in the file", "3") })
	dry := w.migrate("json", kvmove.Options{DryRun: true})
	r := w.migrate("json", kvmove.Options{})
	want := kvmove.Report{Copied: 1, Overwritten: 1, Removed: 1, Same: 1, Skipped: 1, Verified: true}
	require.Equal(t, want, counts(r))
	require.Equal(t, 2, r.AheadInFile)
	require.Equal(t, []string{"both"}, r.SkippedIDs)
	require.NotEmpty(t, r.Previous)
	want.Verified, want.DryRun = false, true
	require.Equal(t, want, counts(dry), "a dry run says what the run does")
	require.Equal(t, 2, dry.AheadInFile)
	have := map[string]string{"kept": "1", "file": "3", "redis": "2", "both": "3", "new in Redis": "2", "new in the file": "3"}
	w.files(w.have(have))
	w.migrate("json", kvmove.Options{OnConflict: kvmove.Keep})
	w.redis(w.have(have)) // Nothing is open, and all comes.
	r = w.migrate("json", kvmove.Options{})
	require.Equal(t, kvmove.Report{Same: 6, Verified: true}, counts(r))
}

// What lived for ever in the files stays there though its copy in Redis has
// expired. (Line 4, expiry.)
func TestMigrateAfterExpiry(t *testing.T) {
	t.Parallel()
	w := newSwing(t)
	w.cfg.TTL = map[string]time.Duration{"docs": 300 * time.Millisecond}
	writeDocument(t, w.dir, "docs", `{"a": 1, "b": 2}`)
	w.redis(func(s builtin) { require.Len(t, documents(t, s), 2) })
	require.NoError(t, testkit.Await(func() bool {
		n, err := w.server.Client().Exists(t.Context(), "nano_graphrag:docs:a", "nano_graphrag:docs:b").Result()
		return err == nil && n == 0
	}))
	w.redis(func(s builtin) {
		require.Empty(t, documents(t, s))
		require.NoError(t, s.UpsertTTL(t.Context(), map[string]json.RawMessage{"c": json.RawMessage("3")}, 0))
	})
	r := w.migrate("json", kvmove.Options{})
	require.Equal(t, kvmove.Report{Copied: 1, Verified: true}, counts(r))
	require.Equal(t, 2, r.AheadInFile)
	w.files(w.have(map[string]string{"a": "1", "b": "2", "c": "3"}))
	w.redis(w.have(map[string]string{"c": "3"}))
}

// A migration to Redis remembers what it has brought: what somebody deletes
// later, in whatever language, is not raised by the next Open. (Line 5.)
func TestMigrateLeavesABase(t *testing.T) {
	t.Parallel()
	for _, mirror := range []bool{false, true} {
		w := newSwing(t)
		w.files(func(s builtin) { w.put(s, "a", "1"); w.put(s, "b", "2") })
		r := w.migrate("redis", kvmove.Options{Mirror: mirror})
		require.Equal(t, 2, r.Copied)
		require.NoError(t, w.server.Client().Del(t.Context(), "nano_graphrag:docs:a").Err())
		age(t, w.dir, time.Hour)
		w.redis(w.have(map[string]string{"b": "2"}))
		r = w.migrate("redis", kvmove.Options{})
		require.Equal(t, kvmove.Report{Same: 1, Verified: true}, counts(r))
		require.Equal(t, 1, r.AheadInRedis)
		w.files(func(s builtin) { w.put(s, "c", "3"); w.remove(s, "b") })
		r = w.migrate("redis", kvmove.Options{})
		require.Equal(t, 1, r.AheadInFile, "b was removed from the files")
		w.redis(w.have(map[string]string{"b": "2", "c": "3"}))
		dry := w.migrate("redis", kvmove.Options{Delete: true, DryRun: true})
		require.Equal(t, 1, dry.Removed)
		require.Equal(t, 1, w.migrate("redis", kvmove.Options{Delete: true}).Removed)
		w.redis(w.have(map[string]string{"c": "3"}))
	}
}

// A record of the version before, which had no base, is understood once: files
// that it knows are not imported again, and others are a first time.
func TestMergeAfterTheVersionBefore(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		w := newSwing(t)
		writeDocument(t, w.dir, "docs", `{"a": 1, "b": 2}`)
		state := "another"
		if known {
			state = oldState(t, w.dir)
		}
		require.NoError(t, w.server.Client().Set(t.Context(), importRecordKey, `{"version":1,"imports":[{"state":"`+state+`","total":2}]}`, 0).Err())
		require.NoError(t, w.server.Client().Set(t.Context(), "nano_graphrag:docs:b", `2`, 0).Err())
		want := map[string]string{"b": "2"}
		if !known {
			want["a"] = "1"
		}
		w.redis(w.have(want))
		require.Equal(t, 2, recordOf(t, w.server.Client(), "docs").Count)
		age(t, w.dir, time.Hour)
		w.redis(w.have(want))
	}
}

// A server that is killed in the middle of a merge, and is back from an older
// snapshot a second later, has everything in the end. (Line 7.)
func TestMergeWhileRedisGoesBack(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"while documents are written", "before the base is written"} {
		w := newSwing(t, redistest.Arg("--save", "3600 1"))
		docs := testkit.Numbered(3000)
		fillFiles(t, w.dir, "docs", docs)
		o, err := redis.ParseURL(w.server.URL())
		require.NoError(t, err)
		o.MaxRetries, o.ContextTimeoutEnabled = -1, true
		client := redis.NewClient(o)
		defer client.Close()
		back := func() {
			w.server.Kill()
			w.server.Restart()
		}
		save := func() { require.NoError(t, w.server.Client().Save(t.Context()).Err()) }
		if when == "while documents are written" {
			client.AddHook(&afterPipelines{n: 2, do: save})
			client.AddHook(&afterPipelines{n: 5, do: back})
		} else {
			client.AddHook(&afterPipelines{n: 2, do: save})
			client.AddHook(&beforeCommand{name: "set", holds: importRecordKey[:20], do: back})
		}
		book := new(testkit.LogBook)
		cfg := w.cfg
		for range 5 { // What a service does whose start fails.
			var s kv.Store
			if s, err = kv.Open(t.Context(), cfg, "docs", kv.WithRedisClient(client), kv.WithLogger(book.Logger())); err == nil {
				require.NoError(t, s.Close())
				break
			}
			require.ErrorIs(t, err, kv.ErrUnavailable)
		}
		require.NoError(t, err)
		w.redis(w.have(texts(docs)))
		require.Equal(t, 3000, recordOf(t, w.server.Client(), "docs").Count, when)
	}
}

// beforeCommand does something once, before a command of a name whose second
// argument begins with some text.
type beforeCommand struct {
	name, holds string
	do          func()
	done        bool
}

func (h *beforeCommand) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *beforeCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !h.done && cmd.Name() == h.name && strings.HasPrefix(fmt.Sprint(cmd.Args()[1]), h.holds) {
			h.done = true
			h.do()
		}
		return next(ctx, cmd)
	}
}

func (h *beforeCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Times to live travel as they are, "for ever" included: a default is only for
// documents that Python wrote, of which the files say nothing. (Line 8.)
func TestMergeKeepsForEver(t *testing.T) {
	t.Parallel()
	w := newSwing(t)
	lives := map[string]time.Duration{"docs": time.Hour}
	w.cfg.TTL = lives
	files := func(use func(s builtin)) { w.with(kv.Config{WorkingDir: w.dir, TTL: lives}, use) }
	ttls := func(want map[string]time.Duration) func(builtin) {
		return func(s builtin) {
			t.Helper()
			for id, ttl := range want {
				left, err := s.TTL(t.Context(), id)
				require.NoError(t, err)
				require.InDelta(t, ttl, left, float64(time.Minute), id)
			}
		}
	}
	writeDocument(t, w.dir, "docs", `{"python": 1}`)
	files(func(s builtin) {
		require.NoError(t, s.UpsertTTL(t.Context(), testkit.One("ever", "1"), 0))
		require.NoError(t, s.UpsertTTL(t.Context(), testkit.One("brief", "1"), 10*time.Minute))
		w.put(s, "default", "1")
	})
	files(func(s builtin) { require.NoError(t, s.Flush(t.Context())) }) // Python's is written once more, too.
	want := map[string]time.Duration{"python": time.Hour, "ever": 0, "brief": 10 * time.Minute, "default": time.Hour}
	w.redis(ttls(want))

	w.redis(func(s builtin) {
		require.NoError(t, s.UpsertTTL(t.Context(), testkit.One("ever, in Redis", "1"), 0))
	})
	w.migrate("json", kvmove.Options{})
	require.NoError(t, w.server.Client().FlushAll(t.Context()).Err())
	want["ever, in Redis"] = 0
	w.redis(ttls(want))
}

// A copy in files of another directory, made while the services stay on Redis,
// is no common state of the files that they came from: what those have from
// before does not take the place of what Redis has learned.
func TestMigrateToACopyIsNoBase(t *testing.T) {
	t.Parallel()
	for _, mirror := range []bool{false, true} {
		w := newSwing(t)
		w.files(func(s builtin) { w.put(s, "a", "1"); w.put(s, "b", "1") })
		w.redis(func(s builtin) { w.put(s, "a", "2") })
		own := w.dir
		w.dir = filepath.Join(t.TempDir(), "copy")
		for range 2 {
			w.migrate("json", kvmove.Options{Mirror: mirror})
			w.files(w.have(map[string]string{"a": "2", "b": "1"}))
		}
		w.dir = own
		w.files(func(s builtin) { w.put(s, "b", "2") })
		w.redis(w.have(map[string]string{"a": "2", "b": "2"}))
	}
}

// oldState is how the version before knew the files of a directory.
func oldState(t *testing.T, dir string) string {
	t.Helper()
	l, err := jsonstore.LookAt(dir, "docs")
	require.NoError(t, err)
	state, err := l.OldState()
	require.NoError(t, err)
	return state
}
