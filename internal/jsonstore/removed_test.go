//go:build unix

package jsonstore

import (
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/testkit"
)

// reliability.md, "Promises": what was acknowledged is there. A journal that
// another program takes away would take it along: the write that comes next
// fails, Ping says so, and Close saves what there is.
func TestJSONRemovedJournal(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, take := range map[string]func(t *testing.T, files *crashfs.FS){
		"removed":  func(t *testing.T, files *crashfs.FS) { require.NoError(t, files.Remove(journalName)) },
		"renamed":  func(t *testing.T, files *crashfs.FS) { require.NoError(t, files.Rename(journalName, "elsewhere")) },
		"replaced": func(_ *testing.T, files *crashfs.FS) { files.Put(journalName, []byte("something")) },
	} {
		for _, look := range []string{"Upsert", "Ping"} {
			t.Run(name+", "+look, func(t *testing.T) {
				t.Parallel()
				files := crashfs.New()
				_, s := memStore(t, files, policyAlways)
				require.NoError(t, s.Upsert(ctx, testkit.One("a", "1")))
				require.NoError(t, s.Ping(ctx))
				take(t, files)
				if look == "Upsert" {
					require.ErrorIs(t, s.Upsert(ctx, testkit.One("b", "1")), fault.ErrUnavailable)
				}
				require.ErrorIs(t, s.Ping(ctx), fault.ErrUnavailable)
				require.ErrorContains(t, s.Ping(ctx), "dir/"+journalName)
				value, err := s.Get(ctx, "a")
				require.NoError(t, err)
				require.Equal(t, raw("1"), value)
				require.NoError(t, s.Close())
				if name == "replaced" { // Nobody else's data is touched.
					foreign, _ := files.Bytes(journalName)
					require.Equal(t, "something", string(foreign))
					require.NoError(t, files.Remove(journalName))
				}
				require.NotContains(t, files.Names(), journalName)
				_, s = memStore(t, files, policyAlways)
				require.Contains(t, collect(t, s), "a")
				require.NoError(t, s.Close())
			})
		}
	}
}

// kv.go: no memory given is kept. An id may be a piece of something large.
func TestJSONKeepsNoIDOfTheCaller(t *testing.T) {
	_, s := memStore(t, crashfs.New(), policyNo)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range 100 {
		large := strings.Repeat(idOf(i)+" ", 1<<17) // Some 900 KB.
		require.NoError(t, s.Upsert(t.Context(), testkit.One(large[:len(idOf(i))], "1")))
	}
	require.Less(t, int64(heap())-int64(before), int64(16<<20))
	require.NoError(t, s.Close())
}

// A file of times to live that was removed may come back as long as the
// directory was not synced, so that the next Flush removes it again.
func TestJSONRemovalOfTimesToLiveIsDurable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	files := crashfs.New()
	_, s := memStore(t, files, policyAlways)
	require.NoError(t, s.UpsertTTL(ctx, testkit.One("a", "1"), 1e12))
	require.NoError(t, s.Flush(ctx))
	require.NoError(t, s.Upsert(ctx, testkit.One("a", "1")))
	removed := false
	files.SetHook(func(op crashfs.Op) error {
		removed = removed || op.Kind == "remove" && op.Name == ttlName
		if removed && op.Kind == "sync" && op.Name == "." {
			return syscall.EIO
		}
		return nil
	})
	require.ErrorIs(t, s.Flush(ctx), syscall.EIO)
	require.True(t, removed)
	files.SetHook(nil)
	synced := false
	files.SetHook(func(op crashfs.Op) error {
		synced = synced || op.Kind == "sync" && op.Name == "."
		if op.Kind == "rename" && op.Name == documentName {
			require.True(t, synced, "the document file comes, and the old times to live may be there")
		}
		return nil
	})
	require.NoError(t, s.Flush(ctx))
	files.SetHook(nil)
	require.NoError(t, s.Close())
}

// The same for a journal that holds nothing, and that a compaction would put
// a new one in the place of.
func TestJSONReplacedEmptyJournal(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	files := crashfs.New()
	_, s := memStore(t, files, policyAlways)
	require.NoError(t, s.Upsert(ctx, testkit.One("a", "1")))
	files.SetHook(func(op crashfs.Op) error {
		if writesDocument(op) {
			return syscall.ENOSPC
		}
		return nil
	})
	require.ErrorIs(t, s.Flush(ctx), syscall.ENOSPC)
	files.SetHook(nil)
	second := "kv_store_t.journal.2"
	require.Contains(t, files.Names(), second)
	files.Put(second, []byte("something"))
	require.ErrorIs(t, s.Ping(ctx), fault.ErrUnavailable)
	require.NoError(t, s.Close())
	foreign, _ := files.Bytes(second)
	require.Equal(t, "something", string(foreign))
	require.Equal(t, []string{second, documentName}, files.Names())
}
