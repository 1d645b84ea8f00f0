package crashfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// A Mode says what is left after a crash.
type Mode int

const (
	// Process: the process died, the machine did not. All is as it was seen,
	// and still not synced.
	Process Mode = iota
	// Nothing: only what was synced is left.
	Nothing
	// Everything: all has reached the disk.
	Everything
	// Random: of what was not synced, the directory's changes are kept up to
	// some point, and of each file's some changes, or some sectors.
	Random
	// Reordered is Random, but of the directory's changes any are kept;
	// only those of one name are in order.
	Reordered
)

const sectorSize = 512

// Crash returns the directory as it is found after a crash at this moment. It
// does not change d.
func (d *FS) Crash(mode Mode, seed uint64) *FS {
	rng := rand.New(rand.NewPCG(seed, uint64(mode)))
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &crash{mode, rng, make(map[*inode]*inode)}
	after := New()
	after.ticks = d.ticks
	if mode == Process {
		after.now, after.disk = c.entries(d.now), c.entries(d.disk)
		for _, p := range d.pending {
			if p.node != nil {
				p.node = c.node(p.node)
			}
			after.pending = append(after.pending, p)
		}
		return after
	}
	entries := maps.Clone(d.disk)
	for _, p := range c.keep(d.pending) {
		p.apply(entries)
	}
	after.now = c.entries(entries)
	after.disk = maps.Clone(after.now)
	return after
}

// A crash decides what is left.
type crash struct {
	mode  Mode
	rng   *rand.Rand
	nodes map[*inode]*inode
}

func (c *crash) entries(entries map[string]*inode) map[string]*inode {
	after := make(map[string]*inode, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) { // In order, so that a seed means one outcome.
		after[name] = c.node(entries[name])
	}
	return after
}

// keep chooses among the changes of the directory.
func (c *crash) keep(changes []entryChange) []entryChange {
	switch c.mode {
	case Nothing:
		return nil
	case Everything:
		return changes
	case Random:
		return changes[:c.rng.IntN(len(changes)+1)]
	}
	var kept []entryChange
	lost := make(map[string]bool)
	for _, p := range changes {
		if lost[p.remove] || lost[p.add] || c.rng.IntN(2) == 0 {
			lost[p.remove] = p.remove != ""
			lost[p.add] = p.add != ""
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

// node returns what is left of a file.
func (c *crash) node(n *inode) *inode {
	if after, ok := c.nodes[n]; ok {
		return after
	}
	after := &inode{mode: n.mode, changed: n.changed}
	c.nodes[n] = after
	if c.mode == Process {
		after.data, after.disk = slices.Clone(n.data), slices.Clone(n.disk)
		after.pending = slices.Clone(n.pending)
		return after
	}
	after.disk = c.content(n)
	after.data = slices.Clone(after.disk)
	return after
}

func (c *crash) content(n *inode) []byte {
	before := slices.Clone(n.disk)
	if c.mode == Nothing || len(n.pending) == 0 {
		return before
	}
	changes := n.pending
	switch {
	case c.mode == Everything:
	case c.rng.IntN(2) == 0:
		return c.sectors(before, n.pending)
	default: // A prefix, the last change of which may be cut.
		changes = slices.Clone(changes[:c.rng.IntN(len(changes)+1)])
		if last := len(changes) - 1; last >= 0 && len(changes[last].data) > 0 {
			changes[last].data = changes[last].data[:1+c.rng.IntN(len(changes[last].data))]
		}
	}
	for _, p := range changes {
		before = p.apply(before)
	}
	return before
}

// sectors mixes sectors of the states before and after all changes.
func (c *crash) sectors(before []byte, changes []change) []byte {
	after := slices.Clone(before)
	for _, p := range changes {
		after = p.apply(after)
	}
	mixed := make([]byte, max(len(before), len(after)))
	for at := 0; at < len(mixed); at += sectorSize {
		from := before
		if c.rng.IntN(2) == 0 {
			from = after
		}
		if at < len(from) {
			copy(mixed[at:], from[at:min(at+sectorSize, len(from))])
		}
	}
	shorter, longer := min(len(before), len(after)), max(len(before), len(after))
	switch c.rng.IntN(4) {
	case 0:
		return mixed[:len(before)]
	case 1:
		return mixed[:shorter+c.rng.IntN(longer-shorter+1)]
	}
	return mixed[:len(after)]
}
