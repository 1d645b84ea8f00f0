package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A stutter lists every id twice, which the contract forbids.
type stutter struct{ *plainStore }

func (s stutter) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for id, err := range s.plainStore.Keys(ctx) {
			if !yield(id, err) || !yield(id, err) {
				return
			}
		}
	}
}

// A namespace of files without documents gets its document file in one step:
// all documents or, if the call is cut short, none, with a report that says
// so. Whatever comes between, the result is that of copying one by one.
func TestMigrateIntoNothing(t *testing.T) {
	t.Parallel()
	const n = 1200
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		opts    MigrateOptions
		gets    func(page int, dst Store, cancel func()) error
		twice   bool
		fails   error
		skipped int
		extra   int
	}{
		"nobody else": {opts: MigrateOptions{TTL: time.Hour}},
		"another writes meanwhile": {gets: func(page int, dst Store, _ func()) error {
			if page == 2 {
				return dst.Upsert(t.Context(), map[string]json.RawMessage{"extra": json.RawMessage("1"), "id-3": json.RawMessage(`"another"`)})
			}
			return nil
		}, skipped: 1, extra: 1},
		"ids are listed twice": {twice: true},
		"cancelled":            {gets: func(page int, _ Store, cancel func()) error { cancel(); return nil }, fails: context.Canceled},
		"the source breaks": {gets: func(page int, _ Store, _ func()) error {
			if page == 3 {
				return broken
			}
			return nil
		}, fails: broken},
	} {
		t.Run(name, func(t *testing.T) {
			source := newPlain(nil)
			for i := range n {
				source.docs[fmt.Sprint("id-", i)] = json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))
			}
			dir := t.TempDir()
			dst := openDir(t, dir, "ns")
			require.NoError(t, dst.Upsert(t.Context(), oneDoc))
			require.NoError(t, dst.Drop(t.Context()))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			page := 0
			source.gets = func([]string) error {
				if page++; tt.gets != nil && page < 5 {
					return tt.gets(page, dst, cancel)
				}
				return nil
			}
			var src Store = source
			if tt.twice {
				src = stutter{source}
			}
			tt.opts.SkipVerify = true
			r, err := Migrate(ctx, dst, src, tt.opts)
			source.gets = nil
			if tt.fails != nil {
				require.ErrorIs(t, err, tt.fails)
				require.Zero(t, r.Copied)
				require.Empty(t, listed(t, dst))
			} else {
				require.NoError(t, err)
				require.Equal(t, n-tt.skipped, r.Copied)
				require.Equal(t, tt.skipped, r.Skipped)
				require.Len(t, listed(t, dst), n+tt.extra)
			}
			if tt.opts.TTL > 0 {
				expirer, _ := As[Expirer](dst)
				left, err := expirer.TTL(t.Context(), "id-7")
				require.NoError(t, err)
				require.InDelta(t, tt.opts.TTL, left, float64(time.Minute))
			}
			require.NoError(t, dst.Close())
			again := openDir(t, dir, "ns")
			want := n + tt.extra
			if tt.fails != nil {
				want = 0
			}
			require.Len(t, listed(t, again), want)
			if tt.fails == nil {
				value, err := again.Get(t.Context(), "id-7")
				require.NoError(t, err)
				require.JSONEq(t, `{"n":7}`, string(value))
			}
			names, err := os.ReadDir(dir)
			require.NoError(t, err)
			for _, file := range names {
				require.NotContains(t, file.Name(), ".tmp")
			}
		})
	}
}
