// Package engine says what a backend is made of: the engine that is left when
// the part of the contract that is the same for all has been taken out, the
// items that it stores, and the checks that come before it.
package kv

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"time"
)

// An engine is what is left of a backend when the part of the contract that
// is the same for all has been taken out. Ids and values that reach it have
// been checked, slices are not empty, and the context was not done. What it
// returns belongs to the caller. Its errors are those of the package fault,
// and need not say which call on which namespace failed.
type engine interface {
	get(ctx context.Context, id string) (json.RawMessage, error)
	// getMany fills values, one for each id; see Store.GetMany.
	getMany(ctx context.Context, ids []string) (values []json.RawMessage, err error)
	// present reports for each id whether it is there.
	present(ctx context.Context, ids []string) ([]bool, error)
	keys(ctx context.Context) iter.Seq2[string, error]
	// upsert and insert store a list in its order, and a map in any.
	upsert(ctx context.Context, items items) error
	insert(ctx context.Context, items items) (int, error)
	delete(ctx context.Context, ids []string) (int, error)
	drop(ctx context.Context) error
	// ttls returns how long each id has left: 0 for ever, absent if it is not
	// there.
	ttls(ctx context.Context, ids []string) ([]time.Duration, error)
	flush(ctx context.Context) error
	ping(ctx context.Context) error
	// check adds to r what there is to say of the backend's health.
	check(ctx context.Context, r *report)
	close() error
}

// absent is the time to live of what is not there.
const absent time.Duration = -1

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
	// serverInformer knows what its servers say of themselves, by host:port.
	serverInformer interface {
		serverInfo(ctx context.Context) (map[string]map[string]string, error)
	}
	// writable says whether it could be written to, for a readiness probe.
	writable interface {
		writable(ctx context.Context) error
	}
)

// A replacement is one of many changes that take effect together.
type replacement struct {
	item
	remove bool // the document with the id of item
}

// Why a replacement was not made.
var (
	errWritten = errors.New("documents were written to the namespace while it was being replaced; nothing was changed, try again")
	errTwice   = errors.New("the source lists an id twice, and a document file has each once")
)
