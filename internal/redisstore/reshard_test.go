package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// slotRange returns the slots from first to last.
func slotRange(first, last int) []int {
	var slots []int
	for slot := first; slot <= last; slot++ {
		slots = append(slots, slot)
	}
	return slots
}

// CLUSTER NODES is read as the servers write it; what is not understood is an
// empty view, of which no pass is certain.
func TestParseView(t *testing.T) {
	const other = "bb 127.0.0.1:2@12,host slave aa 0 1 2 connected 1\n"
	for text, want := range map[string]view{
		other + "aa 127.0.0.1:1@11 myself,master - 0 0 7 connected 5 0-3 [8->-bb] [9-<-cc]\n": {
			id: "aa", epoch: "7", slots: [][2]int{{5, 5}, {0, 3}}, moving: map[int]string{8: "bb"}},
		other + "aa 127.0.0.1:1@11 myself,master - 0 0 7 connected\n": {id: "aa", epoch: "7", moving: map[int]string{}},
		other + "aa 127.0.0.1:1@11 myself,slave bb 0 0 7 connected\n": {},
		other + "aa 127.0.0.1:1@11 myself,master - 0 0 7 connected 0-99999999 7-x": {
			id: "aa", epoch: "7", moving: map[int]string{}},
		"aa myself,master": {},
		"":                 {},
	} {
		require.Equal(t, want, parseView(text), text)
	}
}

// A pass is certain of a slot that one master had all the time, not moving or
// moving to one that is scanned later (reshard.go).
func TestPassIsCertain(t *testing.T) {
	at := func(id, epoch string, moving map[int]string, slots ...[2]int) view {
		return view{id: id, epoch: epoch, slots: slots, moving: moving}
	}
	low, high := [2]int{0, 9}, [2]int{10, slotCount - 1}
	still := []view{at("a", "1", nil, low), at("b", "2", nil, high)}
	toB := []view{at("a", "1", map[int]string{3: "b"}, low), at("b", "2", nil, high)}
	toA := []view{at("a", "1", nil, low), at("b", "2", map[int]string{30: "a"}, high)}
	toC := []view{at("a", "1", map[int]string{3: "c"}, low), at("b", "2", nil, high)}
	for name, test := range map[string]struct {
		before, after []view
		uncertain     int
	}{
		"nothing moves":         {still, still, 0},
		"to one scanned later":  {toB, toB, 0},
		"to one scanned before": {toA, toA, 1},
		"to one not scanned":    {toC, toC, 1},
		"begins":                {still, toB, 1},
		"ends":                  {toB, []view{at("a", "1", nil, [2]int{0, 2}, [2]int{4, 9}), at("b", "3", nil, [2]int{3, 3}, high)}, 1 + slotCount - 10},
		"there and back":        {still, []view{at("a", "3", nil, low), at("b", "2", nil, high)}, 10},
		"claimed by two":        {[]view{at("a", "1", nil, low, [2]int{10, 10}), at("b", "2", nil, high)}, still, 1},
		"nobody's":              {[]view{at("a", "1", nil, low), at("b", "2", nil, [2]int{20, slotCount - 1})}, still, 10},
		"demoted":               {still, []view{at("a", "1", nil, low), {}}, slotCount - 10},
		"another node":          {still, []view{at("x", "1", nil, low), at("b", "2", nil, high)}, 10},
	} {
		var done slotSet
		done.settle(test.before, test.after)
		uncertain := 0
		for _, is := range done {
			if !is {
				uncertain++
			}
		}
		require.Equal(t, test.uncertain, uncertain, name)
	}
}

// A cluster of six: Keys and Drop are complete while slots move, with writers,
// and a caller never sees MOVED, ASK or TRYAGAIN (reliability.md, 3 and 5, and
// the condition table). Listings that are wrong on purpose are caught.
func TestRedisReshard(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 1)
	s := openEngine(t, settled(cluster.URL()), "docs")
	t.Run("between two masters", func(t *testing.T) { testMoveBehind(t, cluster, s) })
	t.Run("with writers", func(t *testing.T) { testReshardWithWriters(t, cluster, s) })
	t.Run("left open", func(t *testing.T) { testOpenSlots(t, cluster, s) })
	t.Run("without CLUSTER NODES", func(t *testing.T) { testScanWithoutNodes(t, cluster) })
}

