package redisstore

import (
	"bytes"
	"context"
	"encoding/json"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	LeastCache  = 1 << 20
	cacheShards = 16
	// docOverhead is about what a document takes beside its key and value.
	docOverhead = 192
)

type docState int

const (
	docAbsent  docState = iota
	docAsked            // a GET is under way
	docFetched          // it has come, and may not be served yet
	docServed
)

// A cachedDoc is a document in the cache.
type cachedDoc struct {
	key   string
	token uint64        // of the GET
	conn  uint64        // it came from, whose end is the entry's
	value []byte        // never written to
	until time.Duration // on the cache's clock

	// These are the shard's.
	state      docState
	next, prev *cachedDoc // in the ring, from DocFetched on

	used atomic.Bool
}

func (d *cachedDoc) size() int64 { return docSize(d.key, cap(d.value)) }

func docSize(key string, value int) int64 { return int64(docOverhead + len(key) + value) }

// A docCache keeps documents by key, in a bounded number of bytes. It is the
// redis.Cache of one client.
//
// go-redis reserves an entry, sends a GET, and fulfils the reservation when the
// reply has come and the connection still stands. The server tells that
// connection when the key changes. go-redis reads what a connection was told
// with the next reply on it, or, while it is idle, every 5 ms, and deletes the
// entry, reserved or there: a reply that a write has overtaken comes too late.
// It evicts what came from a connection that has ended, since nobody would be
// told any more. Only a peer that vanishes without a word leaves entries
// behind; they are given up when they are as old as trust.
type docCache struct {
	seed   maphash.Seed
	began  time.Time
	trust  time.Duration
	tokens atomic.Uint64
	uses   atomic.Int64 // how often go-redis has asked
	shards [cacheShards]docShard

	mu       sync.Mutex
	reserved map[uint64]*cachedDoc // by token

	hits, misses, evictions, invalidations atomic.Int64
}

var _ redis.Cache = (*docCache)(nil)

// A docShard evicts by the clock algorithm: the hand goes round, passes over
// what was used since it last came by, and takes the first that was not.
type docShard struct {
	mu    sync.RWMutex
	docs  map[string]*cachedDoc
	hand  *cachedDoc
	bytes int64
	limit int64
}

func newDocCache(limit int64, trust time.Duration) *docCache {
	c := &docCache{seed: maphash.MakeSeed(), began: time.Now(), trust: trust, reserved: make(map[uint64]*cachedDoc)}
	for i := range c.shards {
		c.shards[i].docs = make(map[string]*cachedDoc)
		c.shards[i].limit = limit / cacheShards
	}
	return c
}

func (c *docCache) now() time.Duration { return time.Since(c.began) }

func (c *docCache) shard(hash uint64) *docShard { return &c.shards[hash%cacheShards] }

func (c *docCache) shardOf(key string) *docShard { return c.shard(maphash.String(c.seed, key)) }

// look returns the document with this key. Its value can be read unless it is
// docAbsent or DocAsked.
func (c *docCache) look(key []byte) (*cachedDoc, docState) {
	s := c.shard(maphash.Bytes(c.seed, key))
	s.mu.RLock()
	d := s.docs[string(key)]
	if d == nil {
		s.mu.RUnlock()
		return nil, docAbsent
	}
	state, until := d.state, d.until
	s.mu.RUnlock()
	if c.now() >= until {
		return nil, docAbsent
	}
	if state == docServed && !d.used.Load() {
		d.used.Store(true)
	}
	return d, state
}

