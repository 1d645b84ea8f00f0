package kv

import (
	"context"
	"encoding/json"
	"iter"
)

// What some engines can beside that. Who needs it asks for it by name, and
// does without where it is not there.
type (
	// sized knows its documents without reading them.
	sized interface {
		count() int
		// sizes returns how many bytes each value has; 0 where there is none.
		sizes(ids []string) []int64
	}
	// bulkReader reads what nobody asked for by itself: the documents that
	// are moved to another store. They are no part of a hit rate and fill no
	// cache.
	bulkReader interface {
		readMany(ctx context.Context, ids []string) ([]json.RawMessage, error)
	}
	// replacer changes many documents in one step, and says where the files
	// of before are kept.
	replacer interface {
		replace(ctx context.Context, changes iter.Seq2[replacement, error]) (previous string, err error)
		// holdCompaction keeps a compaction from starting by itself until
		// resume is called.
		holdCompaction() (resume func())
	}
)
