// Package redisstore is the engine of Redis: one server, Sentinels or a Cluster.
//
// A document is a string under <prefix>:<namespace>:<id>. Reads and writes go
// down in rungs, and none climbs: cache.go over read.go and batch.go, over
// call.go, which sends one command or a pipeline, over retry.go, over way.go,
// over client.go, which has what all share. combine.go lets commands share
// round trips, errors.go knows what an answer means, and caller.go has the
// rule for callers who leave.
package redisstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// Figures are those of what the engines of a client share, as kv documents
// them.
type Figures struct {
	Connections        int
	IdleConnections    int
	ConnectionLimit    int
	PoolTimeouts       int64
	PoolWaits          int64
	PoolWaited         time.Duration
	StaleConnections   int64
	Retries            int64
	Circuit            string
	CacheLimit         int64
	CacheHits          int64
	CacheMisses        int64
	CacheEntries       int
	CacheBytes         int64
	CacheEvictions     int64
	CacheInvalidations int64
}

// An Engine keeps each document as a string under
// <prefix>:<namespace>:<id>, as nano-graphrag does. Nothing else is kept
// under that prefix.
type Engine struct {
	keyspace
	writes  *way // the way of the keys, or one that waits for replicas
	cache   *docFiller
	save    bool         // Flush asks for BGSAVE
	release func() error // gives the client back
	pace    *pace        // of reads of many documents
	plain   atomic.Bool  // the server has no MSETEX for us
	asked   atomic.Bool  // it has one
}

// New makes the engine of a namespace, which release gives the client
// back with.
func New(client *Client, o Options, namespace string, release func() error) *Engine {
	return &Engine{
		keyspace: keyspace{
			way:    client.reads,
			prefix: o.KeyPrefix + ":" + namespace + ":",
			logger: o.Logger.With("namespace", namespace),
		},
		writes:  client.writes,
		cache:   client.cache,
		save:    o.SaveOnFlush,
		release: release,
		pace:    newPace(replyBytes),
	}
}

// Begin pings the server, and asks it for what the options need.
func (e *Engine) Begin(ctx context.Context) error {
	if err := e.Ping(ctx); err != nil {
		return err
	}
	if err := e.checkCache(ctx); err != nil {
		return err
	}
	if e.writes.confirm == nil {
		return nil
	}
	return e.writes.confirm.probe(ctx, e.way)
}

func (e *Engine) key(id string) string { return e.prefix + id }

// keysOf returns the keys of ids, all in one string. They are the engine's own,
// so that a pipeline that outlives its caller never has other ids than those
// it was made for.
func (e *Engine) keysOf(ids []string) []string {
	return e.keysBy(len(ids), func(i int) string { return ids[i] })
}

func (e *Engine) keysOfItems(items []engine.Item) []string {
	return e.keysBy(len(items), func(i int) string { return items[i].ID })
}

func (e *Engine) keysBy(n int, id func(i int) string) []string {
	size := n * len(e.prefix)
	for i := range n {
		size += len(id(i))
	}
	var all strings.Builder
	all.Grow(size)
	keys := make([]string, n)
	for i := range keys {
		at := all.Len()
		all.WriteString(e.prefix)
		all.WriteString(id(i))
		keys[i] = all.String()[at:]
	}
	return keys
}

// command is one that takes keys. Pointers to them spare an allocation each.
func command(name string, keys []string) []any {
	args := make([]any, 1, 1+len(keys))
	args[0] = name
	for i := range keys {
		args = append(args, &keys[i])
	}
	return args
}

func (e *Engine) Present(ctx context.Context, ids []string) ([]bool, error) {
	present := make([]bool, 0, len(ids))
	for _, part := range chunks(ids, nil) {
		keys := e.keysOf(part)
		p, err := pipeline(ctx, e.way, repeatable, len(part), e.way.onKeys(ctx, "exists", keys))
		if err != nil {
			return nil, err
		}
		for _, r := range p {
			if r.err != nil {
				return nil, r.err
			}
			present = append(present, r.cmd.Val() > 0)
		}
	}
	return present, nil
}

func (e *Engine) Upsert(ctx context.Context, items engine.Items) error {
	defer e.forgetItems(items)
	b := &batch{items: items}
	var large sync.Mutex // Side by side, none might come through in time.
	engine.EachPart(items.Parts(perChunk), items.Len(), inFlight, func(_ int, part []engine.Item) {
		if part[0].Size() > perChunk.Bytes {
			large.Lock()
			defer large.Unlock()
		}
		if err := b.failed(); err != nil {
			b.note(part, refused, err)
			return
		}
		e.best(part)(ctx, b, part)
	})
	return b.result()
}

// best returns what stores items best.
func (e *Engine) best(items []engine.Item) func(context.Context, *batch, []engine.Item) {
	life := items[0].TTL
	other := func(it engine.Item) bool { return it.TTL != life }
	switch {
	case len(items) == 1 || e.way.cluster() != nil || slices.ContainsFunc(items, other):
		return e.setEach
	case life == 0:
		return e.setTogether
	case e.plain.Load():
		return e.setEach
	default:
		return e.setTogetherFor
	}
}

// setTogether stores items with one MSET, which knows no time to live.
func (e *Engine) setTogether(ctx context.Context, b *batch, items []engine.Item) {
	args := make([]any, 1, 1+2*len(items))
	args[0] = "mset"
	keys, by := e.keysOfItems(items), lend(ctx, items)
	for i := range items {
		args = append(args, &keys[i], &by.values[i])
	}
	_, f, err := run(by, e.writes.carrying(items), repeatable, func() *redis.StatusCmd { return redis.NewStatusCmd(by, args...) })
	b.note(items, f, err)
}

