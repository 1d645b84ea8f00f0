//go:build unix

package kv_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/merge"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// importersEnv carries an importJob to a child.
const importersEnv = "KV_TEST_IMPORTERS"

// An importJob is what each worker of a fleet does: it opens the namespace
// and reads a sample at once.
type importJob struct {
	URL, Dir string
	Docs     int
	Sample   int
	Lease    time.Duration
}

// An importSight is what a worker saw.
type importSight struct {
	Missing, Wrong int
	Opened         time.Duration
	Log            string
}

func importID(i int) string { return fmt.Sprintf("chunk-%032x", i) }

func importValue(i int) string {
	return fmt.Sprintf(`{"tokens": %d, "content": %q, "chunk_order_index": %d, "doc_id": "doc-%d"}`,
		i, strings.Repeat(fmt.Sprint(i, " words "), 20), i, i/7)
}

// TestImportersChild is a worker of a fleet. It begins when its input ends.
func TestImportersChild(t *testing.T) {
	text := os.Getenv(importersEnv)
	if text == "" {
		t.Skip("is run by the tests of fleets")
	}
	var job importJob
	require.NoError(t, json.Unmarshal([]byte(text), &job))
	book := new(testkit.LogBook)
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	require.NoError(t, err)
	began := time.Now()
	s, err := kv.Open(merge.WithLife(t.Context(), job.Lease), importCfg(job.URL, job.Dir), "docs", kv.WithLogger(book.Logger()))
	require.NoError(t, err)
	defer s.Close()
	sight := importSight{Opened: time.Since(began), Log: book.Text()}
	var ids []string
	var want []json.RawMessage
	for range job.Sample {
		i := rand.IntN(job.Docs)
		ids, want = append(ids, importID(i)), append(want, json.RawMessage(importValue(i)))
	}
	values, err := s.GetMany(t.Context(), ids)
	require.NoError(t, err)
	for i, value := range values {
		switch {
		case value == nil:
			sight.Missing++
		case !new(digest.Spelling).Same(value, want[i]):
			sight.Wrong++
		}
	}
	line, err := json.Marshal(sight)
	require.NoError(t, err)
	fmt.Printf("report %s\n", line)
}

// importers is a fleet on one server with one directory.
type importers struct {
	t        *testing.T
	server   *redistest.Server
	job      importJob
	children []*testkit.Child
}

// startImporters starts workers at once, on an empty server.
func startImporters(t *testing.T, workers, docs int, lease time.Duration) *importers {
	f := &importers{t: t, server: redistest.Start(t)}
	f.job = importJob{URL: f.server.URL(), Dir: t.TempDir(), Docs: docs, Sample: 1000, Lease: lease}
	var file bytes.Buffer
	for i := range docs {
		fmt.Fprintf(&file, "%s\n  %q: %s", map[bool]string{true: "{", false: ","}[i == 0], importID(i), importValue(i))
	}
	file.WriteString("\n}")
	require.NoError(t, os.WriteFile(filepath.Join(f.job.Dir, "kv_store_docs.json"), file.Bytes(), 0o600))
	f.children = testkit.StartChildren(t, workers, "TestImportersChild", importersEnv, func(int) any { return f.job })
	for _, c := range f.children {
		c.Begin()
	}
	return f
}

// halfway waits until a tenth of the documents is there, and returns which of
// the workers imports.
func (f *importers) halfway() int {
	f.t.Helper()
	client := f.server.Client()
	require.NoError(f.t, testkit.Await(func() bool {
		n, err := client.DBSize(f.t.Context()).Result()
		return err == nil && int(n) > f.job.Docs/10
	}))
	holder, err := client.Get(f.t.Context(), importLeaseKey).Result()
	require.NoError(f.t, err)
	pid := strings.Fields(holder)[1] // After what makes it unique, and before the host.
	worker := slices.IndexFunc(f.children, func(c *testkit.Child) bool { return strconv.Itoa(c.Process.Pid) == pid })
	require.GreaterOrEqual(f.t, worker, 0)
	return worker
}

// sights waits for the workers that were not killed. None of them may have
// seen less than everything.
func (f *importers) sights(killed int) (sights []importSight) {
	f.t.Helper()
	for i, c := range f.children {
		var s importSight
		given, err := c.Report(&s)
		if i == killed {
			continue
		}
		require.NoError(f.t, err, "worker %d", i)
		require.True(f.t, given, "worker %d", i)
		require.NoError(f.t, c.Wait())
		require.Zero(f.t, s.Missing, "worker %d", i)
		require.Zero(f.t, s.Wrong, "worker %d", i)
		sights = append(sights, s)
	}
	return sights
}

