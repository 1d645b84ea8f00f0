//go:build unix

package jsonstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/testkit"
)

// reliability.md, "Promises": everysec loses the last second, also when the
// disk hangs. Once the oldest write that is not on it is two seconds old,
// writers wait, each as long as its context allows.
func TestJSONEverySecondWaitsForAHangingSync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { require.NoError(t, hangingSync(t, nil)) })
}

// hangingSync writes while a sync hangs. The engine may be changed before the
// writes that have to wait.
func hangingSync(t *testing.T, change func(*Engine)) error {
	ctx := t.Context()
	files := crashfs.New()
	e, s := memStore(t, files, policyEverySec)
	require.NoError(t, s.Upsert(ctx, testkit.One("a", "1")))
	entered, release := holdUp(files, func(op crashfs.Op) bool { return op.Kind == "sync" && op.Name == journalName })
	<-entered // A second later.
	require.NoError(t, s.Upsert(ctx, testkit.One("b", "1")), "the disk may still keep up")
	time.Sleep(syncLate)
	if change != nil {
		change(e)
	}
	upsert := func(id string) error {
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return s.Upsert(brief, testkit.One(id, "1"))
	}
	first := upsert("c")
	var waiting []<-chan error
	for _, id := range []string{"d", "e", "f"} {
		waiting = append(waiting, testkit.InBackground(func() error { return s.Upsert(ctx, testkit.One(id, "1")) }))
	}
	behind := upsert("g")
	time.Sleep(time.Minute)
	meanwhile := collect(t, s)
	close(release)
	for _, done := range waiting {
		require.NoError(t, <-done)
	}
	time.Sleep(syncEvery)
	synctest.Wait()
	_, after := memStore(t, files.Crash(crashfs.Nothing, 0), policyEverySec)
	durable := collect(t, after)
	require.NoError(t, after.Close())
	require.NoError(t, s.Close())
	switch {
	case !errors.Is(first, context.DeadlineExceeded):
		return fmt.Errorf("a write that has to wait: %v", first)
	case !errors.Is(behind, context.DeadlineExceeded):
		return fmt.Errorf("a write behind others that wait: %v", behind)
	case !slices.Equal(meanwhile, []string{"a", "b"}):
		return fmt.Errorf("%v was acknowledged in a minute", meanwhile)
	case !slices.Equal(durable, []string{"a", "b", "d", "e", "f"}):
		return fmt.Errorf("%v is durable", durable)
	}
	return nil
}

// The same, if the sync fails in the end: those who waited are told.
func TestJSONEverySecondWaitsForAFailingSync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := crashfs.New()
		_, s := memStore(t, files, policyEverySec)
		require.NoError(t, s.Upsert(t.Context(), testkit.One("a", "1")))
		files.SetHook(func(op crashfs.Op) error {
			if op.Kind == "sync" && op.Name == journalName {
				time.Sleep(10 * time.Second)
				return syscall.EIO
			}
			return nil
		})
		time.Sleep(5 * time.Second)
		require.ErrorIs(t, s.Upsert(t.Context(), testkit.One("b", "1")), syscall.EIO)
		files.SetHook(nil)
		require.NoError(t, s.Close())
		require.Equal(t, []string{documentName}, files.Names())
	})
}

// withBadBit returns the files with one bit turned in a value.
func withBadBit(t *testing.T, files *crashfs.FS, name, value string) *crashfs.FS {
	after := files.Crash(crashfs.Everything, 0)
	journal, _ := after.Bytes(name)
	at := bytes.Index(journal, []byte(value))
	require.Positive(t, at)
	journal[at] ^= 1
	after.Put(name, journal)
	return after
}

// reliability.md, "Opening": a bad record that had been synced is damage, and
// not the end of what a crash has left, though nothing was written after it.
func TestJSONDamageBehindTheLastSync(t *testing.T) {
	t.Parallel()
	for _, policy := range []Policy{policyAlways, policyEverySec} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { require.NoError(t, damageBehindSync(t, policy, nil)) })
		})
	}
}

// damageBehindSync turns a bit of what was written last, long after it was
// synced. The engine may be changed after the write.
func damageBehindSync(t *testing.T, policy Policy, change func(*Engine)) error {
	files := crashfs.New()
	e, s := memStore(t, files, policy)
	items := make(map[string]json.RawMessage)
	for i := range 1000 {
		items[idOf(i)] = json.RawMessage(`"some text"`)
	}
	require.NoError(t, s.Upsert(t.Context(), items))
	if change != nil {
		change(e)
	}
	time.Sleep(2 * syncEvery)
	synctest.Wait()
	content, _ := files.Bytes(journalName)
	time.Sleep(time.Minute)
	idle, _ := files.Bytes(journalName)
	require.Equal(t, content, idle, "one mark is enough")

	bad := withBadBit(t, files, journalName, "some text")
	content, _ = bad.Bytes(journalName)
	require.NoError(t, s.Close())
	e, _, _, err := openMem(bad)
	if err == nil {
		require.NoError(t, e.discard())
	}
	if err := wasRefused(bad, err, journalName, content); err != nil {
		return err
	}

	// The mark itself may be cut short, or be lost, like anything.
	for cut := range 1 + markSize {
		after := crashfs.New()
		after.Put(journalName, idle[:len(idle)-cut])
		e, s, _, err := openMem(after)
		if err != nil {
			return err
		}
		if n := len(collect(t, s)); n != 1000 {
			return fmt.Errorf("%d documents without %d bytes of the mark", n, cut)
		}
		require.NoError(t, e.discard())
	}
	return nil
}

// markSize is that of the record that a sync leaves.
const markSize = 12 + 1 + identitySize

// The same for a journal that another follows, in which nothing is yet.
func TestJSONDamageBeforeAnEmptyJournal(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	e, s := memStore(t, files, policyNo)
	require.NoError(t, s.Upsert(t.Context(), testkit.One("a", `"some text"`)))
	files.SetHook(func(op crashfs.Op) error {
		if strings.HasSuffix(op.Name, ".tmp") {
			return syscall.ENOSPC
		}
		return nil
	})
	require.ErrorIs(t, s.Flush(t.Context()), syscall.ENOSPC)
	bad := withBadBit(t, files, journalName, "some text")
	content, _ := bad.Bytes(journalName)
	_, _, _, err := openMem(bad)
	require.NoError(t, wasRefused(bad, err, journalName, content))
	require.NoError(t, e.discard())
}

// A compaction announces its snapshot in the turn of a writer, and syncs the
// announcement outside of it: a slow disk then has the writers of "no" wait
// for nothing, and it is what they have written that goes to the disk with it.
func TestJSONWritesWhileTheAnnouncementIsSynced(t *testing.T) {
	t.Parallel()
	ctx, files := t.Context(), crashfs.New()
	_, s := memStore(t, files, policyNo)
	require.NoError(t, s.Upsert(ctx, testkit.One("a", "1")))
	written := false
	entered, release := holdUp(files, func(op crashfs.Op) bool {
		written = written || op.Kind == "sync" && op.Name == documentName+".tmp"
		return written && op.Kind == "sync" && strings.HasPrefix(op.Name, "kv_store_t.journal.")
	})
	flushed := testkit.InBackground(func() error { return s.Flush(ctx) })
	<-entered
	patient, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	require.NoError(t, s.Upsert(patient, testkit.One("b", "1")), "in the turn of the announcement")
	close(release)
	require.NoError(t, <-flushed)
	require.NoError(t, s.Close())
}
