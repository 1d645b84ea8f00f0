package kv_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/firstuse"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// importCfg is that of a worker on a server, with files in dir.
func importCfg(url, dir string) kv.Config {
	cfg := redisCfg(url)
	cfg.WorkingDir = dir
	return cfg
}

// fillFiles writes documents to the files of a namespace.
func fillFiles(t *testing.T, dir, namespace string, docs map[string]json.RawMessage) {
	t.Helper()
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: dir}, namespace)
	require.NoError(t, err)
	require.NoError(t, s.Upsert(t.Context(), docs))
	require.NoError(t, s.Close())
}

// writeDocument writes a document file, newer than the one before it.
func writeDocument(t *testing.T, dir, namespace, text string) {
	t.Helper()
	path := filepath.Join(dir, "kv_store_"+namespace+".json")
	at := time.Now()
	if info, err := os.Stat(path); err == nil {
		at = info.ModTime().Add(time.Second)
	}
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	require.NoError(t, os.Chtimes(path, at, at))
}

// A listing is all that can be told of a directory: names, times, contents.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		files[entry.Name()] = fmt.Sprint(info.ModTime().UnixNano(), info.Mode(), string(text))
	}
	return files
}

// pendingFiles makes files as a killed process leaves them: a document file,
// times to live, and a journal that continues them.
func pendingFiles(t *testing.T, dir string) (docs map[string]json.RawMessage) {
	t.Helper()
	docs = testkit.Numbered(1200)
	fillFiles(t, dir, "docs", docs)
	alive, err := kv.Open(t.Context(), kv.Config{WorkingDir: dir}, "docs")
	require.NoError(t, err)
	own := alive.(builtin)
	brief := map[string]json.RawMessage{"brief": json.RawMessage(`"x"`), "gone": json.RawMessage(`"y"`)}
	require.NoError(t, own.UpsertTTL(t.Context(), brief, time.Hour))
	require.NoError(t, alive.Flush(t.Context()))
	require.NoError(t, own.UpsertTTL(t.Context(), map[string]json.RawMessage{"over": json.RawMessage(`1`)}, time.Millisecond))
	_, err = alive.Delete(t.Context(), "id-7", "gone")
	require.NoError(t, err)
	require.NoError(t, alive.Upsert(t.Context(), map[string]json.RawMessage{"id-8": json.RawMessage(`"new"`), "journal: é": json.RawMessage(`[ 1 ]`)}))
	copied := t.TempDir()
	require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
	require.NoError(t, alive.Close())
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.CopyFS(dir, os.DirFS(copied)))
	require.FileExists(t, filepath.Join(dir, "kv_store_docs.ttl"))
	delete(docs, "id-7")
	docs["brief"], docs["id-8"], docs["journal: é"] = brief["brief"], json.RawMessage(`"new"`), json.RawMessage(`[1]`)
	return docs
}

// documents returns all documents of a store, in compact form.
func documents(t *testing.T, s kv.Store) map[string]string {
	t.Helper()
	docs := make(map[string]string)
	for _, id := range listed(t, s) {
		value, err := s.Get(t.Context(), id)
		if errors.Is(err, kv.ErrCorrupt) {
			continue
		}
		require.NoError(t, err)
		var b bytes.Buffer
		require.NoError(t, json.Compact(&b, value))
		docs[id] = b.String()
	}
	return docs
}

func texts(docs map[string]json.RawMessage) map[string]string {
	all := make(map[string]string, len(docs))
	for id, value := range docs {
		all[id] = string(value)
	}
	return all
}

// The keys of the imports into a namespace, and how many states of files are
// remembered in the record.
const (
	importRecordKey = "kv-import:{nano_graphrag:docs}"
	importLeaseKey  = "kv-lease:{nano_graphrag:docs}:" + importRecordKey
	importStates    = 16
)

// An importRecord is what stands in Redis about imports.
type importRecord struct {
	Imports []importedFiles
	Partial *importedFiles
}

type importedFiles struct {
	Imported, Equal, Position int
	Digest                    digest.Set
}

// recordOf returns what stands in Redis about imports.
func recordOf(t *testing.T, c redis.UniversalClient, namespace string) importRecord {
	t.Helper()
	text, err := c.Get(t.Context(), "kv-import:{nano_graphrag:"+namespace+"}").Bytes()
	require.NoError(t, err)
	var r importRecord
	require.NoError(t, json.Unmarshal(text, &r))
	return r
}

