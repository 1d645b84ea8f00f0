//go:build unix

package jsonstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonscan"
	"github.com/ngraf/kv/internal/testkit"
)

// memStore is a store on a directory in memory.
func memStore(t *testing.T, files *crashfs.FS, policy Policy) (*Engine, *enginetest.Store) {
	e := newEngine(Options{Dir: "dir", Namespace: "t", Files: files, Policy: policy, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, e.recover(t.Context()))
	return e, enginetest.Wrap(e)
}

// A tally is what 64 goroutines did to the ids that they share.
type tally struct{ inserted, deleted atomic.Int64 }

// mix does one of everything, again and again.
func mix(t *testing.T, s *enginetest.Store, worker int, sum *tally) {
	ctx := t.Context()
	own := fmt.Sprintf("own-%d", worker)
	for i := range 60 {
		value := fmt.Sprintf(`{"worker":%d,"i":%d}`, worker, i)
		assert.NoError(t, s.Upsert(ctx, testkit.One(own, value)))
		got, err := s.Get(ctx, own)
		assert.NoError(t, err)
		assert.JSONEq(t, value, string(got))
		shared := fmt.Sprintf("shared-%d", (worker+i)%16)
		n, err := s.Insert(ctx, map[string]json.RawMessage{shared: json.RawMessage(value), own: json.RawMessage("0")})
		assert.NoError(t, err)
		sum.inserted.Add(int64(n))
		if i%3 == 0 {
			n, err := s.Delete(ctx, shared, "absent")
			assert.NoError(t, err)
			sum.deleted.Add(int64(n))
		}
		done, cancel := context.WithCancel(ctx)
		go cancel()
		err = s.Upsert(done, testkit.One(fmt.Sprintf("cancelled-%d", worker), value))
		assert.True(t, err == nil || errors.Is(err, context.Canceled), "%v", err)
		if got, err := s.Get(ctx, fmt.Sprintf("cancelled-%d", worker)); err == nil {
			assert.Contains(t, string(jsonscan.AppendCompact(nil, got)), fmt.Sprintf(`"worker":%d`, worker))
		}
		cancel()
	}
}

func TestJSONGroupCommit(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	e, s := memStore(t, files, policyAlways)
	e.auto.at = 32 << 10
	var sum tally
	var wg sync.WaitGroup
	for worker := range 64 {
		wg.Go(func() { mix(t, s, worker, &sum) })
	}
	wg.Wait()
	seen, err := observe(e, s)
	require.NoError(t, err)
	present := 0
	for id := range seen {
		if strings.HasPrefix(id, "shared-") {
			present++
		}
	}
	require.EqualValues(t, present, sum.inserted.Load()-sum.deleted.Load())
	for worker := range 64 {
		require.Equal(t, fmt.Sprintf(`{"worker":%d,"i":59}`, worker), seen[fmt.Sprintf("own-%d", worker)].value)
	}
	require.Positive(t, e.compactions.Load())
	require.NoError(t, s.Close())
	e, s = memStore(t, files.Crash(crashfs.Nothing, 0), policyAlways)
	after, err := observe(e, s)
	require.NoError(t, err)
	require.True(t, maps.Equal(seen, after))
	require.NoError(t, s.Close())
}

// TestJSONKeysMeanwhile lists while documents come and go and snapshots are
// written.
func TestJSONKeysMeanwhile(t *testing.T) {
	t.Parallel()
	_, s := memStore(t, crashfs.New(), policyNo)
	const n = 5000
	items := make(map[string]json.RawMessage)
	for i := range n {
		items[idOf(i)] = json.RawMessage("1")
	}
	require.NoError(t, s.Upsert(t.Context(), items))
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; i < n; i += 2 { // Only even ones go and come.
			_, err := s.Delete(t.Context(), idOf(i))
			assert.NoError(t, err)
			if i%4 == 0 {
				assert.NoError(t, s.Upsert(t.Context(), testkit.One(idOf(i), "2")))
			}
			if i%200 == 0 {
				assert.NoError(t, s.Flush(t.Context()))
			}
		}
	})
	for range 20 {
		seen := make(map[string]bool)
		for id, err := range s.Keys(t.Context()) {
			require.NoError(t, err)
			require.False(t, seen[id], "%s comes twice", id)
			seen[id] = true
		}
		for i := 1; i < n; i += 2 {
			require.True(t, seen[idOf(i)], "%s was there all the time", idOf(i))
		}
	}
	wg.Wait()
	require.NoError(t, s.Close())
}

