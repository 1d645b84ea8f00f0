//go:build unix

package jsonstore

import (
	"encoding/json"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/testkit"
)

// kv.go, "Delete": what was deleted does not come back, not even if it had
// expired and the clock is then set back.
func TestJSONDeleteOfExpired(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	files := crashfs.New()
	e, s := memStore(t, files, policyAlways)
	now := time.UnixMilli(1_700_000_000_000)
	e.now = func() time.Time { return now }
	require.NoError(t, s.UpsertTTL(ctx, testkit.One("a", "1"), time.Minute))
	now = now.Add(time.Hour)
	n, err := s.Delete(ctx, "a", "a")
	require.NoError(t, err)
	require.Zero(t, n)
	now = now.Add(-time.Hour)
	require.Empty(t, collect(t, s))
	before := files.Ops()
	_, err = s.Delete(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, before, files.Ops(), "once is enough")
	require.NoError(t, s.Close())
}

// reliability.md, "The end": documents that have expired leave the document file at Close at the
// latest, and one that cannot be written is no reason for Close to fail.
func TestJSONExpiredLeaveTheFileAtClose(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	now := time.UnixMilli(1_700_000_000_000)
	files := crashfs.New()
	open := func() *enginetest.Store {
		e, s := memStore(t, files, policyAlways)
		e.now = func() time.Time { return now }
		return s
	}
	s := open()
	require.NoError(t, s.UpsertTTL(ctx, map[string]json.RawMessage{"a": raw("1"), "b": raw("2")}, time.Minute))
	require.NoError(t, s.Upsert(ctx, testkit.One("stays", "3")))
	require.NoError(t, s.Close())
	now = now.Add(time.Hour)

	s = open()
	files.SetHook(func(op crashfs.Op) error {
		if op.Kind == "rename" {
			return syscall.ENOSPC
		}
		return nil
	})
	require.NoError(t, s.Close())
	files.SetHook(nil)
	text, _ := files.Bytes(documentName)
	require.Contains(t, string(text), `"a"`)

	require.NoError(t, open().Close())
	text, _ = files.Bytes(documentName)
	require.Equal(t, "{\n  \"stays\": 3\n}", string(text))
	before := files.Ops()
	require.NoError(t, open().Close())
	require.Less(t, files.Ops()-before, 20, "nothing is left to be done")
	require.Contains(t, files.Names(), documentName)
}

// kv.go, "Keys": an iteration that was begun long ago lets the index be
// packed, and yields what was there all the time, once.
func TestJSONKeysWhilePacked(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, s := memStore(t, crashfs.New(), policyNo)
	const n = 8 * keysPage
	items := make(map[string]json.RawMessage)
	for i := range n {
		items[idOf(i)] = raw("1")
	}
	require.NoError(t, s.Upsert(ctx, items))
	seen := make(map[string]int)
	for id, err := range s.Keys(ctx) {
		require.NoError(t, err)
		if seen[id]++; len(seen) != 2*keysPage {
			continue
		}
		for i := range n {
			if i%8 != 0 {
				_, err := s.Delete(ctx, idOf(i))
				require.NoError(t, err)
			}
		}
		require.NoError(t, s.Flush(ctx))
		require.Len(t, e.index.docs, n/8, "packed")
		require.NoError(t, s.Upsert(ctx, testkit.One("later", "1")))
	}
	for i := 0; i < n; i += 8 {
		require.Equal(t, 1, seen[idOf(i)])
	}
	require.Zero(t, seen["later"])
	require.Empty(t, e.cursors)
	require.NoError(t, s.Close())
}