// The first use of a namespace imports what is in the files, pending journals
// and remaining times to live included, before any read can miss. Nothing in
// the directory is created or written.
func TestImportBeforeTheFirstRead(t *testing.T) {
	servers := map[string]func(t *testing.T) string{
		"standalone": func(t *testing.T) string { return redistest.Start(t).URL() },
		"cluster":    func(t *testing.T) string { return redistest.StartCluster(t, 3, 0).URL() },
		"sentinel":   func(t *testing.T) string { return redistest.StartSentinel(t, 1, 1).URL() },
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, book := t.TempDir(), new(testkit.LogBook)
			docs := pendingFiles(t, dir)
			before := filesIn(t, dir)
			require.NoError(t, os.Chmod(dir, 0o500))
			t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
			cfg := importCfg(start(t), dir)
			s := openRedisStore(t, cfg, "docs", kv.WithLogger(book.Logger()))
			require.Equal(t, texts(docs), documents(t, s))
			left, err := s.TTL(t.Context(), "brief")
			require.NoError(t, err)
			require.InDelta(t, time.Hour, left, float64(time.Minute), "the remaining time")
			left, err = s.TTL(t.Context(), "id-8")
			require.NoError(t, err)
			require.Zero(t, left)
			require.Equal(t, before, filesIn(t, dir))
			require.Empty(t, book.Warnings())
			require.Contains(t, book.Text(), "imported=1201 equal=0 conflicts=0 left=0 expired=1")
			require.NotContains(t, book.Text(), "id-8")
		})
	}
}

// An unchanged file is not imported again: what was deleted stays deleted. A
// changed one is compared: missing ids are added, conflicts counted and left.
func TestImportOfChangedFiles(t *testing.T) {
	t.Parallel()
	server, dir, other := redistest.Start(t), t.TempDir(), t.TempDir()
	cfg := importCfg(server.URL(), dir)
	open := func(cfg kv.Config) (builtin, *testkit.LogBook) {
		book := new(testkit.LogBook)
		return openRedisStore(t, cfg, "docs", kv.WithLogger(book.Logger())), book
	}
	require.NoError(t, server.Client().Set(t.Context(), "nano_graphrag:docs:first", `"redis"`, 0).Err())
	writeDocument(t, dir, "docs", `{"a": {"n":  1.0}, "b": 2, "first": "redis"}`)
	s, book := open(cfg)
	require.Contains(t, book.Text(), "imported=2 equal=1 conflicts=0")
	_, err := s.Delete(t.Context(), "a")
	require.NoError(t, err)

	s, book = open(cfg)
	require.Equal(t, map[string]string{"b": "2", "first": `"redis"`}, documents(t, s))
	require.Empty(t, book.Text())

	require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{"b": json.RawMessage(`"newer"`)}))
	writeDocument(t, dir, "docs", `{"a": {"n":  1.0}, "b": 2, "first": "redis", "c": 3}`)
	s, book = open(cfg)
	require.Equal(t, map[string]string{"a": `{"n":1.0}`, "b": `"newer"`, "c": "3", "first": `"redis"`}, documents(t, s))
	require.Contains(t, book.Text(), "imported=2 equal=1 conflicts=1")
	require.Len(t, book.Warnings(), 1)
	require.Contains(t, book.Warnings()[0], "documents have another value in Redis")
	require.Contains(t, book.Warnings()[0], "documents=1")
	require.Contains(t, book.Warnings()[0], "kv verify")

	// Workers on two hosts, with files of their own, do not make each other compare.
	writeDocument(t, other, "docs", `{"c": 3}`)
	_, book = open(importCfg(server.URL(), other))
	require.Contains(t, book.Text(), "imported=0 equal=1")
	for _, again := range []string{dir, other, dir} {
		_, book = open(importCfg(server.URL(), again))
		require.Empty(t, book.Text())
	}
	for i := range importStates + 4 {
		writeDocument(t, other, "docs", strings.Repeat(" ", i)+`{}`)
		open(importCfg(server.URL(), other))
	}
	require.Len(t, recordOf(t, server.Client(), "docs").Imports, importStates)
}

// Redis's value wins, and what has no time to live gets the namespace's.
func TestImportKeepsWhatRedisHas(t *testing.T) {
	server, dir := redistest.Start(t), t.TempDir()
	require.NoError(t, server.Client().Set(t.Context(), "nano_graphrag:llm_response_cache:a", `"redis"`, 0).Err())
	require.NoError(t, server.Client().Set(t.Context(), "nano_graphrag:llm_response_cache:broken", `{`, 0).Err())
	writeDocument(t, dir, "llm_response_cache", `{"a": "file", "b": "file", "broken": 1}`)
	book := new(testkit.LogBook)
	s := openRedisStore(t, importCfg(server.URL(), dir), "llm_response_cache", kv.WithLogger(book.Logger()))
	require.Contains(t, book.Text(), "imported=1 equal=0 conflicts=2")
	value, err := s.Get(t.Context(), "a")
	require.NoError(t, err)
	require.JSONEq(t, `"redis"`, string(value))
	for id, want := range map[string]time.Duration{"a": 0, "b": 12 * time.Hour} {
		ttl, err := s.TTL(t.Context(), id)
		require.NoError(t, err)
		require.InDelta(t, want, ttl, float64(time.Minute))
	}
}

