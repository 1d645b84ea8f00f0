package kv_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// An open store goes on after one of three masters was killed and its replica
// has taken over. What was written before is there, but for what had not
// reached the replica. Until then Keys fails, and is complete when it does not.
func TestClusterFailover(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 1)
	before := goleak.IgnoreCurrent()
	cfg := kv.Config{Backend: "redis", Redis: kv.RedisConfig{URL: kv.RedisURL(cluster.URL())}}
	s, err := kv.Open(t.Context(), cfg, "docs", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	items := make(map[string]json.RawMessage)
	for i := range 300 {
		items[fmt.Sprint("id", i)] = json.RawMessage(fmt.Sprint(i))
	}
	require.NoError(t, s.Upsert(t.Context(), items))

	dead, replica := cluster.Nodes[0], cluster.ReplicasOf(cluster.Nodes[0])[0]
	require.Eventually(t, func() bool {
		return replica.Client().DBSize(t.Context()).Val() == dead.Client().DBSize(t.Context()).Val()
	}, 20*time.Second, time.Millisecond)
	dead.Kill()
	failed := 0
	for {
		err = testkit.CheckListing(t.Context(), s.Keys, testkit.IDSet(items), func(int, string) {})
		if !errors.Is(err, kv.ErrUnavailable) {
			break
		}
		failed++
	}
	require.NoError(t, err)
	require.NotZero(t, failed)
	require.Eventually(t, func() bool { return s.Upsert(t.Context(), items) == nil }, 60*time.Second, 50*time.Millisecond)
	n := 0
	for _, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, len(items), n)
	require.NoError(t, s.Close())
	// A pool of go-redis that could not dial looks once a second whether it
	// has been closed.
	require.Eventually(t, func() bool { return goleak.Find(before) == nil }, 20*time.Second, 50*time.Millisecond)
}

// One UniversalClient serves Cluster and Sentinel, too: batches over many
// slots, and Keys and Drop on every master (reliability.md, 3).
func TestRedisClusterAndSentinel(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	sentinel := redistest.StartSentinel(t, 1, 1, redistest.Password("p w"))
	for _, url := range []string{cluster.URL(), sentinel.URL()} {
		ctx := t.Context()
		s := openRedisStore(t, redisCfg(url), "docs")
		other := openRedisStore(t, redisCfg(url), "docs2")
		require.NoError(t, other.Upsert(ctx, testkit.Numbered(50)))
		items := testkit.Numbered(1000)
		require.NoError(t, s.Upsert(ctx, items))
		want := slices.Sorted(maps.Keys(items))
		require.Equal(t, want, listed(t, s))
		values, err := s.GetMany(ctx, want)
		require.NoError(t, err)
		for i, id := range want {
			require.Equal(t, string(items[id]), string(values[i]))
		}
		value, err := s.Get(ctx, "id-7")
		require.NoError(t, err)
		require.JSONEq(t, `{"id":"id-7"}`, string(value))
		absent, err := s.Missing(ctx, append(want, "none"))
		require.NoError(t, err)
		require.Equal(t, []string{"none"}, absent)
		n, err := s.Insert(ctx, testkit.Numbered(1010))
		require.NoError(t, err)
		require.Equal(t, 10, n)
		n, err = s.Delete(ctx, want[:100]...)
		require.NoError(t, err)
		require.Equal(t, 100, n)
		require.NoError(t, s.Drop(ctx))
		require.Empty(t, listed(t, s))
		require.Len(t, listed(t, other), 50)
	}
}

// MOVED and ASK are followed and never leaked, for single commands and in
// batches (reliability.md, condition table).
func TestRedisClusterRedirections(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2, 0)
	ctx, s := t.Context(), openRedisStore(t, redisCfg(cluster.URL()), "docs")
	items := testkit.Numbered(1000)
	ids := slices.Sorted(maps.Keys(items))
	slots := make([]int, 400)
	for i := range slots {
		slots[i] = i
	}
	check := func(present int) {
		t.Helper()
		n, err := s.Insert(ctx, items)
		require.NoError(t, err)
		require.Equal(t, len(ids)-present, n)
		values, err := s.GetMany(ctx, ids)
		require.NoError(t, err)
		for i, id := range ids {
			require.Equal(t, string(items[id]), string(values[i]))
			value, err := s.Get(ctx, id)
			require.NoError(t, err)
			require.Equal(t, string(items[id]), string(value))
		}
		require.NoError(t, s.Upsert(ctx, items))
	}
	finish := cluster.BeginMove(cluster.Nodes[0], cluster.Nodes[1], slots)
	check(0)
	finish()
	check(len(ids))
	n, err := s.Delete(ctx, ids...)
	require.NoError(t, err)
	require.Equal(t, len(ids), n)
}
