package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/firstuse"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/move"
	"github.com/ngraf/kv/internal/redistest"
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
	long := func(s Store) {
		t.Helper()
		x, ok := As[Expirer](s)
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
	r, err := Migrate(ctx, files, src, MigrateOptions{})
	require.NoError(t, err)
	require.Equal(t, MigrateReport{Copied: 1, Verified: true}, counts(r))
	long(files)
	require.NoError(t, files.Flush(ctx))
	long(files)
	r, err = Migrate(ctx, back, files, MigrateOptions{Mirror: true})
	require.NoError(t, err)
	require.Equal(t, MigrateReport{Copied: 1, Verified: true}, counts(r))
	long(back)

	for from, s := range map[string]*store{"src": src, "files": files} {
		var stream bytes.Buffer
		_, err := Export(ctx, &stream, opening(s), from)
		require.NoError(t, err, from)
		for _, dst := range []*store{openRedisStore(t, redisCfg(server.URL()), "from-"+from), openFiles(t, t.TempDir(), "files")} {
			reports, err := Import(ctx, bytes.NewReader(stream.Bytes()), opening(dst), ImportMerge)
			require.NoError(t, err, from)
			require.Zero(t, reports[0].Expired, from)
			long(dst)
		}
	}
}

// opening gives out a store that stays open.
func opening(s Store) Opener {
	return func(context.Context, string) (Store, error) { return keptOpen{s}, nil }
}

type keptOpen struct{ Store }

func (k keptOpen) Unwrap() Store { return k.Store }
func (keptOpen) Close() error    { return nil }

// The longest time to live is the longest also when the clock goes back, in
// files as in what comes from them into Redis, and when a file says more than
// a time.Duration can hold.
func TestLongestLifeAndAClockThatGoesBack(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	s := openFiles(t, dir, "docs", WithClock(func() time.Time { return now }))
	doc := map[string]json.RawMessage{"a": json.RawMessage("1")}
	require.NoError(t, s.UpsertTTL(t.Context(), doc, math.MaxInt64))
	now = now.Add(-time.Hour)
	ttl, err := s.TTL(t.Context(), "a")
	require.NoError(t, err)
	require.EqualValues(t, int64(math.MaxInt64), ttl)

	r := &firstuse.ImportRun{Importer: &firstuse.Importer{}}
	for _, expires := range []int64{now.UnixMilli() + math.MaxInt64/int64(time.Millisecond) + 1000, math.MaxInt64} {
		items := r.Take([]jsonstore.SourceDoc{{ID: "a", Value: doc["a"], Expires: expires}}, now.UnixMilli(), new(firstuse.Imported))
		require.Len(t, items, 1)
		require.Greater(t, items[0].TTL, 290*365*24*time.Hour)
	}
}

// What lives practically for ever has no other time to live than what lives
// practically for ever, too, however long ago it was copied.
func TestVerifyLongLives(t *testing.T) {
	const year = 365 * 24 * time.Hour
	require.True(t, move.SameTTL(math.MaxInt64, math.MaxInt64-50*year, 0))
	require.True(t, move.SameTTL(math.MaxInt64-50*year, math.MaxInt64, 0))
	require.True(t, move.SameTTL(0, math.MaxInt64-50*year, math.MaxInt64))
	require.True(t, move.SameTTL(0, time.Hour, math.MaxInt64))
	require.False(t, move.SameTTL(math.MaxInt64, 100*year, 0))
	require.False(t, move.SameTTL(math.MaxInt64, 0, 0))
	require.False(t, move.SameTTL(0, math.MaxInt64, 0))
}