// Documents that are not JSON, or over a limit, are counted and left behind
// with one warning; the rest goes.
func TestImportLeavesWhatIsNotJSON(t *testing.T) {
	server, dir, book := redistest.Start(t), t.TempDir(), new(testkit.LogBook)
	long, big := strings.Repeat("i", engine.MaxIDBytes+1), strings.Repeat("v", 100)
	writeDocument(t, dir, "docs", fmt.Sprintf(`{"a": 1, "nan": [NaN], "inf": -Infinity, %q: 1, "big": %q, "z": {"x":     2}}`, long, big))
	cfg := importCfg(server.URL(), dir)
	cfg.MaxValueBytes = 50
	s := openRedisStore(t, cfg, "docs", kv.WithLogger(book.Logger()))
	require.Equal(t, map[string]string{"a": "1", "z": `{"x":2}`}, documents(t, s))
	value, err := s.Get(t.Context(), "z")
	require.NoError(t, err)
	require.Equal(t, `{"x":2}`, string(value), "white space is the file's layout")
	require.Contains(t, book.Text(), "imported=2 equal=0 conflicts=0 left=4")
	require.Len(t, book.Warnings(), 1)
	require.Contains(t, book.Warnings()[0], "documents of the files are not in Redis")
	require.Contains(t, book.Warnings()[0], "documents=4")
	require.Contains(t, book.Warnings()[0], "kv doctor")
}

// Files that cannot be imported keep the namespace closed, and Redis as it
// is; the error says how to do without them.
func TestImportOfDamagedFiles(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	damage := map[string]func(t *testing.T, dir string){
		"half a file": func(t *testing.T, dir string) { writeDocument(t, dir, "docs", `{"a": 1, "b"`) },
		"an array":    func(t *testing.T, dir string) { writeDocument(t, dir, "docs", `[]`) },
		"a directory": func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(filepath.Join(dir, "kv_store_docs.json"), 0o700))
		},
		"a journal": func(t *testing.T, dir string) {
			pendingFiles(t, dir)
			writeDocument(t, dir, "docs", `{"another": "file"}`)
		},
	}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			do(t, dir)
			cfg := importCfg(server.URL(), dir)
			_, err := kv.Open(t.Context(), cfg, "docs")
			require.ErrorContains(t, err, "STORAGE_KV_MIGRATE=off")
			require.ErrorContains(t, err, dir)
			if name != "a directory" {
				require.ErrorIs(t, err, kv.ErrCorrupt)
			}
			require.Empty(t, testkit.AllKeys(t, server.Client()))
			cfg.NoMigrate = true
			openRedisStore(t, cfg, "docs")
		})
	}
}

// Nothing is imported, looked for or created where it was turned off, the
// store is read-only, or there are no files of the namespace.
func TestImportOfNothing(t *testing.T) {
	server, dir := redistest.Start(t), t.TempDir()
	writeDocument(t, dir, "docs", `{"a": 1}`)
	writeDocument(t, dir, "docs.more", `{"a": 1}`)
	off := importCfg(server.URL(), dir)
	off.NoMigrate = true
	missing := importCfg(server.URL(), filepath.Join(dir, "none"))
	openRedisStore(t, off, "docs")
	openRedisStore(t, importCfg(server.URL(), dir), "docs", kv.WithReadOnly())
	openRedisStore(t, missing, "docs")
	openRedisStore(t, importCfg(server.URL(), dir), "doc")
	require.Empty(t, testkit.AllKeys(t, server.Client()))
	require.Zero(t, testkit.ServerCalls(t, server.Client(), "get"), "the fast path asks the server nothing")
	require.NoDirExists(t, missing.WorkingDir)
}

