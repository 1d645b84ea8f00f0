package redisstore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
)

// A lease has a key of its own outside the data prefix, in the slot of its
// document, and no other document's.
func TestLeaseKey(t *testing.T) {
	t.Parallel()
	require.Equal(t, "kv-lease:{p:docs:a}", leaseKey("p:docs:a"))
	require.Equal(t, "kv-lease:{x}:p:docs:{x}y", leaseKey("p:docs:{x}y"))
	cluster := redistest.StartCluster(t, 3, 0)
	client := cluster.Nodes[0].Client()
	seen := make(map[string]string)
	for _, id := range []string{"", "a", "{", "}", "{}", "}{", "{}x}", "a}b{c", "{{x}}", "{a}{b}", "}{a}", "a}{", "{a}:b", "b", "{p:docs:b}"} {
		key := "p:docs:" + id
		lease := leaseKey(key)
		want, err := client.ClusterKeySlot(t.Context(), key).Result()
		require.NoError(t, err)
		got, err := client.ClusterKeySlot(t.Context(), lease).Result()
		require.NoError(t, err)
		require.Equal(t, want, got, "%q and %q", key, lease)
		require.Empty(t, seen[lease], "%q and %q share a lease", id, seen[lease])
		seen[lease] = key
	}
}
