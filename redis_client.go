package kv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// poolWait bounds the wait for a free connection of a caller whose context
// has no end.
const poolWait = 30 * time.Second

// A redisClient is the connection pool that the stores of a factory share.
type redisClient struct {
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
	// what does it, except in a Cluster.
	together func(ctx context.Context, cmd redis.Cmder) error
	combiner *combiner

	loan *loan // what a call has been lent that may outlive its caller

	writes  *redisClient // the one to write with; nil: this one
	confirm *confirmer   // waits for replicas; nil: the master's word is enough
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

// connectRedis makes the client. Nothing is dialled yet.
func connectRedis(_ context.Context, cfg RedisConfig, opts options) (*redisClient, error) {
	breaker := newCircuit(cfg.CircuitFailures, orDefault(cfg.CircuitCooldown, defaultCooldown), withRepeats(opts.logger))
	if opts.client != nil {
		c := &redisClient{
			UniversalClient: opts.client,
			where:           "the given client's server",
			wait:            defaultTimeout,
			pool:            poolSize(opts.client),
			borrow:          true,
			calls:           new(calls),
			circuit:         breaker,
		}
		return c, c.confirmed(cfg.WaitReplicas, opts)
	}
	s, err := cfg.settle()
	if err != nil {
		return nil, err
	}
	o, err := s.options()
	if err != nil {
		return nil, err
	}
	cache := s.cacheOptions(o)
	c := &redisClient{
		where:    strings.Join(s.addrs, ", "),
		wait:     s.ConnectionTimeout,
		pool:     s.MaxConnections,
		sentinel: s.masterName != "",
		calls:    new(calls),
		circuit:  breaker,
	}
	if !opts.unshared && !s.cluster && s.masterName == "" && o.PoolSize > 1 {
		c.lane = newLane(*o, c.calls)
		o.PoolSize-- // Which leaves that of the lane.
		o.MaxActiveConns--
	}
	c.UniversalClient = redis.NewUniversalClient(o)
	if cache != nil {
		c.cache = newDocFiller(cache, c, opts.logger)
	}
	if err := c.share(opts); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, c.confirmed(s.WaitReplicas, opts)
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
func (c *redisClient) share(opts options) error {
	if opts.unshared {
		return nil
	}
	if c.cluster() == nil {
		c.combiner = newCombiner(sendTo(c.UniversalClient), c.calls, c.lane)
		c.together = c.combiner.do
		return nil
	}
	auto, err := c.cluster().AsyncAutoPipeline()
	if err != nil {
		return err
	}
	c.together = autoPipelined(auto)
	return nil
}

// newLane returns a lane to the server of o.
func newLane(o redis.UniversalOptions, calls *calls) *lane {
	o.PoolSize, o.MaxActiveConns, o.ClientSideCache = 1, 1, nil
	return &lane{calls: calls, open: func() *redis.Client { return redis.NewClient(o.Simple()) }}
}

// autoPipelined lets commands to a Cluster share round trips, by node. It is
// go-redis's own way, and this the one place that knows the experimental API.
func autoPipelined(auto *redis.AutoPipeliner) func(context.Context, redis.Cmder) error {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return auto.Submit(ctx, single{cmd}).WaitContext(ctx)
	}
}

// options are go-redis's for s. They are the only place where a setting
// becomes behaviour of the client.
func (s settledRedis) options() (*redis.UniversalOptions, error) {
	tlsConfig, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	o := &redis.UniversalOptions{
		Addrs:            s.addrs,
		DB:               s.db,
		IsClusterMode:    s.cluster,
		MasterName:       s.masterName,
		ClientName:       s.clientName,
		Protocol:         s.protocol,
		Username:         s.Username,
		Password:         string(s.Password),
		SentinelUsername: s.sentinelUser,
		SentinelPassword: string(s.sentinelPass),

		DialTimeout:           s.ConnectionTimeout,
		ReadTimeout:           s.SocketTimeout,
		WriteTimeout:          s.SocketTimeout,
		ContextTimeoutEnabled: true,
		Dialer:                dialer(s.ConnectionTimeout, tlsConfig),
		DialerRetries:         1,
		MaxRetries:            -1, // Ours know whether a command may have run; see retry.

		// One pool whose size is exact: go-redis's own for pipelines would
		// come on top.
		PoolSize:         s.MaxConnections,
		MaxActiveConns:   s.MaxConnections,
		PipelinePoolSize: -1,
		PoolTimeout:      poolWait,
		ConnMaxIdleTime:  s.HealthCheckInterval,
		TLSConfig:        tlsConfig,

		// Old and managed servers refuse both.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.ConnMaxIdleTime < 0 {
		o.ConnMaxIdleTime = -1 // go-redis's word for never.
	}
	if file := s.PasswordFile; file != "" {
		user := s.Username
		o.CredentialsProviderContext = func(context.Context) (string, string, error) {
			password, err := readSecret(file)
			return user, password, err
		}
	}
	return o, nil
}

// dialer dials within the context, TLS handshake included, which go-redis's
// own does not. Its errors are dialErrors.
func dialer(timeout time.Duration, tlsConfig *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: timeout}
	dial := plain.DialContext
	if tlsConfig != nil {
		dial = (&tls.Dialer{NetDialer: plain, Config: tlsConfig}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, &dialError{err}
		}
		if raw, ok := conn.(syscall.Conn); ok { // Not one with TLS.
			return &freshConn{Conn: conn, raw: raw}, nil
		}
		return conn, nil
	}
}

