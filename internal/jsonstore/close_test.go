//go:build unix

package jsonstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/testkit"
)

// endsWell is what a call may return that is under way when its store closes.
func endsWell(err error) bool {
	return err == nil || errors.Is(err, fault.ErrClosed) || errors.Is(err, fault.ErrNotFound)
}

// reliability.md, "Promises": what was acknowledged is there, and a store may
// be closed while it is used: calls under way end as if they had come before
// or after, and nothing panics.
func TestJSONCloseUnderLoad(t *testing.T) {
	t.Parallel()
	for range 1000 / testkit.Stride() {
		closeUnderLoad(t)
		if t.Failed() {
			return
		}
	}
}

func closeUnderLoad(t *testing.T) {
	ctx := t.Context()
	files := crashfs.New()
	_, s := memStore(t, files, policyNo)
	require.NoError(t, s.Upsert(ctx, testkit.One("seed", "1")))
	start := make(chan struct{})
	var wg sync.WaitGroup
	call := func(f func() error) {
		wg.Go(func() {
			<-start
			if err := f(); !endsWell(err) {
				assert.NoError(t, err)
			}
		})
	}
	var acknowledged [4]atomic.Bool
	for i := range acknowledged {
		call(func() error {
			err := s.Upsert(ctx, testkit.One(idOf(i), "1"))
			acknowledged[i].Store(err == nil)
			return err
		})
		call(func() error { _, err := s.Get(ctx, "seed"); return err })
		call(func() error { _, err := s.GetMany(ctx, []string{"seed", idOf(i)}); return err })
	}
	for range 64 {
		call(func() error { return s.Flush(ctx) })
	}
	call(s.Close)
	close(start)
	wg.Wait()
	require.Zero(t, files.Handles())
	require.Equal(t, []string{documentName}, files.Names())
	text, _ := files.Bytes(documentName)
	var documents map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &documents))
	for i := range acknowledged {
		require.Equal(t, acknowledged[i].Load(), documents[idOf(i)] != nil, "acknowledged, or not, and in the file, or not")
	}
}

// reliability.md, "A compaction": one that fails leaves at most one journal
// more, however often, so that neither descriptors nor files run out.
func TestJSONFailedFlushesAreBounded(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(crashfs.Op) bool{
		"no room for the document file": func(op crashfs.Op) bool { return op.Kind == "create" && op.Name == documentName+".tmp" },
		"no sync of the document file":  func(op crashfs.Op) bool { return op.Kind == "sync" && op.Name == documentName+".tmp" },
		"no rename":                     func(op crashfs.Op) bool { return op.Kind == "rename" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, failingFlushes(t, fault, nil))
		})
	}
}

// failingFlushes flushes often in vain. The engine may be changed before each.
func failingFlushes(t *testing.T, fault func(crashfs.Op) bool, change func(*Engine)) error {
	ctx := t.Context()
	files := crashfs.New()
	e, s := memStore(t, files, policyNo)
	files.SetHook(func(op crashfs.Op) error {
		if fault(op) {
			return syscall.ENOSPC
		}
		return nil
	})
	for i := range 2000 / testkit.Stride() {
		require.NoError(t, s.Upsert(ctx, testkit.One(idOf(i%100), fmt.Sprint(i))))
		if change != nil {
			change(e)
		}
		require.ErrorIs(t, s.Flush(ctx), syscall.ENOSPC)
	}
	handles, names := files.Handles(), len(files.Names())
	files.SetHook(nil)
	require.NoError(t, s.Flush(ctx))
	require.Len(t, files.Names(), 2, "the document file and one journal")
	require.NoError(t, s.Close())
	require.Zero(t, files.Handles())
	_, s = memStore(t, files, policyNo)
	require.Len(t, collect(t, s), 100)
	require.NoError(t, s.Close())
	if handles > 2 || names > 2 {
		return fmt.Errorf("%d files, of which %d are open, after Flushes that failed", names, handles)
	}
	return nil
}

