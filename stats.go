package kv

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"
)

// Stats are the figures of one store, counted since it was opened. Those in
// JSON and Redis are of what stores share.
type Stats struct {
	Backend   string // name of the backend
	Namespace string

	Gets    int64 // ids asked for by Get and GetMany
	Hits    int64 // those of Gets that were present
	Misses  int64 // those that were absent; the others' calls failed, or are under way
	Upserts int64 // items stored by Upsert, Insert and UpsertTTL
	Deletes int64 // documents removed by Delete
	Errors  int64 // calls that failed, ErrNotFound apart

	BytesRead    int64 // of the values that Get and GetMany returned
	BytesWritten int64 // of the values that were stored

	// Calls has an element for each method that was called, by its name as in
	// Error.Op.
	Calls map[string]CallStats

	LastFlush FlushStats
	Compute   ComputeStats

	JSON  *JSONStats  // nil on other backends
	Redis *RedisStats // nil on other backends
}

// CallStats are the figures of one method.
type CallStats struct {
	// Results counts calls by how they ended, as [Result] says: "ok",
	// "not_found", "canceled", "timeout", "unknown_outcome", "unavailable", "corrupt", "invalid",
	// "closed", "locked" and, for what matches none of the errors of this
	// package, "error".
	Results map[string]int64

	Latency Histogram // seconds; that of Keys has the time of the loop's body in it
	Batch   Histogram // ids or items of one call; empty for methods that take none or one
}

// FlushStats are about the last Flush, and on the json backend about the last
// compaction by itself, whichever was later.
type FlushStats struct {
	At  time.Time // zero: there was none
	Err error     // nil if it succeeded
}

// A method of a store, for its figures.
type method int

const (
	methodGet method = iota
	methodGetMany
	methodMissing
	methodKeys
	methodUpsert
	methodUpsertTTL
	methodInsert
	methodDelete
	methodDrop
	methodFlush
	methodClose
	methodPing
	methodTTL
	methodCompute // only its failures; see ComputeStats
	methodCount
)

var methodNames = [methodCount]string{"get", "getmany", "missing", "keys", "upsert", "upsertttl", "insert",
	"delete", "drop", "flush", "close", "ping", "ttl", "compute"}

func (m method) String() string { return methodNames[m] }

// classes are the ways in which a call can end. The first that an error
// matches is its own.
var classes = [...]struct {
	name string
	err  error
}{
	{"ok", nil},
	{"not_found", ErrNotFound},
	{"canceled", context.Canceled},
	{"timeout", context.DeadlineExceeded},
	{"unknown_outcome", ErrOutcomeUnknown},
	{"unavailable", ErrUnavailable},
	{"corrupt", ErrCorrupt},
	{"invalid", ErrInvalid},
	{"closed", ErrClosed},
	{"locked", ErrLocked},
	{"error", nil},
}

// Result returns the name under which [CallStats] counts a call that returned
// err: one of a few, so that it can be a label of a metric or of a trace.
func Result(err error) string { return classes[classOf(err)].name }

// classOf returns the index of an error among the classes.
func classOf(err error) int {
	if err == nil {
		return 0
	}
	for i, c := range classes {
		if c.err != nil && errors.Is(err, c.err) {
			return i
		}
	}
	return len(classes) - 1
}

// counters are the figures of a store. Counting allocates nothing.
type counters struct {
	gets, hits, misses, upserts, deletes atomic.Int64
	read, written                        atomic.Int64 // bytes
	methods                              [methodCount]struct {
		results [len(classes)]atomic.Int64
		latency meter
		batch   meter
	}
}

// epoch makes a reading of the clock a number, and one that costs half.
var epoch = time.Now()

// A span is a call under way.
type span struct {
	method method
	start  time.Duration // since epoch
}

func begun(m method) span { return span{m, time.Since(epoch)} }

// end counts a call that has returned err.
func (c *counters) end(s span, err error) {
	m := &c.methods[s.method]
	m.results[classOf(err)].Add(1)
	m.latency.time(time.Since(epoch) - s.start)
}

// fill puts the figures into stats.
func (c *counters) fill(stats *Stats) {
	stats.Gets, stats.Hits, stats.Misses = c.gets.Load(), c.hits.Load(), c.misses.Load()
	stats.Upserts, stats.Deletes = c.upserts.Load(), c.deletes.Load()
	stats.BytesRead, stats.BytesWritten = c.read.Load(), c.written.Load()
	stats.Errors, stats.Calls = 0, make(map[string]CallStats)
	for i := range c.methods {
		m := &c.methods[i]
		counts := make(map[string]int64)
		for i, class := range classes {
			n := m.results[i].Load()
			if n == 0 {
				continue
			}
			counts[class.name] = n
			if class.name != "ok" && class.name != "not_found" {
				stats.Errors += n
			}
		}
		if len(counts) > 0 {
			stats.Calls[method(i).String()] = CallStats{counts, m.latency.read(1e-9), m.batch.read(1)}
		}
	}
}

// add makes s the sum of itself and o, a store of the same namespace. What
// stores share is taken from the one that was looked at last.
func (s *Stats) add(o Stats) {
	s.Backend, s.Namespace = o.Backend, o.Namespace
	s.Gets += o.Gets
	s.Hits += o.Hits
	s.Misses += o.Misses
	s.Upserts += o.Upserts
	s.Deletes += o.Deletes
	s.Errors += o.Errors
	s.BytesRead += o.BytesRead
	s.BytesWritten += o.BytesWritten
	calls := make(map[string]CallStats)
	maps.Copy(calls, s.Calls)
	for name, c := range o.Calls {
		calls[name] = calls[name].plus(c)
	}
	s.Calls = calls
	if o.LastFlush.At.After(s.LastFlush.At) {
		s.LastFlush = o.LastFlush
	}
	s.Compute, s.JSON, s.Redis = o.Compute, o.JSON, o.Redis
}

func (c CallStats) plus(o CallStats) CallStats {
	results := make(map[string]int64)
	for _, counts := range []map[string]int64{c.Results, o.Results} {
		for name, n := range counts {
			results[name] += n
		}
	}
	return CallStats{results, c.Latency.plus(o.Latency), c.Batch.plus(o.Batch)}
}
