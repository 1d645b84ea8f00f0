package kvmove_test

import (
	"bytes"
	"context"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvmove"
)

// never9 is a usual "never" of Redis's users in seconds: 317 years, more than
// a time.Duration can hold.
const never9 = 9_999_999_999

func setNever(t *testing.T, c *redis.Client, namespace, id, value string) {
	t.Helper()
	require.NoError(t, c.Do(t.Context(), "set", "nano_graphrag:"+namespace+":"+id, value, "ex", int64(never9)).Err())
}

// A document with more than 292 years to live has 292 years (Expirer), and is
// there after it was copied, in every direction and by every way.
func TestLivesLongerThanADuration(t *testing.T) {
	server := redistest.Start(t)
	ctx := t.Context()
	src := openRedisStore(t, redisCfg(server.URL()), "src")
	setNever(t, server.Client(), "src", "a", `{"a":1}`)
	long := func(s kv.Store) {
		t.Helper()
		x, ok := kv.As[kv.Expirer](s)
		require.True(t, ok)
		ttl, err := x.TTL(ctx, "a")
		require.NoError(t, err)
		require.Greater(t, ttl, 290*365*24*time.Hour)
		value, err := s.Get(ctx, "a")
		require.NoError(t, err)
		require.JSONEq(t, `{"a":1}`, string(value))
	}
	long(src)
	ttl, err := src.TTL(ctx, "a")
	require.NoError(t, err)
	require.EqualValues(t, int64(math.MaxInt64), ttl)

	files := openFiles(t, t.TempDir(), "files")
	back := openRedisStore(t, redisCfg(server.URL()), "back")
	r, err := kvmove.Migrate(ctx, files, src, kvmove.Options{})
	require.NoError(t, err)
	require.Equal(t, kvmove.Report{Copied: 1, Verified: true}, counts(r))
	long(files)
	require.NoError(t, files.Flush(ctx))
	long(files)
	r, err = kvmove.Migrate(ctx, back, files, kvmove.Options{Mirror: true})
	require.NoError(t, err)
	require.Equal(t, kvmove.Report{Copied: 1, Verified: true}, counts(r))
	long(back)

	for from, s := range map[string]builtin{"src": src, "files": files} {
		var stream bytes.Buffer
		_, err := kvmove.Export(ctx, &stream, opening(s), from)
		require.NoError(t, err, from)
		for _, dst := range []builtin{openRedisStore(t, redisCfg(server.URL()), "from-"+from), openFiles(t, t.TempDir(), "files")} {
			reports, err := kvmove.Import(ctx, bytes.NewReader(stream.Bytes()), opening(dst), kvmove.Merge)
			require.NoError(t, err, from)
			require.Zero(t, reports[0].Expired, from)
			long(dst)
		}
	}
}

// opening gives out a store that stays open.
func opening(s kv.Store) kvmove.Opener {
	return func(context.Context, string) (kv.Store, error) { return keptOpen{s}, nil }
}

type keptOpen struct{ kv.Store }

func (k keptOpen) Unwrap() kv.Store { return k.Store }
func (keptOpen) Close() error       { return nil }
