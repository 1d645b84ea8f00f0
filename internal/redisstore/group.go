package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

const (
	// groupBytes bounds the values of a group.
	groupBytes = 128 << 10

	// sharedReply is what the reads of a group should bring at most: those who
	// read little do not wait for all that others do.
	sharedReply = 1 << 20
)

// A group is one pipeline in the making. Its reads become one command: to read
// keys with MGET takes a server and a client half the time of a GET for each.
//
// Until it has departed the combiner's mu guards it. Then it is its sender's
// alone, but for readers, until done closes; and then nobody's, to be read.
type group struct {
	callers  int // who are in it
	seats    int // that were ever taken
	bytes    int
	cmds     []single   // empty: withdrawn
	keys     []byte     // to read, one behind the other
	reads    []int      // where each ends, ^end of one withdrawn; once sent, its place in the reply
	read     *valuesCmd // what reads the keys, once sent: GET or MGET
	departed bool
	turn     int
	readers  atomic.Int64  // who wait for a read, once departed
	start    chan struct{} // nil: a goroutine of its own sends it; else the first of its callers, when this closes
	done     chan struct{}
}

// present is asked when the reads are sent.
func (g *group) present() bool { return g.readers.Load() > 0 }

// full reports whether a command with values of that size has to wait for the
// next group, so many reads being enough for one.
func (g *group) full(bytes, reads int) bool {
	return g.seats == chunkCommands || len(g.reads) >= reads || g.bytes > 0 && g.bytes+bytes > groupBytes
}

// newGroup makes one that has room for what the last one had. The caller holds
// mu.
func (c *combiner) newGroup() *group {
	g := &group{done: make(chan struct{})}
	if c.lastCmds > 0 {
		g.cmds = make([]single, 0, c.lastCmds)
	}
	if c.lastReads > 0 {
		g.keys, g.reads = make([]byte, 0, c.lastBytes), make([]int, 0, c.lastReads)
	}
	return g
}

// sendTo sends the commands of a group to a server, in one pipeline.
func sendTo(client redis.UniversalClient) func(context.Context, []single) {
	return func(ctx context.Context, cmds []single) {
		if len(cmds) == 1 {
			_ = client.Process(ctx, &cmds[0])
			return
		}
		pipe := client.Pipeline()
		for i := range cmds {
			_ = pipe.Process(ctx, &cmds[i]) // Only queues it.
		}
		sendAll(ctx, pipe)
	}
}

// send executes a group that has departed. No context of one of the callers
// counts for all of them: the socket's timeout bounds it.
func (c *combiner) send(g *group) {
	answered := false
	g.cmds = slices.DeleteFunc(g.cmds, func(s single) bool { return s.Cmder == nil })
	if reading := g.reading(); reading != nil {
		g.cmds = append(g.cmds, single{reading, g})
	}
	// The next group departs before this one's callers wake: the connection is
	// free, and they have their own work to do.
	defer func() {
		c.endTurn(g.turn)
		for i := range g.cmds {
			if !answered { // A panic must not look like an acknowledgement.
				g.cmds[i].SetErr(errNoAnswer)
			}
		}
		close(g.done)
	}()
	c.execute(context.Background(), g.cmds)
	answered = true
	if read := g.read; read != nil && read.reply.err == nil && read.reply.seen > 0 { // Else a server that hangs.
		c.pace.came(len(read.reply.values), read.reply.values[:read.reply.seen])
	}
}

// reading makes the command that reads the group's keys, and turns reads from
// where a key ends into where its value is in the reply. What was withdrawn has
// no place there. Nobody withdraws any more: the group has departed.
func (g *group) reading() redis.Cmder {
	all, at := string(g.keys), 0
	keys := make([]string, 0, len(g.reads))
	for i, end := range g.reads {
		if end < 0 {
			at = ^end
			continue
		}
		g.reads[i] = len(keys)
		keys, at = append(keys, all[at:end]), end
	}
	g.readers.Add(int64(len(keys)))
	switch len(keys) {
	case 0:
		return nil
	case 1:
		g.read = newGet(context.Background(), keys[0])
	default:
		g.read = newValuesCmd(context.Background(), make([]json.RawMessage, len(keys)), command("mget", keys)...)
	}
	return g.read
}

var errNoAnswer = errors.New("the command was not answered")
