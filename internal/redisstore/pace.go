package redisstore

import (
	"encoding/json"
	"errors"
	"io"
	"sync"
)

// replyBytes is what a reply with many documents should have at most. A reply
// has to come within the socket's timeout, and the server holds all of it.
const replyBytes = 4 << 20

// While nothing is known of the documents, firstPart of them are asked for, and
// after a small reply of as many up to firstGrowth times more: most batches are
// two round trips at first, and one later.
const firstPart, firstGrowth = 32, 16

// A pace is how many documents to ask for at a time. Their sizes are not known
// before: it follows what came.
type pace struct {
	bytes int // of a reply that is large enough

	mu   sync.Mutex
	most int
}

func newPace(bytes int) *pace { return &pace{bytes: bytes, most: firstPart} }

// next returns how many to ask for.
func (p *pace) next() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

// came is told what came of so many that were asked for. Fewer mean that the
// reply broke off.
func (p *pace) came(asked int, values []json.RawMessage) {
	bytes := 0
	for _, value := range values {
		bytes += len(value)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(values) < asked:
		p.most = max(len(values)/2, 1)
	case bytes > p.bytes:
		p.most = max(asked*p.bytes/bytes, 1)
	default: // A few small ones say little of the next.
		growth := 2
		if asked >= firstPart {
			growth = min(max(p.bytes/max(bytes, 1), growth), firstGrowth)
		}
		p.most = min(max(p.most, asked*growth), chunkCommands)
	}
}

// brokeOff reports whether an error is that of a connection in the middle of
// a reply, so that what came before is good.
func brokeOff(err error) bool {
	return isNetwork(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
