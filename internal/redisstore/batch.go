package redisstore

import (
	"iter"
	"sync"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// perChunk bounds one pipeline. Larger ones are hardly faster, and the commands
// and replies of one are in memory together.
var perChunk = engine.Limits{Count: chunkCommands, Bytes: 1 << 20}

const (
	chunkCommands = 500
	scanCount     = 1000
)

// chunks cuts a list into parts for a pipeline each.
func chunks[T any](list []T, size func(T) int) iter.Seq2[int, []T] {
	return engine.ChunksBy(perChunk, list, size)
}

// inFlight is how many chunks of one call are under way at a time: the server
// works on one, the next is on its way, and the last one's replies are read.
const inFlight = 3

// sharedBytes is the size up to which an item travels with the commands of
// other callers, who have to wait for all of it.
const sharedBytes = 32 << 10

// A batch collects what became of the items of a write. It is safe for
// concurrent use, and remembers nothing of what went well.
type batch struct {
	items engine.Items

	mu         sync.Mutex
	err        error // the first
	notApplied []string
	unknown    []string
}

// note says what became of some items.
func (b *batch) note(part []engine.Item, f fate, err error) {
	if err == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	list := &b.notApplied
	if f >= lost {
		list = &b.unknown
	}
	for _, it := range part {
		*list = append(*list, it.ID)
	}
}

// failed returns the first error. The server is then in no state to take the
// rest, which is noted with the same error.
func (b *batch) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// result is nil, or the error of the batch, with a list of ids if it has more
// than one item.
func (b *batch) result() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		return nil
	}
	others := make(map[string]struct{}, len(b.notApplied)+len(b.unknown))
	for _, list := range [][]string{b.notApplied, b.unknown} {
		for _, id := range list {
			others[id] = struct{}{}
		}
	}
	e := &fault.Partial{Err: b.err, NotApplied: b.notApplied, Unknown: b.unknown}
	for it := range b.items.All() {
		if b.items.Len() == 1 {
			return fault.WithID(it.ID, b.err)
		}
		if _, ok := others[it.ID]; !ok {
			e.Applied = append(e.Applied, it.ID)
		}
	}
	return e
}

// lost reports whether it is unknown of some item whether it was stored.
func (b *batch) lost() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.unknown) > 0
}