// An Open that ends early leaves an import that the next one goes on with,
// where the first has stopped.
func TestImportResumes(t *testing.T) {
	t.Parallel()
	server, dir, book := redistest.Start(t), t.TempDir(), new(testkit.LogBook)
	docs := testkit.Numbered(3000)
	fillFiles(t, dir, "docs", docs)
	o, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	o.MaxRetries, o.ContextTimeoutEnabled = -1, true
	client := redis.NewClient(o)
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	client.AddHook(&afterPipelines{n: 5, do: cancel})
	_, err = kv.Open(ctx, importCfg(server.URL(), dir), "docs", kv.WithRedisClient(client))
	require.ErrorIs(t, err, context.Canceled)
	record := recordOf(t, server.Client(), "docs")
	require.Empty(t, record.Imports)
	require.Positive(t, record.Partial.Position)
	require.Equal(t, 1, strings.Count(strings.Join(testkit.AllKeys(t, server.Client()), "\n"), "kv-"), "the lease was given back")

	s := openRedisStore(t, importCfg(server.URL(), dir), "docs", kv.WithLogger(book.Logger()))
	require.Equal(t, texts(docs), documents(t, s))
	require.Contains(t, book.Text(), fmt.Sprintf("total=3000 done=%d", record.Partial.Position))
	final := recordOf(t, server.Client(), "docs")
	require.Nil(t, final.Partial)
	require.Equal(t, 3000, final.Imports[0].Imported+final.Imports[0].Equal)

	// The digest is that of an import in one go.
	var whole digest.Set
	for id, value := range docs {
		whole.Add(new(digest.Spelling).Hash(id, value))
	}
	is := final.Imports[0].Digest
	require.Equal(t, whole.String(), is.String())
}

// afterPipelines does something after so many pipelines have been answered.
type afterPipelines struct {
	n  int64
	do func()

	seen atomic.Int64
}

func (h *afterPipelines) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h *afterPipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *afterPipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if h.seen.Add(1) == h.n {
			h.do()
		}
		return err
	}
}

// The others wait while one imports, within their context, say once for
// whom, and take over when its lease ends.
func TestImportWaits(t *testing.T) {
	t.Parallel()
	server, dir, book := redistest.Start(t), t.TempDir(), new(testkit.LogBook)
	writeDocument(t, dir, "docs", `{"a": 1}`)
	require.NoError(t, server.Client().Set(t.Context(), importLeaseKey, "token 4711 elsewhere", time.Minute).Err())
	record := `{"version":1,"imports":[],"partial":{"position":3,"total":9}}`
	require.NoError(t, server.Client().Set(t.Context(), importRecordKey, record, 0).Err())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	ctx = firstuse.WithLife(ctx, 100*time.Millisecond)
	_, err := kv.Open(ctx, importCfg(server.URL(), dir), "docs", kv.WithLogger(book.Logger()))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "process 4711 on elsewhere, which has imported 3 of 9 documents")
	require.Equal(t, 1, strings.Count(book.Text(), "\n"))
	require.Contains(t, book.Text(), "host=elsewhere pid=4711 done=3 total=9")
	require.NoError(t, server.Client().PExpire(t.Context(), importLeaseKey, 50*time.Millisecond).Err())
	s := openRedisStore(t, importCfg(server.URL(), dir), "docs")
	require.Equal(t, map[string]string{"a": "1"}, documents(t, s))
}

// Files, Redis, writes, and back by the variable alone: the files are as they
// were, byte for byte (issue 5, rollback), with everything Python wrote.
func TestImportAndBackByTheVariable(t *testing.T) {
	golden := testkit.GoldenData(t, "kv_store_golden.json")
	dir, server := t.TempDir(), redistest.Start(t)
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(os.Getenv("KV_TEST_DATA"), "dickens"))))
	for name, text := range map[string][]byte{"golden": golden, "odd": testkit.GoldenData(t, "kv_store_odd.json")} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "kv_store_"+name+".json"), text, 0o600))
	}
	found, err := filepath.Glob(filepath.Join(dir, "kv_store_*.json"))
	require.NoError(t, err)
	require.Len(t, found, 6)
	before := filesIn(t, dir)
	for _, path := range found {
		namespace := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "kv_store_"), ".json")
		files, err := kv.Open(t.Context(), kv.Config{WorkingDir: dir}, namespace, kv.WithReadOnly())
		require.NoError(t, err)
		want := documents(t, files)
		require.NoError(t, files.Close())
		require.NotEmpty(t, want)
		s := openRedisStore(t, importCfg(server.URL(), dir), namespace)
		require.Equal(t, want, documents(t, s), namespace)
		require.NoError(t, s.Upsert(t.Context(), testkit.Numbered(3)))
		_, err = s.Delete(t.Context(), listed(t, s)[0])
		require.NoError(t, err)
		back, err := kv.Open(t.Context(), kv.Config{WorkingDir: dir}, namespace)
		require.NoError(t, err)
		require.Equal(t, want, documents(t, back), namespace)
		require.NoError(t, back.Close())
	}
	after := filesIn(t, dir)
	maps.DeleteFunc(after, func(name, _ string) bool { return strings.HasSuffix(name, ".lock") }) // The json backend's.
	require.Equal(t, before, after)
}
