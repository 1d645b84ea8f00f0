package redistest

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// moveTimeout bounds the move of slots, which may be thousands.
const moveTimeout = time.Minute

// MoveSlots moves slots and their keys between two masters while the cluster
// goes on serving, and waits until all nodes know.
func (c *Cluster) MoveSlots(from, to *Server, slots []int) {
	c.tb.Helper()
	c.BeginMove(from, to, slots)()
}

// BeginMove brings slots to the state in which their keys are moved, and
// returns a function that moves them and ends that state. In between, keys
// that are not there make the old master answer with ASK.
func (c *Cluster) BeginMove(from, to *Server, slots []int) (finish func()) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), moveTimeout)
	defer cancel()
	// The order is that of the cluster's tutorial: at no time may a node send
	// clients to one that would send them back.
	err := to.setSlots(ctx, slots, "importing", c.ids[from])
	if err == nil {
		err = from.setSlots(ctx, slots, "migrating", c.ids[to])
	}
	if err != nil {
		c.tb.Fatalf("redistest: beginning to move slots: %v", err)
	}
	return func() {
		c.tb.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), moveTimeout)
		defer cancel()
		if err := c.finishMove(ctx, from, to, slots); err != nil {
			c.tb.Fatalf("redistest: moving slots: %v", err)
		}
		c.await("nodes to know of moved slots", func() error { return c.moved(to, slots) })
	}
}

// setSlots issues CLUSTER SETSLOT for every slot.
func (s *Server) setSlots(ctx context.Context, slots []int, state, id string) error {
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, slot := range slots {
			p.Do(ctx, "cluster", "setslot", slot, state, id)
		}
		return nil
	})
	return err
}

// finishMove moves the keys and then the slots.
func (c *Cluster) finishMove(ctx context.Context, from, to *Server, slots []int) error {
	for _, slot := range slots {
		if err := from.migrate(ctx, to, slot); err != nil {
			return fmt.Errorf("slot %d: %w", slot, err)
		}
	}
	// The new master comes first, or the slots would be nobody's if the old
	// one failed.
	for _, n := range []*Server{to, from} {
		if err := n.setSlots(ctx, slots, "node", c.ids[to]); err != nil {
			return err
		}
	}
	for _, n := range c.Nodes {
		// Replicas hear it from their masters, those that are down later.
		if n == from || n == to || !n.answers() || n.masterAddr() != "" {
			continue
		}
		if err := n.setSlots(ctx, slots, "node", c.ids[to]); err != nil {
			return err
		}
	}
	return nil
}

// migrate moves the keys of a slot.
func (s *Server) migrate(ctx context.Context, to *Server, slot int) error {
	host, port, err := net.SplitHostPort(to.Addr)
	if err != nil {
		return err
	}
	for {
		keys, err := s.client.ClusterGetKeysInSlot(ctx, slot, 100).Result()
		if err != nil || len(keys) == 0 {
			return err
		}
		args := []any{"migrate", host, port, "", 0, 5000, "auth2", adminUser, adminPassword, "keys"}
		for _, k := range keys {
			args = append(args, k)
		}
		// The reply NOKEY, of keys that are gone since, is no error.
		if err := s.client.Do(ctx, args...).Err(); err != nil {
			return err
		}
	}
}

// moved returns nil if all nodes that answer take master for that of the slots.
func (c *Cluster) moved(master *Server, slots []int) error {
	for _, n := range c.Nodes {
		owner := make(map[int]string)
		view := n.slots()
		for _, r := range view {
			for i := r.Start; i <= r.End && len(r.Nodes) > 0; i++ {
				owner[i] = r.Nodes[0].Addr
			}
		}
		for _, slot := range slots {
			if view != nil && owner[slot] != master.Addr {
				return fmt.Errorf("%s: slot %d is of %q", n.Addr, slot, owner[slot])
			}
		}
	}
	return nil
}