func TestJSONOrderOfTheFile(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	files.Put(documentName, []byte(`{"z":0,"y":0}`))
	e, s := memStore(t, files, policyNo)
	ctx := t.Context()
	step := func(err error) { require.NoError(t, err) }
	step(s.Upsert(ctx, map[string]json.RawMessage{"m": raw("1"), "b": raw("1"), "é": raw("1"), "B": raw("1")}))
	step(s.Upsert(ctx, testkit.One("a", "1")))
	step(e.compact(ctx))
	step(s.Upsert(ctx, map[string]json.RawMessage{"z": raw("2"), "0": raw("2")}))
	_, err := s.Delete(ctx, "m")
	step(err)
	step(s.Upsert(ctx, testkit.One("m", "3")))
	step(s.Close())
	text, _ := files.Bytes(documentName)
	require.Equal(t, "{\n  \"z\": 2,\n  \"y\": 0,\n  \"B\": 1,\n  \"b\": 1,\n  \"é\": 1,\n  \"a\": 1,\n  \"0\": 2,\n  \"m\": 3\n}", string(text))
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

// TestJSONTimesToLiveOfOthers: an entry counts for the value that it was
// written for, however that is laid out, and for no other.
func TestJSONTimesToLiveOfOthers(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	_, s := memStore(t, files, policyNo)
	ctx := t.Context()
	require.NoError(t, s.UpsertTTL(ctx, map[string]json.RawMessage{"same": raw(`{"v":[1]}`), "new": raw("1"), "gone": raw("1")}, time.Hour))
	require.NoError(t, s.Close())
	files.Put(documentName, []byte(`{"new":2,"same":{"v" : [ 1 ] }}`))
	_, s = memStore(t, files, policyNo)
	ttl, err := s.TTL(ctx, "same")
	require.NoError(t, err)
	require.Positive(t, ttl)
	ttl, err = s.TTL(ctx, "new")
	require.NoError(t, err)
	require.Zero(t, ttl)
	_, err = s.Get(ctx, "gone")
	require.ErrorIs(t, err, fault.ErrNotFound)
	require.NoError(t, s.Upsert(ctx, testkit.One("same", `{"v":[1]}`)), "for ever from now on")
	require.NoError(t, s.Close())
	require.Equal(t, []string{documentName}, files.Names())
}

func TestJSONIdleFlushIsFree(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	_, s := memStore(t, files, policyAlways)
	require.NoError(t, s.Upsert(t.Context(), testkit.One("a", "1")))
	require.NoError(t, s.Flush(t.Context()))
	before := files.Ops()
	for range 3 {
		require.NoError(t, s.Flush(t.Context()))
	}
	_, err := s.Delete(t.Context(), "absent")
	require.NoError(t, err)
	require.NoError(t, s.Flush(t.Context()))
	require.Equal(t, before, files.Ops())
	require.NoError(t, s.Close())
}

// TestJSONGoesOnWhileCompacting: neither readers nor writers wait for a
// snapshot that takes its time.
func TestJSONGoesOnWhileCompacting(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	_, s := memStore(t, files, policyAlways)
	ctx := t.Context()
	require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"a": raw("1"), "b": raw("1"), "c": raw("1")}))
	entered, release := make(chan struct{}), make(chan struct{})
	files.SetHook(func(op crashfs.Op) error {
		if op.Kind == "write" && op.Name == documentName+".tmp" {
			close(entered)
			<-release
		}
		return nil
	})
	flushed := testkit.InBackground(func() error { return s.Flush(ctx) })
	<-entered
	require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"a": raw("2"), "d": raw("2")}))
	n, err := s.Delete(ctx, "b")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	values, err := s.GetMany(ctx, []string{"a", "b", "c", "d"})
	require.NoError(t, err)
	require.Equal(t, []json.RawMessage{raw("2"), nil, raw("1"), raw("2")}, values)
	brief, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Flush(brief), context.DeadlineExceeded, "a second flush waits, but not for ever")
	close(release)
	require.NoError(t, <-flushed)
	files.SetHook(nil)
	values, err = s.GetMany(ctx, []string{"a", "b", "c", "d"})
	require.NoError(t, err)
	require.Equal(t, []json.RawMessage{raw("2"), nil, raw("1"), raw("2")}, values)
	require.NoError(t, s.Close())
	text, _ := files.Bytes(documentName)
	require.Equal(t, "{\n  \"a\": 2,\n  \"c\": 1,\n  \"d\": 2\n}", string(text))
}

// TestJSONWaitsForTheSyncUnderWay: that another goroutine is about to sync a
// journal does not mean that it is synced.
func TestJSONWaitsForTheSyncUnderWay(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	e, s := memStore(t, files, policyEverySec)
	ctx := t.Context()
	require.NoError(t, s.Upsert(ctx, testkit.One("a", "1")))
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var created atomic.Bool
	files.SetHook(func(op crashfs.Op) error {
		switch {
		case op.Kind == "sync" && op.Name == journalName:
			once.Do(func() {
				close(entered)
				<-release
			})
		case op.Kind == "create" && op.Name == "kv_store_t.journal.2":
			created.Store(true)
		}
		return nil
	})
	timer := testkit.InBackground(e.syncLast)
	<-entered
	flushed := testkit.InBackground(func() error { return s.Flush(ctx) })
	select {
	case err := <-flushed:
		require.Fail(t, "flushed what is not synced", "%v", err)
	case <-time.After(20 * time.Millisecond):
		require.False(t, created.Load(), "writers may move on only when the old journal is on the disk")
	}
	close(release)
	require.NoError(t, <-timer)
	require.NoError(t, <-flushed)
	require.NoError(t, s.Upsert(ctx, testkit.One("b", "1")))
	require.NoError(t, e.syncLast())
	_, s2 := memStore(t, files.Crash(crashfs.Nothing, 0), policyEverySec)
	values, err := s2.GetMany(ctx, []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, []json.RawMessage{raw("1"), raw("1")}, values)
	require.NoError(t, errors.Join(s.Close(), s2.Close()))
}

