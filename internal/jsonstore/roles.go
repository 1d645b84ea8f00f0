package jsonstore

import (
	"time"

	"github.com/ngraf/kv/internal/engine"
)

// What an engine of files is to others, who find out by asking.
var (
	_ engine.Engine   = (*Engine)(nil)
	_ engine.Sized    = (*Engine)(nil)
	_ engine.Replacer = (*Engine)(nil)
)

// Sizes returns how much room each value takes; see engine.Sized.
func (e *Engine) Sizes(ids []string) []int64 {
	sizes := make([]int64, len(ids))
	e.mu.RLock()
	defer e.mu.RUnlock()
	for i, id := range ids {
		if at, ok := e.index.position[id]; ok {
			sizes[i] = int64(e.index.docs[at].size)
		}
	}
	return sizes
}

// Count returns how many documents there are.
func (e *Engine) Count() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return len(e.index.position)
}

// Figures are the figures of a namespace's files, as kv documents them.
type Figures struct {
	Documents     int
	SnapshotBytes int64
	JournalBytes  int64
	Compactions   int64
}

// A flushed is a compaction that had something to do.
type flushed struct {
	At  time.Time
	Err error
}

// Figures returns the figures, and the last compaction, if there was one.
func (e *Engine) Figures() (Figures, *flushed) {
	return Figures{
		Documents:     e.Count(),
		SnapshotBytes: e.snapshotBytes.Load(),
		JournalBytes:  e.journalBytes.Load(),
		Compactions:   e.compactions.Load(),
	}, e.flushed.Load()
}
