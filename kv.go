// Package kv stores JSON documents by id, one namespace at a time, in plain
// JSON files or in Redis. Which of the two is a setting, STORAGE_KV_BACKEND;
// the program does not change:
//
//	cfg, err := kv.FromEnv()
//	...
//	docs, err := kv.Open(ctx, cfg, "full_docs")
//	...
//	err = docs.Upsert(ctx, map[string]json.RawMessage{"doc-1": json.RawMessage(`{"content":"..."}`)})
//
// It is the storage layer of GraphRAG services in the manner of nano-graphrag,
// and reads and writes the same files and the same Redis keys as the Python
// original does.
package kv

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// A Store is one open namespace: a set of JSON documents, each under an id.
//
// An id is any valid UTF-8 string of at most 64 KiB; the empty string is one.
// A value is one JSON text (RFC 8259) in valid UTF-8, nested at most 512 deep
// and, without its insignificant white space, no longer than
// [Config].MaxValueBytes. It is kept as bytes: the spelling of numbers, the
// order and repetition of members, and escapes come back as they went in. Only
// insignificant white space may differ.
//
// These rules hold for every method:
//
//   - It may be called from any number of goroutines at once.
//   - The store keeps no memory that it was given, and hands out only memory
//     that the caller may change.
//   - A context that is done ends the call, and the error matches ctx.Err().
//     A write that was cut short this way may have been applied, or be
//     applied later if it was on the wire by then, but not otherwise.
//   - Input that breaks a limit is an error that matches [ErrInvalid], and
//     nothing of that call is written.
//   - Empty input (no ids, no items) is no error and touches nothing.
//   - Errors are [*Error]. Their text holds no id, no value and no secret.
//   - After Close every method fails with an error that matches [ErrClosed].
//   - A document whose time to live has passed is absent for every method.
//   - A stored value that is not JSON, because something else wrote it, is
//     [ErrCorrupt] for its id alone. It counts as present, and Upsert and
//     Delete replace and remove it as any other.
//
// The suite in the package kvtest checks each sentence of this contract.
type Store interface {
	// Get returns the value of id, or an error that matches [ErrNotFound]
	// when there is none. The JSON text null is a value, not absence.
	Get(ctx context.Context, id string) (json.RawMessage, error)

	// GetMany returns one element per id, in the order of ids: its value, or
	// nil where it is absent. An id that is asked for twice is answered twice.
	//
	// With fields, each value that is a JSON object comes back with only those
	// of its members whose name is among fields, in their stored order;
	// members that it lacks are left out, so the result may be {}. A value
	// that is not an object comes back whole. No fields means whole values.
	//
	// When some values are corrupt, the error matches [ErrCorrupt] and the
	// other elements are filled in. After any other error the slice is nil.
	GetMany(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error)

	// Missing returns those of ids that are absent, without repeats, in the
	// order of their first appearance.
	Missing(ctx context.Context, ids []string) ([]string, error)

	// Keys yields every id once, in no particular order. An error ends the
	// sequence as its last pair, with an empty id. Ids that are written or
	// removed while it runs may or may not be seen; all others are. The body
	// of the loop may call the store, and may leave early.
	//
	// Memory is bounded by a page of ids, except for what it takes to
	// suppress repeats on a backend that has them.
	Keys(ctx context.Context) iter.Seq2[string, error]

	// Upsert stores every item, replacing what is there and restarting its
	// time to live (see [Config].TTL). All ids and values are checked before
	// anything is written. A nil error means that every item was stored; how
	// far that survives a crash is said by the backend. An error that concerns
	// only part of the items carries a [*BatchError]. Repeating a failed
	// Upsert is safe.
	Upsert(ctx context.Context, items map[string]json.RawMessage) error

	// Delete removes the documents with these ids and returns how many of
	// them were present. Ids that are absent are no error, and an id named
	// twice is counted once.
	Delete(ctx context.Context, ids ...string) (int, error)

	// Drop removes every document of this namespace and nothing else,
	// whatever characters its ids hold. The store stays open.
	Drop(ctx context.Context) error

	// Flush makes every write that returned before it survive a crash of the
	// machine, as far as that is the library's to say: on Redis durability is
	// the server's (appendfsync), and Flush does nothing unless
	// REDIS_SAVE_ON_FLUSH asks for a BGSAVE.
	Flush(ctx context.Context) error

	// Close flushes, releases what the store holds, and makes every later
	// call fail with [ErrClosed]. Closing twice is fine and returns nil.
	Close() error
}

// A Pinger reports whether its backend answers.
type Pinger interface {
	// Ping returns nil, or why the backend cannot serve: an error that matches
	// [ErrUnavailable] if that may pass.
	Ping(ctx context.Context) error
}

// An Inserter stores documents only where there is none.
type Inserter interface {
	// Insert stores those of items whose id is absent, leaves the others
	// alone, and returns how many it stored. Presence and storing are one
	// atomic step per id, among all users of the backend. If a reply is lost
	// on the way, the count is unknown and the error matches
	// [ErrOutcomeUnknown]; no document was replaced in any case.
	Insert(ctx context.Context, items map[string]json.RawMessage) (int, error)
}

// An Expirer gives documents a time to live of their own. Both built-in
// backends have it. A time to live that a time.Duration cannot hold, which
// only other programs give, counts as the longest that it can, 292 years: TTL
// says so, and a copy of the document lives that long.
type Expirer interface {
	// TTL returns how long id has left to live: 0 if it lives for ever, and an
	// error that matches [ErrNotFound] if it is absent.
	TTL(ctx context.Context, id string) (time.Duration, error)

	// UpsertTTL is Upsert with the given time to live in place of the
	// namespace's. 0 means for ever; a negative one is [ErrInvalid]. It is
	// kept to the millisecond, rounded up.
	UpsertTTL(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error
}

// A Statser counts what a store does.
type Statser interface {
	// Stats returns the figures of this store since it was opened. It costs
	// a few loads, and no input or output.
	Stats(ctx context.Context) (Stats, error)
}

// As returns the first store in the chain of wrappers around s that has the
// type T, usually an optional interface such as [Inserter]. A wrapper takes
// part by having a method Unwrap() Store.
func As[T any](s Store) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		w, ok := s.(interface{ Unwrap() Store })
		if !ok {
			break
		}
		s = w.Unwrap()
	}
	var zero T
	return zero, false
}
