package redisstore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/lease"
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
		leased := leaseKey(key)
		want, err := client.ClusterKeySlot(t.Context(), key).Result()
		require.NoError(t, err)
		got, err := client.ClusterKeySlot(t.Context(), leased).Result()
		require.NoError(t, err)
		require.Equal(t, want, got, "%q and %q", key, leased)
		require.Empty(t, seen[leased], "%q and %q share a lease", id, seen[leased])
		seen[leased] = key
	}
}

// A lease is renewed and released by its owner only, and is another's once its
// time is over.
func TestLeaseIsItsOwners(t *testing.T) {
	t.Parallel()
	const quick = 300 * time.Millisecond
	server := redistest.Start(t)
	first := engineOf(openEngine(t, settled(server.URL()), "docs")).Leases()
	second := engineOf(openEngine(t, settled(server.URL()), "docs")).Leases()
	dead, other := []lease.Lease{{ID: "b", Token: "of the dead"}}, []lease.Lease{{ID: "b", Token: "another"}}
	granted := []lease.Claim{{State: lease.Granted}}
	renew := func(l lease.Lease) []lease.Answer {
		return []lease.Answer{{Lease: l, Then: lease.Held, For: time.Hour}}
	}
	require.Equal(t, granted, first.Claim(t.Context(), dead, quick))
	require.Equal(t, []lease.Settled{{Lost: true}}, second.Settle(t.Context(), []lease.Answer{{Lease: other[0]}}))
	require.Equal(t, []lease.Settled{{Lost: true}}, second.Settle(t.Context(), renew(other[0])))
	require.Equal(t, lease.Busy, second.Claim(t.Context(), other, quick)[0].State)
	require.Eventually(t, func() bool {
		return second.Claim(t.Context(), other, quick)[0].State == lease.Granted
	}, 20*time.Second, time.Millisecond)
	require.Equal(t, []lease.Settled{{Lost: true}}, first.Settle(t.Context(), renew(dead[0])))
}
