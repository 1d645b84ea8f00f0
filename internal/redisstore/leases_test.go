package redisstore

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/lease"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
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
		return []lease.Answer{{Lease: l, Then: lease.Held, For: quick}}
	}
	require.Equal(t, granted, first.Claim(t.Context(), dead, time.Hour))
	require.Equal(t, []lease.Settled{{Lost: true}}, second.Settle(t.Context(), []lease.Answer{{Lease: other[0]}}))
	require.Equal(t, []lease.Settled{{Lost: true}}, second.Settle(t.Context(), renew(other[0])))
	require.Equal(t, lease.Busy, second.Claim(t.Context(), other, time.Hour)[0].State)
	require.Equal(t, []lease.Settled{{}}, first.Settle(t.Context(), renew(dead[0])))
	require.Eventually(t, func() bool {
		return second.Claim(t.Context(), other, time.Hour)[0].State == lease.Granted
	}, 20*time.Second, time.Millisecond)
	require.Equal(t, []lease.Settled{{Lost: true}}, first.Settle(t.Context(), renew(dead[0])))
}

// In a Cluster each master gets the text of a script once, and those that do
// not know it are asked again together.
func TestScriptsOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	leases := engineOf(openEngine(t, settled(cluster.URL()), "docs")).Leases()
	defer leases.Close()
	asked := []lease.Lease{{ID: "first", Token: "me"}}
	require.Equal(t, []lease.Claim{{State: lease.Granted}}, leases.Claim(t.Context(), asked, time.Minute))
	for i := range 300 {
		asked = append(asked, lease.Lease{ID: fmt.Sprint("id-", i), Token: "me"})
	}
	count := func(command string) (n int) {
		for _, node := range cluster.Nodes {
			n += testkit.ServerCalls(t, node.Client(), command)
		}
		return n
	}
	for _, claim := range leases.Claim(t.Context(), asked, time.Minute) {
		require.Equal(t, lease.Granted, claim.State)
	}
	first := count("eval")
	require.Less(t, first, 302, "only what two of the masters have")
	for _, claim := range leases.Claim(t.Context(), asked, time.Minute) {
		require.Equal(t, lease.Granted, claim.State)
	}
	require.Equal(t, first, count("eval"))
}

// A lease can be kept while what it is for is written, step by step: so a
// record is written by one, as an import does. Another takes over where the
// first has stopped, and the first then writes nothing over it.
func TestLeaseIsKeptWhileWriting(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	leases := engineOf(openEngine(t, settled(server.URL()), "docs")).Leases()
	defer leases.Close()
	mine := lease.Lease{ID: "record", Token: "me"}
	require.Equal(t, lease.Granted, leases.Claim(t.Context(), []lease.Lease{mine}, time.Minute)[0].State)
	for _, text := range []string{`1`, `2`} {
		a := lease.Answer{Lease: mine, Value: json.RawMessage(text), Then: lease.Held, For: time.Minute}
		require.Equal(t, []lease.Settled{{}}, leases.Settle(t.Context(), []lease.Answer{a}))
		mine.Seen = a.Value
	}
	next := lease.Lease{ID: "record", Token: "next", Seen: json.RawMessage(`2`)}
	require.Equal(t, lease.Busy, leases.Claim(t.Context(), []lease.Lease{next}, time.Minute)[0].State)
	require.Equal(t, []lease.Settled{{}}, leases.Settle(t.Context(), []lease.Answer{{Lease: mine}}))
	require.Equal(t, lease.Granted, leases.Claim(t.Context(), []lease.Lease{next}, time.Minute)[0].State)
	last := lease.Answer{Lease: next, Value: json.RawMessage(`3`), TTL: time.Hour}
	require.Equal(t, []lease.Settled{{}}, leases.Settle(t.Context(), []lease.Answer{last}))
	late := lease.Answer{Lease: mine, Value: json.RawMessage(`4`), Then: lease.Held, For: time.Minute}
	require.Equal(t, []lease.Settled{{Lost: true, Value: json.RawMessage(`3`)}}, leases.Settle(t.Context(), []lease.Answer{late}))
	require.Equal(t, []string{"nano_graphrag:docs:record"}, testkit.AllKeys(t, server.Client()))

	// The failures of others in a row, and a lease beside.
	first, second := lease.Lease{ID: "a", Token: "1"}, lease.Lease{ID: "a", Token: "2"}
	require.Equal(t, lease.Granted, leases.Claim(t.Context(), []lease.Lease{first}, time.Minute)[0].State)
	busy := leases.Claim(t.Context(), []lease.Lease{second}, time.Minute)[0]
	require.Equal(t, lease.Busy, busy.State)
	require.Zero(t, busy.Fails)
	second.Holder, second.Most = busy.Holder, 1
	changed, err := leases.Look(t.Context(), []lease.Lease{second})
	require.NoError(t, err)
	require.Equal(t, []bool{false}, changed)
	require.Equal(t, []lease.Settled{{}}, leases.Settle(t.Context(), []lease.Answer{{Lease: first, Then: lease.Told, For: time.Minute}}))
	changed, err = leases.Look(t.Context(), []lease.Lease{second})
	require.NoError(t, err)
	require.Equal(t, []bool{true}, changed)
	require.Equal(t, lease.Granted, leases.Claim(t.Context(), []lease.Lease{second}, time.Minute)[0].State)
	third := lease.Lease{ID: "a", Token: "3", Most: 1}
	require.Equal(t, lease.Beside, leases.Claim(t.Context(), []lease.Lease{third}, time.Minute)[0].State)
	third.Most = 2
	require.Equal(t, 1, leases.Claim(t.Context(), []lease.Lease{third}, time.Minute)[0].Fails)
}
