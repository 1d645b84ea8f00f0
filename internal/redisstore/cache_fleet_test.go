package redisstore

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

const (
	writerEnv  = "KV_TEST_CACHE_WRITER" // carries the URL of the server to a child
	writerIDs  = 20
	writerTime = 4 * time.Second
)

// A written is one acknowledged write, and when that was.
type written struct {
	ID, N int
	At    time.Time
}

// TestClientCacheWriter is the process that writes: to each document in turn
// the numbers from 1 on.
func TestClientCacheWriter(t *testing.T) {
	url := os.Getenv(writerEnv)
	if url == "" {
		t.Skip("is run by the tests of the client-side cache")
	}
	s := openEngine(t, cached(url), "docs")
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	lines := json.NewEncoder(out)
	for n, end := 1, time.Now().Add(writerTime); time.Now().Before(end); n++ {
		for id := range writerIDs {
			err := s.Upsert(t.Context(), map[string]json.RawMessage{fmt.Sprint(id): json.RawMessage(fmt.Sprint(n))})
			require.NoError(t, err)
			require.NoError(t, lines.Encode(written{id, n, time.Now()}))
		}
		time.Sleep(20 * time.Millisecond) // So that the reader's cache has hits.
	}
}

// Sightings are the numbers that documents were seen with.
type sightings struct {
	mu   sync.Mutex
	last [writerIDs]map[int]time.Time // by number: when the last read of it began
}

// watch reads the documents until the context is done.
func (w *sightings) watch(ctx context.Context, s *enginetest.Store) error {
	for i := 0; ctx.Err() == nil; i++ {
		id := i % writerIDs
		began, n := time.Now(), 0
		value, err := s.Get(context.Background(), fmt.Sprint(id))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(value, &n); err != nil {
			return err
		}
		w.mu.Lock()
		if w.last[id] == nil {
			w.last[id] = make(map[int]time.Time)
		}
		if began.After(w.last[id][n]) {
			w.last[id][n] = began
		}
		w.mu.Unlock()
		if i%100 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// oldest returns how long what was read had been replaced, at the most, when
// the read began.
func (w *sightings) oldest(writes []written) (most time.Duration) {
	for _, next := range writes {
		if seen, ok := w.last[next.ID][next.N-1]; ok {
			most = max(most, seen.Sub(next.At))
		}
	}
	return most
}

// follow runs a writer beside some readers of this process. It returns what
// was written, and how old what was read has been.
func follow(t *testing.T, s *enginetest.Store, server *redistest.Server, meanwhile func()) ([]written, time.Duration) {
	for id := range writerIDs {
		require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{fmt.Sprint(id): json.RawMessage(`0`)}))
		warm(t, s, fmt.Sprint(id))
	}
	child := exec.Command(os.Args[0], "-test.run=^TestClientCacheWriter$", "-test.timeout=60s")
	child.Env = append(os.Environ(), writerEnv+"="+server.URL())
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())

	ctx, cancel := context.WithCancel(t.Context())
	var seen sightings
	failed := make(chan error, 4)
	for range cap(failed) {
		go func() { failed <- seen.watch(ctx, s) }()
	}
	meanwhile()
	var writes []written
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var w written
		if json.Unmarshal(lines.Bytes(), &w) == nil && w.N > 0 {
			writes = append(writes, w)
		}
	}
	cancel()
	for range cap(failed) {
		require.NoError(t, <-failed)
	}
	require.NoError(t, child.Wait())
	require.NotEmpty(t, writes)
	return writes, seen.oldest(writes)
}

// What one process reads while another writes, and while its connections are
// killed, is never older than a moment; when the writer rests, it is the last.
func TestClientCacheTwoProcesses(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openEngine(t, cached(server.URL()), "docs")
	writes, oldest := follow(t, s, server, func() {
		for range 3 {
			time.Sleep(writerTime / 8)
			require.NoError(t, testkit.KillTCP(t.Context(), server))
		}
	})
	stats := figures(s)
	t.Logf("%d writes; what was read had been replaced for %v at the most; %+v", len(writes), oldest, stats)
	require.Less(t, oldest, testkit.Slack)
	require.Greater(t, stats.CacheHits, stats.CacheMisses)
	require.Positive(t, stats.CacheInvalidations)
	last := make(map[int]int)
	for _, w := range writes {
		last[w.ID] = w.N
	}
	for id, n := range last {
		shows(t, s, fmt.Sprint(id), fmt.Sprint(n))
	}
}

// The same finds out a cache that does not hear of writes.
func TestClientCacheTwoProcessesCatchesDeafness(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openEngine(t, cached(deafen(t, server)), "docs")
	_, oldest := follow(t, s, server, func() {})
	t.Logf("what was read had been replaced for %v at the most", oldest)
	require.Greater(t, oldest, testkit.Slack)
}
