package kvmove_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvmove"
)

// sampleFiles are the document files that Python wrote.
var sampleFiles = []string{
	"golden/kv_store_golden.json", "golden/kv_store_odd.json",
	"dickens/kv_store_full_docs.json", "dickens/kv_store_text_chunks.json",
	"dickens/kv_store_community_reports.json", "dickens/kv_store_llm_response_cache.json",
}

// The promise of the switch: what Python wrote goes to Redis, with what is
// not JSON listed; the files stay as they are, byte for byte, so that the
// variable alone switches back; a mirror of what did not change changes
// nothing; and a new directory gets the same documents.
func TestMigrateSamples(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, file := range sampleFiles {
		dir, namespace, text := sample(t, file)
		files := closeable(t, kv.Config{WorkingDir: dir}, namespace)
		there := openRedisStore(t, redisCfg(server.URL()), namespace)
		r, err := kvmove.Migrate(t.Context(), there, files, kvmove.Options{})
		require.NoError(t, err, file)
		require.True(t, r.Verified, file)
		ids, values := []string(nil), map[string]json.RawMessage(nil)
		if namespace == "odd" {
			require.Equal(t, []string{"nan", "inf"}, r.RefusedIDs)
			require.Equal(t, 2, r.Copied)
		} else {
			ids, values = members(t, text)
			require.Equal(t, len(values), r.Copied, file)
			require.Zero(t, r.Refused, file)
		}
		again, err := kvmove.Migrate(t.Context(), there, files, kvmove.Options{})
		require.NoError(t, err, file)
		require.Equal(t, r.Copied, again.Same, file)
		require.Zero(t, again.Bytes, file)
		require.Equal(t, r.Source, again.Source, file)
		require.Equal(t, r.Source, again.Destination, file)
		require.NoError(t, files.Close())
		require.Equal(t, text, fileOf(t, dir, namespace), "switched back by the variable")

		files = closeable(t, kv.Config{WorkingDir: dir}, namespace)
		back, err := kvmove.Migrate(t.Context(), files, there, kvmove.Options{Mirror: true})
		require.NoError(t, err, file)
		require.NoError(t, files.Close())
		require.Equal(t, r.Copied, back.Same, file)
		require.Empty(t, back.Previous, file)
		require.Equal(t, text, fileOf(t, dir, namespace), "mirrored without a change")
		require.Equal(t, []string{"kv_store_" + namespace + ".json", "kv_store_" + namespace + ".lock"}, namesIn(t, dir))

		fresh := t.TempDir()
		files = closeable(t, kv.Config{WorkingDir: fresh}, namespace)
		_, err = kvmove.Migrate(t.Context(), files, there, kvmove.Options{Mirror: true})
		require.NoError(t, err, file)
		require.NoError(t, files.Close())
		if namespace == "odd" {
			continue
		}
		got, docs := members(t, fileOf(t, fresh, namespace))
		require.ElementsMatch(t, ids, got, file)
		require.IsIncreasing(t, got, file)
		for id, value := range values {
			require.Equal(t, compact(t, value), compact(t, docs[id]), file)
		}
	}
}

// The promise of the way back: what Redis learned is in the files, in the old
// order with new ids behind it, with its times to live; and the file of before
// is kept byte for byte.
func TestMigrateBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	dir, namespace, text := sample(t, "dickens/kv_store_text_chunks.json")
	ids, values := members(t, text)
	files := closeable(t, kv.Config{WorkingDir: dir}, namespace)
	there := openRedisStore(t, redisCfg(server.URL()), namespace)
	_, err := kvmove.Migrate(ctx, there, files, kvmove.Options{})
	require.NoError(t, err)
	require.NoError(t, files.Close())

	one := func(ids ...string) map[string]json.RawMessage {
		items := make(map[string]json.RawMessage)
		for _, id := range ids {
			items[id] = json.RawMessage(`{"content":"\u00e9"}`)
		}
		return items
	}
	require.NoError(t, there.Upsert(ctx, one("z", "b", ids[1])))
	require.NoError(t, there.UpsertTTL(ctx, one("a", ids[2]), time.Hour))
	_, err = there.Delete(ctx, ids[0])
	require.NoError(t, err)

	files = closeable(t, kv.Config{WorkingDir: dir}, namespace)
	r, err := kvmove.Migrate(ctx, files, there, kvmove.Options{Mirror: true})
	require.NoError(t, err)
	want := kvmove.Report{Copied: 3, Overwritten: 2, Removed: 1, Same: len(ids) - 3, Verified: true}
	require.Equal(t, want, counts(r))
	require.Equal(t, r.Source, r.Destination)
	require.NoError(t, files.Close())

	kept, err := os.ReadFile(filepath.Join(dir, r.Previous))
	require.NoError(t, err)
	require.Equal(t, text, kept)
	got, docs := members(t, fileOf(t, dir, namespace))
	require.Equal(t, append(ids[1:], "a", "b", "z"), got)
	for _, id := range got {
		if value, err := there.Get(ctx, id); err == nil {
			require.Equal(t, compact(t, value), compact(t, docs[id]))
		}
	}
	require.Equal(t, compact(t, values[ids[3]]), compact(t, docs[ids[3]]))
	files = closeable(t, kv.Config{WorkingDir: dir}, namespace)
	defer files.Close()
	v, err := kvmove.Verify(ctx, files, there)
	require.NoError(t, err)
	require.Empty(t, v.Differences)
}

