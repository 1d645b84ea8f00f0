package kvmove_test

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

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvmove"
)

// A stutter lists every id twice, which the contract forbids.
type stutter struct{ *plainStore }

func (s stutter) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for id, err := range s.plainStore.Keys(ctx) {
			for range 2 {
				if !yield(id, err) {
					return
				}
			}
		}
	}
}

// A firstCase is a migration into files without documents.
type firstCase struct {
	opts    kvmove.Options
	before  func(page int, dst kv.Store, cancel func()) error // each of the first pages of the source
	stutter bool
	fails   error
	skipped int
	extra   int
}

var errSource = errors.New("the source broke")

var firstCases = map[string]firstCase{
	"nobody else": {opts: kvmove.Options{TTL: time.Hour}},
	"another writes meanwhile": {before: func(page int, dst kv.Store, _ func()) error {
		if page != 2 {
			return nil
		}
		return dst.Upsert(context.Background(), map[string]json.RawMessage{
			"extra": json.RawMessage("1"), "id-3": json.RawMessage(`"another"`),
		})
	}, skipped: 1, extra: 1},
	"ids are listed twice": {stutter: true},
	"cancelled":            {before: func(_ int, _ kv.Store, cancel func()) error { cancel(); return nil }, fails: context.Canceled},
	"the source breaks": {before: func(page int, _ kv.Store, _ func()) error {
		if page == 3 {
			return errSource
		}
		return nil
	}, fails: errSource},
}

// A namespace of files without documents gets its document file in one step:
// all documents or, if the call is cut short, none, with a report that says
// so. Whatever comes between, the result is that of copying one by one.
func TestMigrateIntoNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range firstCases {
		t.Run(name, tt.run)
	}
}

func (tt firstCase) run(t *testing.T) {
	const n = 1200
	source := newPlain(nil)
	for i := range n {
		source.docs[fmt.Sprint("id-", i)] = json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))
	}
	dir := t.TempDir()
	dst := openFiles(t, dir, "ns")
	require.NoError(t, dst.Upsert(t.Context(), testkit.OneDoc))
	require.NoError(t, dst.Drop(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	page := 0
	source.gets = func([]string) error {
		if page++; tt.before != nil && page < 5 {
			return tt.before(page, dst, cancel)
		}
		return nil
	}
	var src kv.Store = source
	if tt.stutter {
		src = stutter{source}
	}
	tt.opts.SkipVerify = true
	r, err := kvmove.Migrate(ctx, dst, src, tt.opts)
	want := n + tt.extra
	if tt.fails != nil {
		want = 0
		require.ErrorIs(t, err, tt.fails)
		require.Zero(t, r.Copied)
	} else {
		require.NoError(t, err)
		require.Equal(t, n-tt.skipped, r.Copied)
		require.Equal(t, tt.skipped, r.Skipped)
	}
	require.Len(t, listed(t, dst), want)
	if tt.opts.TTL > 0 {
		expirer, _ := kv.As[kv.Expirer](dst)
		left, err := expirer.TTL(t.Context(), "id-7")
		require.NoError(t, err)
		require.InDelta(t, tt.opts.TTL, left, float64(time.Minute))
	}
	require.NoError(t, dst.Close())
	tt.reopen(t, dir, want)
}

// reopen looks at what is left in the directory.
func (tt firstCase) reopen(t *testing.T, dir string, want int) {
	again := openFiles(t, dir, "ns")
	require.Len(t, listed(t, again), want)
	if tt.fails == nil {
		value, err := again.Get(t.Context(), "id-7")
		require.NoError(t, err)
		require.JSONEq(t, `{"n":7}`, string(value))
	}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, file := range files {
		require.NotContains(t, file.Name(), ".tmp")
	}
}