// imports returns the log lines of the imports that were completed.
func imports(sights []importSight) (lines []string) {
	for _, s := range sights {
		for line := range strings.Lines(s.Log) {
			if strings.Contains(line, "imported the files") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// 8 worker processes start at once on an empty Redis with a directory of
// 100,000 documents (fewer with the race detector): it is imported exactly
// once, and nobody misses a document (issue 5).
func TestImportByAFleet(t *testing.T) {
	t.Parallel()
	docs := 100_000 / testkit.Stride()
	f := startImporters(t, 8, docs, 0)
	sights := f.sights(nobody)
	require.Len(t, imports(sights), 1)
	require.Contains(t, imports(sights)[0], fmt.Sprintf("imported=%d equal=0 conflicts=0 left=0", docs))
	sets := testkit.ServerCalls(t, f.server.Client(), "set")
	require.GreaterOrEqual(t, sets, docs)
	require.Less(t, sets, docs+100, "each document was sent once; the rest are leases and the record")
	waited := 0
	slowest := time.Duration(0)
	for _, s := range sights {
		slowest = max(slowest, s.Opened)
		if !strings.Contains(s.Log, "imported the files") {
			waited++
		}
	}
	require.Equal(t, 7, waited)
	t.Logf("8 workers, %d documents: %d SETs, the slowest Open took %v, %.0f documents/s", docs, sets, slowest, float64(docs)/slowest.Seconds())
}

// The importer is killed in the middle: another takes over, begins anew, and
// nobody misses a document.
func TestImportOfAKilledProcessIsTakenOver(t *testing.T) {
	t.Parallel()
	docs, lease := 100_000/testkit.Stride(), 2*time.Second
	f := startImporters(t, 8, docs, lease)
	victim := f.halfway()
	require.NoError(t, f.children[victim].Process.Kill())
	killed := time.Now()
	sights := f.sights(victim)
	require.Len(t, imports(sights), 1)
	require.Equal(t, docs, recordOf(t, f.server.Client(), "docs").Count)
	t.Logf("taken over and finished %v after the kill, with a lease of %v: %s", time.Since(killed), lease, imports(sights)[0])
}

// An importer that was stopped for longer than its lease, and goes on, brings
// nothing back that was deleted since another took over.
func TestImportOfAStoppedProcessResurrectsNothing(t *testing.T) {
	t.Parallel()
	docs, lease := 100_000/testkit.Stride(), time.Second
	f := startImporters(t, 1, docs, lease)
	require.Equal(t, 0, f.halfway())
	require.NoError(t, f.children[0].Process.Signal(syscall.SIGSTOP))
	book := new(testkit.LogBook)
	s := openRedisStore(t, importCfg(f.job.URL, f.job.Dir), "docs", kv.WithLogger(book.Logger()))
	require.Contains(t, book.Text(), "imported the files")
	require.Equal(t, docs, len(listed(t, s)))
	require.NoError(t, s.Drop(t.Context()))
	require.NoError(t, f.children[0].Process.Signal(syscall.SIGCONT))
	var sight importSight
	given, err := f.children[0].Report(&sight)
	require.NoError(t, err)
	require.True(t, given)
	require.Equal(t, f.job.Sample, sight.Missing, "it sees everything missing, as it should")
	require.Contains(t, sight.Log, "interrupted for longer than its lease")
	require.Empty(t, listed(t, s))
	for _, key := range testkit.AllKeys(t, f.server.Client()) {
		require.True(t, strings.HasPrefix(key, importRecordKey), "the record and its chunks, and nothing else: %s", key)
	}
}

// A Cluster keeps the lease and the record in one slot, and a fleet there
// imports once, too.
func TestImportByAFleetOnACluster(t *testing.T) {
	t.Parallel()
	dir, docs := t.TempDir(), testkit.Numbered(2000)
	fillFiles(t, dir, "docs", docs)
	cluster := redistest.StartCluster(t, 3, 0)
	errs, books := make(chan error, 4), make([]testkit.LogBook, 4)
	for i := range books {
		go func() {
			s, err := kv.Open(t.Context(), importCfg(cluster.URL(), dir), "docs", kv.WithLogger(books[i].Logger()))
			if err == nil {
				missing, _ := s.Missing(t.Context(), []string{"id-0", "id-1999"})
				if len(missing) > 0 {
					err = fmt.Errorf("%d missing", len(missing))
				}
				_ = s.Close()
			}
			errs <- err
		}()
	}
	done := 0
	for range books {
		require.NoError(t, <-errs)
	}
	for i := range books {
		done += strings.Count(books[i].Text(), "imported the files")
	}
	require.Equal(t, 1, done)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	defer client.Close()
	require.Equal(t, 2000, recordOf(t, client, "docs").Count)
}