// A dialError tells that there was no connection to send anything on, whatever
// went wrong.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// tlsConfig verifies with the system's roots unless a setting says otherwise.
func (s settledRedis) tlsConfig() (*tls.Config, error) {
	if !s.tls {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName, InsecureSkipVerify: s.insecure}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("REDIS_CA_FILE: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, invalidf("REDIS_CA_FILE: no PEM certificate in %s", s.CAFile)
		}
	}
	if s.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("REDIS_CERT_FILE, REDIS_KEY_FILE: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func readSecret(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", &loginError{fmt.Errorf("REDIS_PASSWORD_FILE: %w", err)}
	}
	return strings.TrimRight(string(text), " \t\r\n"), nil
}

// A loginError keeps an unreadable password file from looking like a server
// that does not answer.
type loginError struct{ error }

func (e *loginError) Unwrap() error { return e.error }

// cluster returns the client of a Cluster, or nil.
func (c *redisClient) cluster() *redis.ClusterClient {
	cluster, _ := c.UniversalClient.(*redis.ClusterClient)
	return cluster
}

// refresh has a Cluster's topology read again after a failure that a failover
// explains. go-redis does so in its own retries, which are off.
func (c *redisClient) refresh(ctx context.Context, f fate) {
	if cluster := c.cluster(); cluster != nil && f != refused {
		cluster.ReloadState(ctx)
	}
}

// masters returns a client for each server that holds a part of the keys.
// SCAN on a ClusterClient itself would visit one of them.
func (c *redisClient) masters(ctx context.Context) ([]redis.UniversalClient, error) {
	cluster := c.cluster()
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
func (c *redisClient) on(node redis.UniversalClient) *redisClient {
	return &redisClient{UniversalClient: node, where: c.where, wait: c.wait, calls: c.calls, circuit: c.circuit}
}

// unguarded returns a client that asks the server even if the circuit is open.
func (c *redisClient) unguarded() *redisClient {
	direct := *c
	direct.circuit = nil
	return &direct
}

// close waits for the calls whose callers did not.
func (c *redisClient) close() error {
	c.calls.end()
	err := c.lane.close()
	if !c.borrow {
		err = errors.Join(err, c.Close())
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
// user can trust. It must not use memory of the caller.
func (c *redisClient) await(ctx context.Context, call func() error) error {
	if ctx.Done() == nil {
		return call()
	}
	done := make(chan error, 1)
	if !c.calls.begin() {
		return ErrClosed
	}
	go func() {
		defer c.calls.running.Done()
		err := call()
		c.loan.end()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
