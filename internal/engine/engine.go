// Package engine says what a backend is made of: the engine that is left when
// the part of the contract that is the same for all has been taken out, the
// items that it stores, and the checks that come before it.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"time"

	"github.com/ngraf/kv/internal/health"
)

// An Engine is what is left of a backend when the part of the contract that
// is the same for all has been taken out. Ids and values that reach it have
// been checked, slices are not empty, and the context was not done. What it
// returns belongs to the caller. Its errors are those of the package fault,
// and need not say which call on which namespace failed.
type Engine interface {
	Get(ctx context.Context, id string) (json.RawMessage, error)
	// GetMany returns values, one for each id; see Store.GetMany.
	GetMany(ctx context.Context, ids []string) (values []json.RawMessage, err error)
	// Present reports for each id whether it is there.
	Present(ctx context.Context, ids []string) ([]bool, error)
	Keys(ctx context.Context) iter.Seq2[string, error]
	// Upsert and Insert store a list in its order, and a map in any.
	Upsert(ctx context.Context, items Items) error
	Insert(ctx context.Context, items Items) (int, error)
	Delete(ctx context.Context, ids []string) (int, error)
	Drop(ctx context.Context) error
	// TTLs returns how long each id has left: 0 for ever, Absent if it is not
	// there.
	TTLs(ctx context.Context, ids []string) ([]time.Duration, error)
	Flush(ctx context.Context) error
	Ping(ctx context.Context) error
	// Check adds to r what there is to say of the backend's health.
	Check(ctx context.Context, r *health.Report)
	Close() error
}

// Absent is the time to live of what is not there.
const Absent time.Duration = -1

// What some engines can beside that. Who needs it asks for it by name, and
// does without where it is not there.
type (
	// Sized knows its documents without reading them.
	Sized interface {
		Count() int
		// Sizes returns how many bytes each value has; 0 where there is none.
		Sizes(ids []string) []int64
	}
	// BulkReader reads what nobody asked for by itself: the documents that
	// are moved to another store. They are no part of a hit rate and fill no
	// cache.
	BulkReader interface {
		ReadMany(ctx context.Context, ids []string) ([]json.RawMessage, error)
	}
	// Replacer changes many documents in one step, and says where the files
	// of before are kept.
	Replacer interface {
		Replace(ctx context.Context, changes iter.Seq2[Change, error]) (previous string, err error)
		// HoldCompaction keeps a compaction from starting by itself until
		// resume is called.
		HoldCompaction() (resume func())
	}
	// Swapper stores an item in the place of a document if same says of its
	// value that it is the one to be replaced, in one atomic step, and reports
	// whether it did.
	Swapper interface {
		Swap(ctx context.Context, it Item, same func(value json.RawMessage) bool) (bool, error)
	}
	// ServerInformer knows what its servers say of themselves, by host:port.
	ServerInformer interface {
		ServerInfo(ctx context.Context) (map[string]map[string]string, error)
	}
	// Writable says whether it could be written to, for a readiness probe.
	Writable interface {
		Writable(ctx context.Context) error
	}
)

// A Change is one of many changes that take effect together.
type Change struct {
	Item
	Remove bool // the document with this id
}

// Why a replacement was not made.
var (
	ErrWritten = errors.New("documents were written to the namespace while it was being replaced; nothing was changed, try again")
	ErrTwice   = errors.New("the source lists an id twice, and a document file has each once")
)
