package kv_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
