package redisstore

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// slotCount is the number of hash slots of every Cluster.
const slotCount = 16384

// scanCluster calls visit with the keys of all masters.
//
// While a slot moves, each of its keys goes from one master to another in one
// step, so a key is missed if its new master was scanned before it came and
// its old one after it went. A pass over the masters is therefore certain of
// the slots only
//
//   - that one master had before and after it, with the same epoch, which a
//     move there and back would have raised, and
//   - that were not moving before and after it, or were moving all the time to
//     a master that is scanned after the old one.
//
// What a pass is not certain of, the next may be: a slot is done when one of
// them was. Since passes go through the masters in both orders in turn, a
// move that takes hours, or that was left half done, delays nothing.
func (k *keyspace) scanCluster(ctx context.Context, visit func(keys []string) error) error {
	var done slotSet
	for n := range scanRestarts + 1 {
		if n > 0 {
			if err := pause(ctx, n); err != nil {
				return err
			}
		}
		nodes, err := k.scanOrder(ctx, n%2 == 1)
		if err != nil {
			return err
		}
		err = k.scanPass(ctx, nodes, &done, visit)
		switch {
		case errors.Is(err, redis.ErrClosed) && !k.way.calls.ended():
			// go-redis has closed the client of a node that left the Cluster.
		case err != nil || !slices.Contains(done[:], false):
			return err
		}
	}
	return incomplete()
}

// scanOrder returns the masters in an order that is always the same, or its
// reverse.
func (k *keyspace) scanOrder(ctx context.Context, reverse bool) ([]*way, error) {
	masters, err := k.way.masters(ctx)
	if err != nil {
		return nil, err
	}
	addr := func(c redis.UniversalClient) string {
		if c, ok := c.(*redis.Client); ok {
			return c.Options().Addr
		}
		return ""
	}
	slices.SortFunc(masters, func(a, b redis.UniversalClient) int { return strings.Compare(addr(a), addr(b)) })
	if reverse {
		slices.Reverse(masters)
	}
	nodes := make([]*way, len(masters))
	for i, master := range masters {
		nodes[i] = k.way.on(master)
	}
	return nodes, nil
}

// A slotSet says of each slot whether it is in.
type slotSet [slotCount]bool

// scanPass scans the nodes in turn and marks the slots that it is certain of.
func (k *keyspace) scanPass(ctx context.Context, nodes []*way, done *slotSet, visit func(keys []string) error) error {
	before, err := k.views(ctx, nodes)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if _, err := k.scanNode(ctx, node, visit); err != nil {
			return err
		}
	}
	if before == nil {
		for slot := range done {
			done[slot] = true // As far as we can tell.
		}
		return nil
	}
	after, err := k.views(ctx, nodes)
	if err != nil {
		return err
	}
	if after != nil {
		done.settle(before, after)
	}
	return nil
}

// A view is what a master says of itself.
type view struct {
	id, epoch string
	slots     [][2]int       // first and last of each range
	moving    map[int]string // slot to the id of the master that it moves to
}

// views asks each node for its own, which nobody knows better. It returns nil
// if CLUSTER NODES is not allowed.
func (k *keyspace) views(ctx context.Context, nodes []*way) ([]view, error) {
	all := make([]view, len(nodes))
	for i, node := range nodes {
		cmd, f, err := run(ctx, node, repeatable, func() *redis.StringCmd {
			return redis.NewStringCmd(ctx, "cluster", "nodes")
		})
		if declined(f, err) {
			k.warned.Do(func() {
				k.logger.WarnContext(ctx, "kv: the cluster does not answer CLUSTER NODES, so Keys and Drop do not notice "+
					"a failover or a reshard and may be incomplete; grant what docs/configuration.md lists", "error", err)
			})
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		all[i] = parseView(cmd.Val())
	}
	return all, nil
}

// parseView reads the line of CLUSTER NODES that is about the node itself:
// id, address, flags, its master, ping, pong, epoch, link, and its slots, as 5,
// 5-9, and [7->-id] for one that is moving away. What a node says that is no
// master, or is not understood, is an empty view.
func parseView(nodes string) view {
	for line := range strings.Lines(nodes) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		flags := strings.Split(fields[2], ",")
		if !slices.Contains(flags, "myself") {
			continue
		}
		if !slices.Contains(flags, "master") {
			return view{}
		}
		v := view{id: fields[0], epoch: fields[6], moving: make(map[int]string)}
		for _, field := range fields[8:] {
			if slot, to, ok := strings.Cut(strings.Trim(field, "[]"), "->-"); ok {
				if n, err := strconv.Atoi(slot); err == nil {
					v.moving[n] = to
				}
				continue
			}
			first, last, ranged := strings.Cut(field, "-")
			if !ranged {
				last = first
			}
			a, errA := strconv.Atoi(first)
			b, errB := strconv.Atoi(last)
			if errA == nil && errB == nil && 0 <= a && b < slotCount { // Else a slot that is coming in.
				v.slots = append(v.slots, [2]int{a, b})
			}
		}
		return v
	}
	return view{}
}

// settle marks the slots that a pass over the nodes of these views, in this
// order, is certain of.
func (s *slotSet) settle(before, after []view) {
	was, is := owners(before), owners(after)
	for slot, n := range was {
		if n < 0 || n != is[slot] || before[n].id != after[n].id || before[n].epoch != after[n].epoch {
			continue
		}
		from, to := before[n].moving[slot], after[n].moving[slot]
		later := func(v view) bool { return v.id == to }
		if from == to && (to == "" || slices.ContainsFunc(before[n+1:], later)) {
			s[slot] = true
		}
	}
}

// owners returns for each slot which view claims it, and -1 if none does or
// several do.
func owners(views []view) []int {
	owner := slices.Repeat([]int{-1}, slotCount)
	var twice slotSet
	for i, v := range views {
		for _, r := range v.slots {
			for slot := r[0]; slot <= r[1]; slot++ {
				twice[slot] = twice[slot] || owner[slot] >= 0
				owner[slot] = i
			}
		}
	}
	for slot, is := range twice {
		if is {
			owner[slot] = -1
		}
	}
	return owner
}