// setEach stores items with a SET for each.
func (e *Engine) setEach(ctx context.Context, b *batch, items []engine.Item) {
	by := lend(ctx, items)
	set := e.set(items, by)
	p, err := pipeline(by, e.writes.carrying(items), repeatable, len(items), e.way.sets(by, len(items), set))
	if err != nil {
		b.note(items, lost, err)
		return
	}
	for i, r := range p {
		b.note(items[i:i+1], r.fate, r.err)
	}
}

// Insert never repeats a command that may have been executed: the second
// attempt would find the id present, and say so.
func (e *Engine) Insert(ctx context.Context, items engine.Items) (int, error) {
	defer e.forgetItems(items)
	b := &batch{items: items}
	n := 0
	for _, part := range items.Parts(perChunk) {
		if err := b.failed(); err != nil {
			b.note(part, refused, err)
			continue
		}
		by := lend(ctx, part)
		set := e.set(part, by, "nx")
		p, err := pipeline(by, e.writes.carrying(part), once, len(part), e.way.sets(by, len(part), set))
		if err != nil {
			b.note(part, lost, err)
		}
		for i, r := range p {
			b.note(part[i:i+1], r.fate, r.err)
			if r.err == nil && r.cmd.Err() == nil { // Else redis.Nil: it was there.
				n++
			}
		}
	}
	if b.lost() {
		return n, fault.Unknown(b.result())
	}
	return n, b.result()
}

// set returns what makes the arguments of the SET of each item, with its time
// to live in the same command.
func (e *Engine) set(items []engine.Item, by *caller, more ...any) func(i int) []any {
	keys := e.keysOfItems(items)
	all := make([]any, 0, len(items)*(5+len(more)))
	var life any // of the item before, in milliseconds; most have the same
	var lives time.Duration
	return func(i int) []any {
		at := len(all)
		all = append(append(all, "set", &keys[i], &by.values[i]), more...)
		if ttl := items[i].TTL; ttl > 0 {
			if ttl != lives {
				life, lives = ttl.Milliseconds(), ttl
			}
			all = append(all, "px", life)
		}
		return all[at:len(all):len(all)]
	}
}

// Delete is not repeated either, since the second attempt would not count
// what the first removed.
func (e *Engine) Delete(ctx context.Context, ids []string) (int, error) {
	defer e.forgetIDs(ids)
	n := 0
	for _, part := range chunks(ids, nil) {
		keys := e.keysOf(part)
		p, err := pipeline(ctx, e.writes, once, len(part), e.way.onKeys(ctx, "unlink", keys))
		if err != nil {
			return n, fault.Unknown(err)
		}
		var failed error
		for _, r := range p {
			switch {
			case r.err == nil:
				n += int(r.cmd.Val())
			case r.fate >= lost:
				failed = fault.Unknown(r.err)
			case failed == nil:
				failed = r.err
			}
		}
		if failed != nil {
			return n, failed
		}
	}
	return n, nil
}

func (e *Engine) TTLs(ctx context.Context, ids []string) ([]time.Duration, error) {
	ttls := make([]time.Duration, 0, len(ids))
	for _, part := range chunks(ids, nil) {
		keys := e.keysOf(part)
		p, err := pipeline(ctx, e.way, repeatable, len(part), e.way.onKeys(ctx, "pttl", keys))
		if err != nil {
			return nil, err
		}
		for _, r := range p {
			if r.err != nil {
				return nil, r.err
			}
			switch ms := r.cmd.Val(); ms {
			case -2:
				ttls = append(ttls, engine.Absent)
			case -1:
				ttls = append(ttls, 0)
			default:
				ttls = append(ttls, max(engine.Millis(ms), time.Millisecond))
			}
		}
	}
	return ttls, nil
}

// Flush asks for a BGSAVE where that is wanted. A server that is saving
// already, or does not let us ask, is worth a warning and no more.
func (e *Engine) Flush(ctx context.Context) error {
	if !e.save {
		return nil
	}
	nodes, err := e.way.masters(ctx)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		_, _, err := run(ctx, e.way.on(node), once, func() *redis.StatusCmd { return redis.NewStatusCmd(ctx, "bgsave") })
		if fault.ContextError(ctx) != nil {
			return err
		}
		if err != nil {
			e.logger.WarnContext(ctx, "kv: BGSAVE was refused", "error", err)
		}
	}
	return nil
}

// Ping bounds the wait by the connection timeout, so that an Open without a
// deadline fails in time. It asks the server whatever the circuit says, which
// it does not change.
func (e *Engine) Ping(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, e.way.wait)
	defer cancel()
	_, _, err := run(bounded, e.way.unguarded(), never, func() *redis.StatusCmd { return redis.NewStatusCmd(bounded, "ping") })
	if err != nil && fault.ContextError(bounded) != nil && fault.ContextError(ctx) == nil {
		return fault.Unavailablef("no answer from %s within %v", e.way.where, e.way.wait)
	}
	return err
}

// Figures returns the figures of the client.
func (e *Engine) Figures() *Figures {
	pool := e.way.client.PoolStats()
	f := &Figures{
		Connections:      int(pool.TotalConns),
		IdleConnections:  int(pool.IdleConns),
		ConnectionLimit:  e.way.most,
		PoolTimeouts:     int64(pool.Timeouts),
		PoolWaits:        int64(pool.WaitCount),
		PoolWaited:       time.Duration(pool.WaitDurationNs),
		StaleConnections: int64(pool.StaleConns),
		Retries:          e.way.calls.repeated.Load(),
		Circuit:          e.way.circuit.String(),
	}
	e.cache.stats(f)
	e.way.lane.count(f)
	return f
}

func (e *Engine) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), e.way.wait)
	defer cancel()
	return errors.Join(e.Flush(ctx), e.release())
}