// serve lets a document that was fetched be served, but not after until.
// It reports whether it is still in the cache.
func (c *docCache) serve(d *cachedDoc, until time.Duration) bool {
	s := c.shardOf(d.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.docs[d.key] != d {
		return false
	}
	d.state, d.until = docServed, min(d.until, until)
	return true
}

// Drop reports whether the key was in the cache.
func (c *docCache) drop(key string) bool {
	s := c.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.docs[key]
	if d != nil {
		s.remove(d)
	}
	return d != nil
}

// dropIf drops the documents that a condition holds for.
func (c *docCache) dropIf(condition func(d *cachedDoc) bool) (n int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, d := range s.docs {
			if condition(d) {
				s.remove(d)
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}

func (c *docCache) size() (docs int, bytes int64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		docs += len(s.docs)
		bytes += s.bytes
		s.mu.RUnlock()
	}
	return docs, bytes
}

// remove takes a document out of the shard.
func (s *docShard) remove(d *cachedDoc) {
	delete(s.docs, d.key)
	if d.state < docFetched {
		return
	}
	s.bytes -= d.size()
	d.prev.next, d.next.prev = d.next, d.prev
	if s.hand == d {
		s.hand = d.next
	}
	if s.hand == d {
		s.hand = nil
	}
}

// insert puts a document behind the hand, where it is the last to be looked at.
func (s *docShard) insert(d *cachedDoc) {
	s.bytes += d.size()
	if s.hand == nil {
		s.hand, d.next, d.prev = d, d, d
		return
	}
	d.next, d.prev = s.hand, s.hand.prev
	d.next.prev, d.prev.next = d, d
}

// shrink makes the shard fit, and returns how many had to go.
func (s *docShard) shrink() (evicted int64) {
	for s.bytes > s.limit {
		if d := s.hand; d.used.Swap(false) {
			s.hand = d.next
		} else {
			s.remove(d)
			evicted++
		}
	}
	return evicted
}

// Get has nothing for go-redis: what is in the cache is served before go-redis
// is asked, and nobody waits for the GET of another.
func (c *docCache) Get(context.Context, string) ([]byte, bool) {
	c.uses.Add(1)
	return nil, false
}

// Reserve makes an entry for a GET that is about to be sent.
func (c *docCache) Reserve(_ string, redisKeys []string) (token uint64, shouldFetch bool) {
	if len(redisKeys) != 1 {
		return 0, true // There is no token 0.
	}
	now := c.now()
	d := &cachedDoc{key: strings.Clone(bareKey(redisKeys[0])), token: c.tokens.Add(1), state: docAsked, until: now + c.trust}
	s := c.shardOf(d.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.docs[d.key]; old != nil {
		if now < old.until {
			return 0, false
		}
		s.remove(old)
	}
	s.docs[d.key] = d
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reserved[d.token] = d
	return d.token, true
}

// bareKey takes off what go-redis puts in front of a key: the database and the
// length and name of the user, each closed by a NUL.
func bareKey(redisKey string) string {
	_, rest, _ := strings.Cut(redisKey, "\x00")
	_, key, _ := strings.Cut(rest, "\x00")
	return key
}

// take ends a reservation, and returns its entry, or nil if it has gone.
func (c *docCache) take(token uint64) *cachedDoc {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.reserved[token]
	delete(c.reserved, token)
	return d
}

// FulfillOwned takes the reply to the GET.
func (c *docCache) FulfillOwned(_ string, token, conn uint64, reply []byte) bool {
	d := c.take(token)
	if d == nil {
		return false
	}
	s := c.shardOf(d.key)
	value, ok := bulkString(reply)
	if !ok || docSize(d.key, len(value)+len(value)/8) > s.limit { // The copy may be rounded up by that.
		c.giveUp(d)
		return false
	}
	value = bytes.Clone(value)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.docs[d.key] != d {
		return false
	}
	d.value, d.conn, d.state = value, conn, docFetched
	s.insert(d)
	c.evictions.Add(s.shrink())
	return s.docs[d.key] == d
}

// bulkString returns the text of a reply in RESP. There is none for a key that
// is not there, which is not cached: who waits for a document sees it at once.
func bulkString(reply []byte) (json.RawMessage, bool) {
	head, rest, _ := bytes.Cut(reply, []byte("\r\n"))
	if len(head) == 0 || head[0] != '$' {
		return nil, false
	}
	n, err := strconv.Atoi(string(head[1:]))
	if err != nil || n < 0 || len(rest) != n+len("\r\n") {
		return nil, false
	}
	return rest[:n], true
}

// Cancel ends a reservation without a reply.
func (c *docCache) Cancel(_ string, token uint64) bool {
	d := c.take(token)
	return d != nil && c.giveUp(d)
}

// giveUp drops an entry, unless another has taken its place.
func (c *docCache) giveUp(d *cachedDoc) bool {
	s := c.shardOf(d.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.docs[d.key] != d {
		return false
	}
	s.remove(d)
	return true
}

// DeleteByRedisKey hears that a key has changed.
func (c *docCache) DeleteByRedisKey(redisKey string) int {
	if !c.drop(bareKey(redisKey)) {
		return 0
	}
	c.invalidations.Add(1)
	return 1
}

// DeleteByCacheKey is for a reply that Get gave and that is broken. It gives
// none, so that all may go.
func (c *docCache) DeleteByCacheKey(string) bool { return c.Flush() > 0 }

// EvictByConn hears that the server no longer tells of what was read through a
// connection.
func (c *docCache) EvictByConn(conn uint64) int {
	return c.dropIf(func(d *cachedDoc) bool { return d.state >= docFetched && d.conn == conn })
}

// Flush drops everything: the database was emptied.
func (c *docCache) Flush() int { return c.dropIf(func(*cachedDoc) bool { return true }) }