// migrateEnv carries a migrateJob to a child.
const migrateEnv = "KV_TEST_MIGRATE"

// A migrateJob is one migration of a child process.
type migrateJob struct {
	URL, Dir string
	Back     bool // from Redis to the files
}

func (j migrateJob) run(t *testing.T) (kvmove.Report, error) {
	files := closeable(t, kv.Config{WorkingDir: j.Dir}, "docs")
	defer files.Close()
	there := closeable(t, redisCfg(j.URL), "docs")
	defer there.Close()
	if j.Back {
		return kvmove.Migrate(t.Context(), files, there, kvmove.Options{Mirror: true})
	}
	return kvmove.Migrate(t.Context(), there, files, kvmove.Options{})
}

// TestMigrateKillChild migrates once.
func TestMigrateKillChild(t *testing.T) {
	text := os.Getenv(migrateEnv)
	if text == "" {
		t.Skip("is run by TestMigrateKill")
	}
	var job migrateJob
	require.NoError(t, json.Unmarshal([]byte(text), &job))
	fmt.Println("ready")
	_, err := job.run(t)
	require.NoError(t, err)
}

// killed runs a migration that is killed some time after it began, and
// reports whether it had not come to its end.
func (j migrateJob) killed(t *testing.T, after time.Duration) bool {
	text, err := json.Marshal(j)
	require.NoError(t, err)
	child := exec.Command(os.Args[0], "-test.run=^TestMigrateKillChild$", "-test.timeout=60s")
	child.Env = append(os.Environ(), migrateEnv+"="+string(text))
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	_, err = out.Read(make([]byte, 64)) // Until it is ready.
	require.NoError(t, err)
	timer := time.AfterFunc(after, func() { _ = child.Process.Kill() })
	defer timer.Stop()
	return child.Wait() != nil
}

// A migration whose process is killed at any moment leaves the source as it
// was; in the files there is the old state or the new one; and another run
// completes it, after which both sides are equal.
func TestMigrateKill(t *testing.T) {
	if testing.Short() {
		t.Skip("many processes")
	}
	t.Parallel()
	server := redistest.Start(t)
	dir := t.TempDir()
	const n = 4000
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%c\"id-%d\":{\"n\":%d,\"text\":%q}", ",{"[min(1, max(0, 1-i))], i, i, strings.Repeat("é", i%400))
	}
	source := []byte(b.String() + "}")
	file := filepath.Join(dir, "kv_store_docs.json")
	require.NoError(t, os.WriteFile(file, source, 0o600))
	there := migrateJob{URL: server.URL(), Dir: dir}
	back := migrateJob{URL: server.URL(), Dir: dir, Back: true}
	rounds, cut := testkit.Soak("KV_SOAK_MIGRATE_KILLS", 16/min(testkit.Stride(), 2))/2, [2]int{}
	c := server.Client()
	for range rounds {
		require.NoError(t, c.FlushAll(t.Context()).Err())
		if there.killed(t, time.Duration(rand.IntN(150_000))*time.Microsecond) {
			cut[0]++
		}
		require.Equal(t, source, fileOf(t, dir, "docs"))
		r, err := there.run(t)
		require.NoError(t, err)
		require.Equal(t, n, r.Copied+r.Same)
		require.Equal(t, r.Source, r.Destination)
		require.Equal(t, source, fileOf(t, dir, "docs"))
	}
	for round := range rounds {
		old := filesState(t, dir)
		for i := range n { // Every document changes, and some come and go.
			key := fmt.Sprintf("nano_graphrag:docs:id-%d", (i+round*10)%(n+100))
			require.NoError(t, c.Set(t.Context(), key, fmt.Sprintf(`{"round":%d,"n":%d}`, round, i), 0).Err())
		}
		require.NoError(t, c.Del(t.Context(), fmt.Sprintf("nano_graphrag:docs:id-%d", round)).Err())
		if back.killed(t, time.Duration(rand.IntN(150_000))*time.Microsecond) {
			cut[1]++
		}
		seen := filesState(t, dir)
		r, err := back.run(t)
		require.NoError(t, err)
		require.Equal(t, r.Source, r.Destination)
		if seen != r.Destination {
			require.Equal(t, old, seen, "neither the old documents nor the new ones")
		}
		require.Equal(t, r.Destination, filesState(t, dir))
	}
	for _, name := range namesIn(t, dir) {
		require.NotContains(t, name, ".tmp")
	}
	t.Logf("%d and %d of %d were cut", cut[0], cut[1], rounds)
}

// filesState sums up what a directory has, without changing it.
func filesState(t *testing.T, dir string) kvmove.Contents {
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: dir}, "docs", kv.WithReadOnly(), kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer s.Close()
	r, err := kvmove.Verify(t.Context(), s, newPlain(nil))
	require.NoError(t, err)
	return r.A
}
