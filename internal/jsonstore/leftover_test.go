//go:build unix

package jsonstore

import (
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/testkit"
)

// failing makes operations of these kinds fail, on one file, or on all.
func failing(files *crashfs.FS, name string, kinds ...string) {
	files.SetHook(func(op crashfs.Op) error {
		for _, kind := range kinds {
			if op.Kind == kind && strings.HasPrefix(op.Name, name) {
				return syscall.EIO
			}
		}
		return nil
	})
}

// Nobody else's data is touched: a journal that could not be made, nor removed,
// is taken again, but not a file that another program has put in its place.
func TestJSONLeftoverOfAnother(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	second := "kv_store_t.journal.2"
	for name, write := range map[string]func(s *enginetest.Store) error{
		journalName: func(s *enginetest.Store) error { return s.Upsert(ctx, testkit.One("b", "1")) },
		second:      func(s *enginetest.Store) error { return s.Flush(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, replaced := range []bool{false, true} {
				files := crashfs.New()
				_, s := memStore(t, files, policyNo)
				if name == second {
					require.NoError(t, s.Upsert(ctx, testkit.One("a", "1")))
				}
				failing(files, name, "sync", "remove")
				require.ErrorIs(t, write(s), syscall.EIO)
				require.Contains(t, files.Names(), name)
				files.SetHook(nil)
				if !replaced {
					require.NoError(t, write(s), "it takes the place of the one before")
					require.NoError(t, s.Close())
					require.Equal(t, []string{documentName}, files.Names())
					continue
				}
				require.NoError(t, files.Remove(name))
				files.Put(name, []byte("something"))
				require.ErrorIs(t, write(s), fs.ErrExist)
				theirs, _ := files.Bytes(name)
				require.Equal(t, "something", string(theirs))
				require.NoError(t, files.Remove(name))
				require.NoError(t, write(s))
				require.NoError(t, s.Close())
			}
		})
	}
}

// reliability.md, "Promises": what was acknowledged is there. The journal that
// a compaction has begun has failed, and so does the one in its place, which
// cannot be removed: it is no hole in the row of journals.
func TestJSONNoHoleInTheJournals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	files := crashfs.New()
	_, s := memStore(t, files, policyAlways)
	require.NoError(t, s.Upsert(ctx, testkit.One("a", "1")))
	second := "kv_store_t.journal.2"
	syncs := 0
	files.SetHook(func(op crashfs.Op) error {
		if op.Kind == "sync" && op.Name == second {
			if syncs++; syncs > 1 { // That of the announcement.
				return syscall.EIO
			}
		}
		return nil
	})
	require.ErrorIs(t, s.Flush(ctx), syscall.EIO)
	removed := false
	files.SetHook(func(op crashfs.Op) error {
		if op.Name != second || op.Kind != "write" && op.Kind != "remove" {
			return nil
		}
		if op.Kind == "remove" && !removed {
			removed = true
			return nil
		}
		return syscall.EIO
	})
	require.ErrorIs(t, s.Flush(ctx), syscall.EIO)
	require.True(t, removed)
	failing(files, documentName, "create")
	require.ErrorIs(t, s.Flush(ctx), syscall.EIO)
	files.SetHook(nil)
	_, after := memStore(t, files.Crash(crashfs.Process, 0), policyAlways)
	require.Equal(t, []string{"a"}, collect(t, after))
	require.NoError(t, after.Close())
	require.NoError(t, s.Close())
	require.Equal(t, []string{documentName}, files.Names())
}

// A document file that another program has changed is told by an error, not by
// a panic, also where there is no journal.
func TestJSONChangedWithoutAJournal(t *testing.T) {
	t.Parallel()
	files := crashfs.New()
	files.Put(documentName, []byte(`{"a": 1}`))
	e, s := memStore(t, files, policyNo)
	files.Put(documentName, []byte(`{"theirs": 1}`))
	_, err := e.Replace(t.Context(), each([]engine.Change{{Item: engine.Item{ID: "b", Value: raw("2")}}}))
	require.ErrorIs(t, err, fault.ErrCorrupt)
	require.ErrorContains(t, err, "dir/"+documentName)
	require.NoError(t, s.Close())
	require.Equal(t, []string{documentName}, files.Names())
	theirs, _ := files.Bytes(documentName)
	require.JSONEq(t, `{"theirs": 1}`, string(theirs))
}
