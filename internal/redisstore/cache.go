package redisstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// The client-side cache as the engine uses it. A document goes through three
// states, each with the round trip that a Get would have cost anyway: the
// first Get reads it, the second asks how long it has to live, and the third
// is answered from memory. What becomes of the write of another program is in
// tracking.go.

// cacheFills bounds the reads under way that fill the cache. Each has a round
// trip of its own, since go-redis caches no command of a pipeline; when there
// are more, the others travel together, and are not cached this time.
const cacheFills = 8

// A docFiller is a cache with the way by which it is filled.
type docFiller struct {
	*docCache
	way    *way
	turns  chan struct{}
	off    atomic.Bool // go-redis has stopped to use the cache
	logger *slog.Logger
}

func newDocFiller(cache *docCache, reads *way, logger *slog.Logger) *docFiller {
	own := &way{pool: reads.pool, to: cacheable{reads.to}, circuit: reads.circuit}
	return &docFiller{docCache: cache, way: own, turns: make(chan struct{}, cacheFills), logger: logger}
}

// cacheable shows go-redis the GET that run has wrapped: it does not cache a
// command that must not be sent twice.
type cacheable struct{ redis.UniversalClient }

func (c cacheable) Process(ctx context.Context, cmd redis.Cmder) error {
	if s, ok := cmd.(single); ok {
		cmd = s.Cmder
	}
	return c.UniversalClient.Process(ctx, cmd)
}

func (e *Engine) Get(ctx context.Context, id string) (json.RawMessage, error) {
	c := e.cache
	if c == nil {
		return e.read(ctx, id)
	}
	switch d, state := e.look(id); state {
	case docServed:
		c.hits.Add(1)
		return bytes.Clone(d.value), nil
	case docFetched:
		c.misses.Add(1)
		if value, err := e.admit(ctx, d, id); value != nil || err != nil {
			return value, err
		}
	case docAbsent:
		c.misses.Add(1)
		if c.off.Load() {
			break
		}
		select {
		case c.turns <- struct{}{}:
			defer func() { <-c.turns }()
			return e.fill(ctx, id)
		default:
		}
	case docAsked:
		c.misses.Add(1)
	}
	return e.read(ctx, id)
}

// look finds a document in the cache, without an allocation for most keys.
func (e *Engine) look(id string) (*cachedDoc, docState) {
	var key [128]byte
	return e.cache.look(append(append(key[:0], e.prefix...), id...))
}

// fill reads a document and lets go-redis put it into the cache.
func (e *Engine) fill(ctx context.Context, id string) (json.RawMessage, error) {
	c := e.cache
	cmd, used, err := e.ask(ctx, id)
	if err != nil {
		return nil, err
	}
	if !used && !c.off.Swap(true) {
		c.logger.WarnContext(ctx, "kv: the client-side cache is off until the next start: the server has refused CLIENT TRACKING")
	}
	return stored(cmd)
}

// ask also reports whether go-redis uses the cache. It goes without, for good,
// when the server refuses CLIENT TRACKING.
func (e *Engine) ask(ctx context.Context, id string) (cmd *redis.StringCmd, used bool, err error) {
	c := e.cache
	uses := c.uses.Load()
	cmd, _, err = run(ctx, c.way, repeatable, func() *redis.StringCmd {
		return redis.NewStringCmd(ctx, "get", e.key(id))
	})
	return cmd, c.uses.Load() > uses, err
}

// admit makes a document that was fetched one that is served: it is JSON, and
// it is known how long it has to live. The server tells of an expired key only
// when it removes it, which may be much later. admit returns nothing if the
// document was changed in the meantime.
func (e *Engine) admit(ctx context.Context, d *cachedDoc, id string) (json.RawMessage, error) {
	c := e.cache
	asked := c.now()
	ttls, err := e.TTLs(ctx, []string{id})
	if err == nil && ttls[0] == engine.Absent {
		err = fault.ErrNotFound
	}
	if err == nil {
		err = checkStored(d.value)
	}
	if err != nil {
		c.giveUp(d)
		return nil, err
	}
	until := engine.LongestTTL
	if ttls[0] > 0 {
		until = asked + min(ttls[0], engine.LongestTTL-asked)
	}
	if !c.serve(d, until) {
		return nil, nil
	}
	return bytes.Clone(d.value), nil
}

// GetMany takes what it can from the cache, which it does not fill.
func (e *Engine) GetMany(ctx context.Context, ids []string) ([]json.RawMessage, error) {
	c := e.cache
	if c == nil {
		return e.ReadMany(ctx, ids)
	}
	values := make([]json.RawMessage, len(ids))
	var rest []string
	var at []int
	for i, id := range ids {
		if d, state := e.look(id); state == docServed {
			values[i] = bytes.Clone(d.value)
			continue
		}
		rest, at = append(rest, id), append(at, i)
	}
	c.hits.Add(int64(len(ids) - len(rest)))
	c.misses.Add(int64(len(rest)))
	if len(rest) == 0 {
		return values, nil
	}
	found, err := e.ReadMany(ctx, rest)
	if found == nil {
		return nil, err
	}
	for i, value := range found {
		values[at[i]] = value
	}
	return values, err
}

// forget drops a document from the cache when a write of this process has
// ended, however it did. A read that began before is not cached any more, and
// one that begins later sees the write.
func (e *Engine) forget(id string) {
	if c := e.cache; c != nil {
		c.drop(e.key(id))
	}
}

func (e *Engine) forgetItems(items engine.Items) {
	if e.cache == nil {
		return
	}
	for it := range items.All() {
		e.forget(it.ID)
	}
}

func (e *Engine) forgetIDs(ids []string) {
	for _, id := range ids {
		e.forget(id)
	}
}

func (e *Engine) forgetAll() {
	if c := e.cache; c != nil {
		c.Flush()
	}
}

// checkCache returns an error if the server refuses what the cache needs. No
// document has the id that it asks for.
func (e *Engine) checkCache(ctx context.Context) error {
	if e.cache == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.way.wait)
	defer cancel()
	if _, used, err := e.ask(ctx, ""); used {
		return nil
	} else if errors.Is(err, fault.ErrUnavailable) || fault.ContextError(ctx) != nil {
		return err
	}
	_, _, why := run(ctx, e.way, never, func() *redis.StatusCmd {
		return redis.NewStatusCmd(ctx, "client", "tracking", "off")
	})
	if why == nil {
		why = errors.New("the server speaks no RESP3")
	}
	return fmt.Errorf("%w: REDIS_CLIENT_CACHE needs CLIENT TRACKING, of Redis 6 or later and with +client|tracking: %w", fault.ErrInvalid, why)
}

// stats fills in the figures of the cache.
func (c *docFiller) stats(s *Figures) {
	if c == nil {
		return
	}
	s.CacheLimit = c.shards[0].limit * cacheShards
	s.CacheHits, s.CacheMisses = c.hits.Load(), c.misses.Load()
	s.CacheEvictions, s.CacheInvalidations = c.evictions.Load(), c.invalidations.Load()
	s.CacheEntries, s.CacheBytes = c.size()
}