// TestJSONFailedCompactionIsNotRepeated: when there is no room for a snapshot,
// not every write tries to make one, and begins another journal.
func TestJSONFailedCompactionIsNotRepeated(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	e, s := memStore(t, files, policyNo)
	e.auto.at = 1 << 10
	tries := atomic.Int64{}
	files.SetHook(func(op crashfs.Op) error {
		if op.Kind == "create" && op.Name == documentName+".tmp" {
			tries.Add(1)
			return syscall.ENOSPC
		}
		return nil
	})
	for i := range 2000 {
		require.NoError(t, s.Upsert(t.Context(), testkit.One(idOf(i), `"some text that fills the journal"`)))
	}
	e.auto.running.Wait()
	require.Positive(t, tries.Load())
	require.Less(t, len(files.Names()), 20)
	files.SetHook(nil)
	require.NoError(t, s.Flush(t.Context()))
	require.NoError(t, s.Close())
	require.Equal(t, []string{documentName}, files.Names())
}

// TestJSONLargeBatchFailsWhole: a batch that takes several writes to the
// journal, the last of which fails, leaves nothing.
func TestJSONLargeBatchFailsWhole(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	e, s := memStore(t, files, policyAlways)
	require.NoError(t, s.Upsert(t.Context(), testkit.One("a", "1")))
	items := make(map[string]json.RawMessage)
	for i := range 8 {
		items[idOf(i)] = valueOf(i, 500_000)
	}
	writes := 0
	files.SetHook(func(op crashfs.Op) error {
		if op.Kind == "write" {
			if writes++; writes == 3 {
				return crashfs.Short{Err: syscall.ENOSPC}
			}
		}
		return nil
	})
	require.ErrorIs(t, s.Upsert(t.Context(), items), fault.ErrUnavailable)
	require.Equal(t, 3, writes)
	for _, mode := range []crashfs.Mode{crashfs.Process, crashfs.Everything} {
		_, after := memStore(t, files.Crash(mode, 0), policyAlways)
		require.Equal(t, []string{"a"}, collect(t, after))
		require.NoError(t, after.Close())
	}
	require.NoError(t, s.Upsert(t.Context(), items), "there is room again")
	require.Len(t, collect(t, s), 9)
	require.NoError(t, e.discard())
	_, after := memStore(t, files.Crash(crashfs.Nothing, 0), policyAlways)
	require.Len(t, collect(t, after), 9)
	require.NoError(t, after.Close())
}

func collect(t *testing.T, s *enginetest.Store) (ids []string) {
	for id, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// TestJSONEverySecond: what was acknowledged is on the disk a second later,
// and so is what was acknowledged after that, in whatever journal.
func TestJSONEverySecond(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	_, s := memStore(t, files, policyEverySec)
	synced := make(chan string, 10)
	files.SetHook(func(op crashfs.Op) error {
		if op.Kind == "sync" && strings.Contains(op.Name, ".journal.") {
			synced <- op.Name
		}
		return nil
	})
	next := func() string {
		select {
		case name := <-synced:
			return name
		case <-time.After(10 * time.Second):
			require.Fail(t, "no sync")
			return ""
		}
	}
	require.NoError(t, s.Upsert(t.Context(), testkit.One("a", "1")))
	require.Equal(t, journalName, next(), "the new journal's header")
	require.Equal(t, journalName, next(), "a second later")
	require.NoError(t, s.Upsert(t.Context(), testkit.One("b", "1")))
	require.NoError(t, s.Flush(t.Context()))
	for len(synced) > 0 {
		<-synced
	}
	require.NoError(t, s.Upsert(t.Context(), testkit.One("c", "1")))
	require.Equal(t, "kv_store_t.journal.2", next(), "the second of b, and of c")
	require.Eventually(t, func() bool {
		_, after := memStore(t, files.Crash(crashfs.Nothing, 0), policyEverySec)
		defer after.Close()
		return slices.Equal([]string{"a", "b", "c"}, collect(t, after))
	}, 5*time.Second, 10*time.Millisecond)
	files.SetHook(nil)
	require.NoError(t, s.Close())
}
