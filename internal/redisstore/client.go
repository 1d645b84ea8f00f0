package redisstore

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// poolWait bounds the wait for a free connection of a caller whose context
// has no end.
const poolWait = 30 * time.Second

// A pool is what all ways to the servers share. It is never copied.
//
//   - go-redis sends a command once. What is sent again is decided here, by
//     what is known of the failure (fate), and never if that is nothing and
//     twice would do harm.
//   - A call that outlives its caller is counted in calls, so that Close waits
//     for it; none begins after Close has.
//   - The lane has one of the connections that the settings allow; the client
//     has the others.
type pool struct {
	client   redis.UniversalClient
	where    string // host:port, for messages
	wait     time.Duration
	most     int   // connections to a server; 0: not known
	sentinel bool  // Sentinels say which server it is
	borrowed bool  // the caller of WithRedisClient closes the client
	lane     *lane // nil: none
	calls    *calls
}

// A Client is what the stores of a factory share: the pool, and the ways
// through it.
type Client struct {
	*pool
	reads  *way
	writes *way       // the same, or one that waits for replicas
	cache  *docFiller // nil: there is none
}

// calls counts the calls that run apart from their caller, so that the client
// can wait for them, and the requests that were sent again.
type calls struct {
	repeated atomic.Int64

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

func (c *calls) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running.Add(1)
	return true
}

// end lets no more calls begin.
func (c *calls) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

func (c *calls) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Connect makes the client. Nothing is dialled yet.
func Connect(o Options) (*Client, error) {
	p := &pool{
		client:   o.Given,
		where:    strings.Join(o.Addrs, ", "),
		wait:     o.ConnectionTimeout,
		most:     o.MaxConnections,
		sentinel: o.MasterName != "",
		calls:    new(calls),
	}
	guard := newCircuit(o.CircuitFailures, o.CircuitCooldown, o.States)
	if o.Given != nil {
		p.where, p.most, p.sentinel, p.borrowed = "the given client's server", poolSize(o.Given), false, true
		return newClient(&way{pool: p, to: p.client, circuit: guard}, o)
	}
	u, err := o.universal()
	if err != nil {
		return nil, err
	}
	cache := o.cache(u)
	if !o.Unshared && !o.Cluster && o.MasterName == "" && u.PoolSize > 1 {
		p.lane = newLane(*u, p.calls)
		u.PoolSize-- // Which leaves that of the lane.
		u.MaxActiveConns--
	}
	p.client = redis.NewUniversalClient(u)
	reads := &way{pool: p, to: p.client, circuit: guard}
	if !o.Unshared {
		reads.share(sendTo(p.client), p.lane)
	}
	c, err := newClient(reads, o)
	if cache != nil && err == nil {
		c.cache = newDocFiller(cache, reads, o.Logger)
	}
	return c, err
}

func newClient(reads *way, o Options) (*Client, error) {
	writes, err := reads.confirmed(o)
	return &Client{pool: reads.pool, reads: reads, writes: writes}, err
}

func poolSize(client redis.UniversalClient) int {
	switch c := client.(type) {
	case *redis.Client:
		return c.Options().PoolSize
	case *redis.ClusterClient:
		return c.Options().PoolSize
	}
	return 0
}

// newLane returns a lane to the server of o.
func newLane(o redis.UniversalOptions, calls *calls) *lane {
	o.PoolSize, o.MaxActiveConns, o.ClientSideCache = 1, 1, nil
	return &lane{calls: calls, open: func() *redis.Client { return redis.NewClient(o.Simple()) }}
}

// Close waits for the calls whose callers did not. A client that was given is
// its owner's.
func (c *Client) Close() error {
	c.calls.end()
	err := c.lane.close()
	if !c.borrowed {
		err = errors.Join(err, c.client.Close())
	}
	c.calls.running.Wait()
	err = errors.Join(err, c.lane.close()) // A call may have opened it meanwhile.
	if errors.Is(err, redis.ErrClosed) {
		return nil
	}
	return err
}
