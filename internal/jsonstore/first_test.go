//go:build unix

package jsonstore

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/fault"
)

// A large document file is synced while it is written. A sync that fails then
// fails the whole, as one in the end does, though that would succeed
// (reliability.md: "Never retry fsync on that descriptor and believe it"); the
// next file is a new one.
func TestJSONSyncWhileWriting(t *testing.T) {
	files := crashfs.New()
	e, s := memStore(t, files, policyNo)
	defer e.HoldCompaction()() // Only Flush writes the file.
	items := make(map[string]json.RawMessage)
	for i := range syncBytes>>20 + 4 {
		items[fmt.Sprint(i)] = json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	}
	require.NoError(t, s.Upsert(t.Context(), items))
	var syncs atomic.Int64
	files.SetHook(func(op crashfs.Op) error {
		if op.Kind == "sync" && strings.Contains(op.Name, ".tmp") && syncs.Add(1) == 1 {
			return syscall.EIO
		}
		return nil
	})
	err := s.Flush(t.Context())
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorIs(t, err, fault.ErrUnavailable)
	require.Positive(t, syncs.Load())
	_, err = files.Stat("kv_store_t.json")
	require.ErrorIs(t, err, fs.ErrNotExist)

	syncs.Store(1)
	require.NoError(t, s.Flush(t.Context()))
	require.GreaterOrEqual(t, syncs.Load(), int64(3), "the file was synced in the end only")
	files.SetHook(nil)
	value, err := s.Get(t.Context(), "7")
	require.NoError(t, err)
	require.Equal(t, items["7"], value)
}
