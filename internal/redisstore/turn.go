package redisstore

import "time"

// The turns of a combiner say how many groups are on their way. One is taken for
// each, and given back by endTurn, also after a panic. Fewer than groupsInFlight
// are young whenever one is taken, and there are at most most of them.

const (
	// groupsInFlight is how many groups are on their way at a time. With one,
	// the commands that come while it is would wait for a whole round trip
	// before their own; with many, groups are small.
	groupsInFlight = 2

	// overdue is the age from which a group does not count as one of these:
	// nobody waits behind a large reply or a server that hangs.
	overdue = 10 * time.Millisecond
)

// takeTurn is for one who is not in the queue, and goes behind it.
func (c *combiner) takeTurn() (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > 0 {
		return 0, false
	}
	return c.freeTurn()
}

// freeTurn returns a turn, unless there are enough groups on their way. An
// overdue one keeps its turn, and with it a connection, but holds nobody up. The
// caller holds mu.
func (c *combiner) freeTurn() (int, bool) {
	now, free, young := time.Now(), -1, 0
	for i, departed := range c.turns {
		switch {
		case departed.IsZero():
			free = i
		case now.Sub(departed) < overdue:
			young++
		}
	}
	if young >= groupsInFlight {
		return 0, false
	}
	if free < 0 {
		if free = len(c.turns); free == c.most {
			return 0, false
		}
		c.turns = append(c.turns, time.Time{})
	}
	c.turns[free] = now
	return free, true
}

// endTurn lets the next group depart.
func (c *combiner) endTurn(turn int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns[turn] = time.Time{}
	// A group keeps its number, so only those at the end can go.
	for n := len(c.turns); n > 0 && c.turns[n-1].IsZero(); n-- {
		c.turns = c.turns[:n-1]
	}
	c.dispatch()
}

// idle reports whether nothing is on its way or waits.
func (c *combiner) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.turns) == 0 && len(c.queue) == 0
}

// dispatch lets groups depart while there are turns, in the order in which they
// came. Otherwise it looks again when a group may be overdue. The caller holds mu.
func (c *combiner) dispatch() {
	for len(c.queue) > 0 {
		turn, ok := c.freeTurn()
		if !ok {
			c.watch()
			return
		}
		g := c.queue[0]
		c.queue[0] = nil // Else the array below keeps its memory.
		c.queue = c.queue[1:]
		g.departed, g.turn = true, turn
		c.lastCmds, c.lastReads, c.lastBytes = len(g.cmds), len(g.reads), len(g.keys)
		if g.start != nil { // Its sender waits in ride.
			close(g.start)
			continue
		}
		counted := c.calls.begin() // A closed client says so.
		go func() {
			if counted {
				defer c.calls.running.Done()
			}
			c.send(g)
		}()
	}
}

// watch looks at the queue again when the youngest group on its way is overdue
// at the latest. One look is enough for all: it watches anew if it has to. The
// caller holds mu.
func (c *combiner) watch() {
	if c.watching {
		return
	}
	c.watching = true
	time.AfterFunc(overdue, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.watching = false
		c.dispatch()
	})
}