// The same where an fsync has failed, after which the journal of every
// announcement fails, too, and cannot be removed.
func TestJSONFailedFlushesOfAFailedStore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	files := crashfs.New()
	_, s := memStore(t, files, policyAlways)
	require.NoError(t, s.Upsert(ctx, testkit.One("a", "1")))
	syncs := make(map[string]int)
	files.SetHook(func(op crashfs.Op) error {
		switch {
		case op.Kind == "create":
			syncs[op.Name] = 0
		case op.Kind == "sync" && op.Name == journalName, op.Kind == "remove":
			return syscall.EIO
		case op.Kind == "sync":
			if syncs[op.Name]++; syncs[op.Name] > 1 { // The announcement.
				return syscall.EIO
			}
		}
		return nil
	})
	require.ErrorIs(t, s.Upsert(ctx, testkit.One("a", "2")), syscall.EIO)
	for range 2000 / testkit.Stride() {
		require.ErrorIs(t, s.Flush(ctx), syscall.EIO)
	}
	require.LessOrEqual(t, files.Handles(), 3)
	require.LessOrEqual(t, len(files.Names()), 4)
	files.SetHook(nil)
	require.NoError(t, s.Flush(ctx))
	require.NoError(t, s.Close())
	require.Equal(t, []string{documentName}, files.Names())
	require.Zero(t, files.Handles())
}

// holdUp makes the first operation that is matched wait, and reports it.
func holdUp(files *crashfs.FS, match func(crashfs.Op) bool) (entered, release chan struct{}) {
	entered, release = make(chan struct{}), make(chan struct{})
	var once sync.Once
	files.SetHook(func(op crashfs.Op) error {
		if match(op) {
			once.Do(func() { close(entered); <-release })
		}
		return nil
	})
	return entered, release
}

func writesDocument(op crashfs.Op) bool {
	return op.Kind == "create" && op.Name == documentName+".tmp"
}

// The same, for a Flush that waits while the last compaction runs.
func TestJSONFlushDuringClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := crashfs.New()
		_, s := memStore(t, files, policyNo)
		require.NoError(t, s.Upsert(t.Context(), testkit.One("a", "1")))
		entered, release := holdUp(files, func(op crashfs.Op) bool { return op.Kind == "rename" })
		first := testkit.InBackground(func() error { return s.Flush(t.Context()) })
		<-entered
		waiting := testkit.InBackground(func() error { return s.Flush(t.Context()) })
		synctest.Wait()
		closed := testkit.InBackground(s.Close)
		synctest.Wait()
		close(release)
		require.NoError(t, <-first)
		if err := <-waiting; err != nil {
			require.ErrorIs(t, err, fault.ErrClosed)
		}
		require.NoError(t, <-closed)
		require.Equal(t, []string{documentName}, files.Names())
	})
	synctest.Test(t, func(t *testing.T) { require.NoError(t, flushWhileClosing(t, nil)) })
}

// flushWhileClosing is a Flush that has begun before Close and waits for its
// turn until the last journal is removed, when the engine may be changed by who
// has its compactor.
func flushWhileClosing(t *testing.T, change func(*compactor)) error {
	files := crashfs.New()
	e, s := memStore(t, files, policyNo)
	require.NoError(t, s.Upsert(t.Context(), testkit.One("a", "1")))
	c := <-e.compactor
	c.yield()
	entered, release := holdUp(files, func(op crashfs.Op) bool { return op.Kind == "remove" })
	closed := testkit.InBackground(s.Close)
	<-entered
	waiting := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				waiting <- fmt.Errorf("Flush panics: %v", p)
			}
		}()
		waiting <- e.Flush(t.Context())
	}()
	synctest.Wait()
	if change != nil {
		change(c)
		synctest.Wait()
	}
	close(release)
	require.NoError(t, <-closed)
	if err := <-waiting; !errors.Is(err, fault.ErrClosed) {
		return fmt.Errorf("a Flush of a closed store: %v", err)
	}
	if _, err := e.Get(t.Context(), "a"); !errors.Is(err, fault.ErrClosed) {
		return fmt.Errorf("a Get that began before Close: %v", err)
	}
	return nil
}

// kv.go, "Flush": many at once share the work. Each begins after what it is to
// keep, so that the one under way and one more are enough for all.
func TestJSONFlushesAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		files := crashfs.New()
		e, s := memStore(t, files, policyNo)
		require.NoError(t, s.Upsert(ctx, testkit.One("a", "1")))
		entered, release := holdUp(files, writesDocument)
		var wg sync.WaitGroup
		flush := func() { assert.NoError(t, s.Flush(ctx)) }
		wg.Go(flush)
		<-entered
		for i := range 128 {
			require.NoError(t, s.Upsert(ctx, testkit.One(idOf(i), "1")))
			wg.Go(func() {
				flush()
				assert.NoError(t, s.Upsert(ctx, testkit.One(idOf(i), "2"))) // There is always something to write.
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		require.Equal(t, int64(2), e.compactions.Load())
		require.NoError(t, s.Close())
	})
}