// testMoveBehind moves slots from the master that is scanned last to the first,
// when that one has been scanned and the other has not.
func testMoveBehind(t *testing.T, cluster *redistest.Cluster, s *enginetest.Store) {
	items := testkit.Numbered(6_000)
	require.NoError(t, s.Upsert(t.Context(), items))
	ignore := func(int, string) {}
	client := engineOf(s).way.cluster()
	require.ErrorIs(t, testkit.CheckListing(t.Context(), naiveListing(client), testkit.IDSet(items), ignore), testkit.ErrListing)

	masters := slices.Clone(cluster.Nodes[:3])
	slices.SortFunc(masters, func(a, b *redistest.Server) int { return strings.Compare(a.Addr, b.Addr) })
	first, last := masters[0], masters[2]
	naive := naiveListing(first.Client(), masters[1].Client(), last.Client())
	for _, wrong := range []bool{true, false} {
		list := s.Keys
		if wrong {
			list = naive
		}
		begin := slices.Index(cluster.Nodes, last) * slotCount / 3 // Rounded down, so one may be another's.
		slots, moved := slotRange(begin+1, begin+500), false
		err := testkit.CheckListing(t.Context(), list, testkit.IDSet(items), func(_ int, id string) {
			if !moved && first.Client().Exists(t.Context(), "nano_graphrag:docs:"+id).Err() != nil {
				moved = true // The first id that is not of the first master: that one is done.
				cluster.MoveSlots(last, first, slots)
			}
		})
		require.True(t, moved)
		if wrong {
			require.ErrorIs(t, err, testkit.ErrListing)
		} else {
			require.NoError(t, err)
		}
		cluster.MoveSlots(first, last, slots)
	}
}

// testReshardWithWriters moves 500 slots three times, from each master to the
// next, while documents are written, listed and dropped.
func testReshardWithWriters(t *testing.T, cluster *redistest.Cluster, s *enginetest.Store) {
	busy := openEngine(t, settled(cluster.URL()), "busy")
	gone := openEngine(t, settled(cluster.URL()), "gone")
	items := testkit.Numbered(6_000)
	require.NoError(t, s.Upsert(t.Context(), items))
	for round := range 3 {
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		listings, drops := 0, 0
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := useAll(t.Context(), busy, n); err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				// Others come and go in the namespace that is listed, too.
				_ = s.Upsert(t.Context(), map[string]json.RawMessage{fmt.Sprint("other-", n%500): json.RawMessage("1")})
				_, _ = s.Delete(t.Context(), fmt.Sprint("other-", (n+250)%500))
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := testkit.CheckListing(t.Context(), s.Keys, testkit.IDSet(items), func(int, string) {}); err != nil {
					t.Errorf("round %d, listing %d: %v", round, listings, err)
					return
				}
				listings++
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := dropAll(t.Context(), gone, cluster); err != nil {
					t.Errorf("round %d, drop %d: %v", round, drops, err)
					return
				}
				drops++
			}
		})
		first := round*slotCount/3 + 1000
		cluster.MoveSlots(cluster.Nodes[round], cluster.Nodes[(round+1)%3], slotRange(first, first+499))
		stop()
		wg.Wait()
		t.Logf("round %d: %d listings, %d drops", round, listings, drops)
		require.NotZero(t, listings)
		require.NotZero(t, drops)
	}
}

