package redisstore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/fault"
)

// poolWait bounds the wait for a free connection of a caller whose context
// has no end.
const poolWait = 30 * time.Second

// A Client is the connection pool that the stores of a factory share.
type Client struct {
	redis.UniversalClient
	where    string // host:port, for messages
	wait     time.Duration
	pool     int        // most connections to a server; 0: not known
	sentinel bool       // Sentinels say which server it is
	borrow   bool       // the caller of WithRedisClient closes it
	calls    *calls     // shared by the clients of all nodes
	lane     *lane      // nil: none
	cache    *docFiller // nil: there is none

	circuit *circuit // shared by the clients of all nodes, too; nil: there is none

	// together executes a command along with those of other callers, and
	// returns its error. nil: every command goes by itself. The combiner is
	// what does it; in a Cluster each master has one.
	together func(ctx context.Context, cmd redis.Cmder) error
	combiner *combiner

	writes  *Client    // the one to write with; nil: this one
	confirm *confirmer // waits for replicas; nil: the master's word is enough
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
	breaker := newCircuit(o.CircuitFailures, o.CircuitCooldown, o.States)
	if o.Given != nil {
		c := &Client{
			UniversalClient: o.Given,
			where:           "the given client's server",
			wait:            o.ConnectionTimeout,
			pool:            poolSize(o.Given),
			borrow:          true,
			calls:           new(calls),
			circuit:         breaker,
		}
		return c, c.confirmed(o)
	}
	u, err := o.universal()
	if err != nil {
		return nil, err
	}
	cache := o.cache(u)
	c := &Client{
		where:    strings.Join(o.Addrs, ", "),
		wait:     o.ConnectionTimeout,
		pool:     o.MaxConnections,
		sentinel: o.MasterName != "",
		calls:    new(calls),
		circuit:  breaker,
	}
	if !o.Unshared && !o.Cluster && o.MasterName == "" && u.PoolSize > 1 {
		c.lane = newLane(*u, c.calls)
		u.PoolSize-- // Which leaves that of the lane.
		u.MaxActiveConns--
	}
	c.UniversalClient = redis.NewUniversalClient(u)
	if cache != nil {
		c.cache = newDocFiller(cache, c, o.Logger)
	}
	if !o.Unshared {
		c.share(sendTo(c.UniversalClient))
	}
	return c, c.confirmed(o)
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

// share lets single commands share round trips.
func (c *Client) share(execute func(context.Context, []single)) {
	if cluster := c.Cluster(); cluster != nil {
		queues := newNodeQueues(cluster, func() *combiner { return newCombiner(execute, c.calls, nil, c.pool) })
		c.together = queues.do
		return
	}
	c.combiner = newCombiner(execute, c.calls, c.lane, c.pool)
	c.together = c.combiner.do
}

// newLane returns a lane to the server of o.
func newLane(o redis.UniversalOptions, calls *calls) *lane {
	o.PoolSize, o.MaxActiveConns, o.ClientSideCache = 1, 1, nil
	return &lane{calls: calls, open: func() *redis.Client { return redis.NewClient(o.Simple()) }}
}

// Cluster returns the client of a Cluster, or nil.
func (c *Client) Cluster() *redis.ClusterClient {
	cluster, _ := c.UniversalClient.(*redis.ClusterClient)
	return cluster
}

// refresh has a Cluster's topology read again after a failure that a failover
// explains. go-redis does so in its own retries, which are off.
func (c *Client) refresh(ctx context.Context, f fate) {
	if cluster := c.Cluster(); cluster != nil && f != refused {
		cluster.ReloadState(ctx)
	}
}

// masters returns a client for each server that holds a part of the keys.
// SCAN on a ClusterClient itself would visit one of them.
func (c *Client) masters(ctx context.Context) ([]redis.UniversalClient, error) {
	cluster := c.Cluster()
	if cluster == nil {
		return []redis.UniversalClient{c.UniversalClient}, nil
	}
	if c.circuit.open() {
		return nil, c.circuit.refusal()
	}
	var mu sync.Mutex
	var nodes []redis.UniversalClient
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, node)
		return nil
	})
	_, err = c.classify(ctx, err)
	return nodes, err
}

// on returns a client for one of the masters.
func (c *Client) on(node redis.UniversalClient) *Client {
	return &Client{UniversalClient: node, where: c.where, wait: c.wait, calls: c.calls, circuit: c.circuit}
}

// unguarded returns a client that asks the server even if the circuit is open.
func (c *Client) unguarded() *Client {
	direct := *c
	direct.circuit = nil
	return &direct
}

// Close waits for the calls whose callers did not. A client that was given is
// its owner's.
func (c *Client) Close() error {
	c.calls.end()
	err := c.lane.close()
	if !c.borrow {
		err = errors.Join(err, c.UniversalClient.Close())
	}
	c.calls.running.Wait()
	err = errors.Join(err, c.lane.close()) // A call may have opened it meanwhile.
	if errors.Is(err, redis.ErrClosed) {
		return nil
	}
	return err
}

// await runs call and returns with it, or as soon as ctx is done: go-redis
// sees a deadline, but not that a context was cancelled while it waits for a
// reply. A call that is left behind ends within the socket's timeout, reads
// the reply that it is owed, and so gives back a connection that the next
// user can trust. It must not use memory of the caller, whom its commands ask
// before they go.
func (c *Client) await(ctx context.Context, call func(by *caller) error) error {
	by := callerOf(ctx)
	if by == nil {
		return call(nil)
	}
	done := make(chan error, 1)
	if !c.calls.begin() {
		return fault.ErrClosed
	}
	go func() {
		defer c.calls.running.Done()
		err := call(by)
		by.end()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		by.leave()
		return ctx.Err()
	}
}