// useAll uses every call that names ids on a few of its own.
func useAll(ctx context.Context, s *enginetest.Store, n int) error {
	ids := make([]string, 40)
	items := make(map[string]json.RawMessage)
	for i := range ids {
		ids[i] = fmt.Sprintf("%d-%d", n%50, i)
		items[ids[i]] = json.RawMessage(fmt.Sprint(n))
	}
	one := ids[n%len(ids)]
	if err := s.Upsert(ctx, items); err != nil {
		return err
	}
	if err := s.UpsertTTL(ctx, items, time.Hour); err != nil {
		return err
	}
	values, err := s.GetMany(ctx, ids)
	if err != nil {
		return err
	}
	for _, value := range values {
		if string(value) != fmt.Sprint(n) {
			return fmt.Errorf("GetMany returned %q for what was written as %d", value, n)
		}
	}
	if value, err := s.Get(ctx, one); err != nil || string(value) != fmt.Sprint(n) {
		return fmt.Errorf("Get returned %q, %w for what was written as %d", value, err, n)
	}
	if ttl, err := s.TTL(ctx, one); err != nil || ttl <= 0 {
		return fmt.Errorf("TTL returned %v, %w", ttl, err)
	}
	if n, err := s.Delete(ctx, ids[:20]...); err != nil || n != 20 {
		return fmt.Errorf("Delete removed %d of 20, %w", n, err)
	}
	if missing, err := s.Missing(ctx, ids); err != nil || len(missing) != 20 {
		return fmt.Errorf("Missing returned %d of 20, %w", len(missing), err)
	}
	if n, err := s.Insert(ctx, items); err != nil || n != 20 {
		return fmt.Errorf("Insert stored %d of 20, %w", n, err)
	}
	return nil
}

// dropAll fills a namespace, drops it, and looks for what is left on every
// node.
func dropAll(ctx context.Context, s *enginetest.Store, cluster *redistest.Cluster) error {
	if err := s.Upsert(ctx, testkit.Numbered(1_000)); err != nil {
		return err
	}
	if err := s.Drop(ctx); err != nil {
		return err
	}
	values, err := s.GetMany(ctx, slices.Collect(maps.Keys(testkit.Numbered(1_000))))
	if err != nil {
		return err
	}
	for _, value := range values {
		if value != nil {
			return fmt.Errorf("%w: something is left after Drop", testkit.ErrListing)
		}
	}
	for _, node := range cluster.Nodes[:3] {
		if keys, err := node.Client().Keys(ctx, "nano_graphrag:gone:*").Result(); err != nil || len(keys) > 0 {
			return fmt.Errorf("%w: %d keys are left on a node, %w", testkit.ErrListing, len(keys), err)
		}
	}
	return nil
}

// testOpenSlots has slots that go on moving for ever, half of their keys here
// and half there, in both directions: everything works.
func testOpenSlots(t *testing.T, cluster *redistest.Cluster, s *enginetest.Store) {
	ctx := t.Context()
	require.NoError(t, s.Drop(ctx))
	items := testkit.Numbered(4_000)
	require.NoError(t, s.Upsert(ctx, items))
	a, b := cluster.Nodes[0], cluster.Nodes[1]
	there := cluster.BeginMove(a, b, slotRange(0, 499))
	back := cluster.BeginMove(b, a, slotRange(8_000, 8_499))
	more := make(map[string]json.RawMessage) // They go to the new masters.
	for id, value := range items {
		more["more-"+id] = value
	}
	n, err := s.Insert(ctx, more)
	require.NoError(t, err)
	require.Equal(t, len(more), n)
	maps.Copy(more, items)
	require.NoError(t, testkit.CheckListing(ctx, s.Keys, testkit.IDSet(more), func(int, string) {}))
	for n := range 5 {
		require.NoError(t, useAll(ctx, s, n))
	}
	require.NoError(t, dropAll(ctx, openEngine(t, settled(cluster.URL()), "gone"), cluster))
	require.NoError(t, s.Drop(ctx))
	require.Empty(t, listed(t, s))
	there()
	back()
}

// testScanWithoutNodes forbids the question where the slots are: Keys and Drop
// work, and a warning says what they no longer notice.
func testScanWithoutNodes(t *testing.T, cluster *redistest.Cluster) {
	for _, node := range cluster.Nodes {
		node.ACL("default", "", "~*", "&*", "+@all", "-cluster|nodes")
	}
	book := new(testkit.LogBook)
	s := openEngine(t, settled(cluster.URL()), "docs", logTo(book.Logger()))
	items := testkit.Numbered(2_000)
	require.NoError(t, s.Upsert(t.Context(), items))
	require.Empty(t, book.Warnings())
	require.NoError(t, testkit.CheckListing(t.Context(), s.Keys, testkit.IDSet(items), func(int, string) {}))
	require.NoError(t, s.Drop(t.Context()))
	require.Empty(t, listed(t, s))
	require.Len(t, book.Warnings(), 1)
	require.Contains(t, book.Warnings()[0], "docs/configuration.md")
}
