package kv

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/quietlog"
	"github.com/ngraf/kv/internal/redisstore"
)

// RedisStats are the figures of the connection pool and of the client-side
// cache that the stores of a factory share: each of these stores reports the
// same.
type RedisStats struct {
	Connections      int   // open now
	IdleConnections  int   // of these, not in use
	ConnectionLimit  int   // to each server; 0: not known, of some clients of WithRedisClient
	PoolTimeouts     int64 // calls that found no free connection in time
	PoolWaits        int64 // calls that had to wait for a connection
	PoolWaited       time.Duration
	StaleConnections int64 // closed because they were old, idle for too long or broken

	Retries int64 // requests sent again after a failure, a pipeline counting as one

	Circuit string // "closed", "open", "half-open" (one call at a time is tried); empty: there is none

	// All are 0 without [RedisConfig].ClientCache.
	CacheLimit         int64 // bytes, see CacheBytes
	CacheHits          int64 // ids of Get and GetMany that the cache answered
	CacheMisses        int64 // those that the server had to be asked for
	CacheEntries       int   // documents in the cache now
	CacheBytes         int64 // of memory that they take, never above ClientCache
	CacheEvictions     int64 // documents that had to make room
	CacheInvalidations int64 // documents dropped because the server told of a change
}

// Replicas is how many replicas must have a write before it is acknowledged,
// beside the master. The zero value asks for none.
type Replicas int

// AllReplicas asks for every replica: as many as the master was ever seen to
// have by this factory, and one at least, so that a replica that is cut off is
// waited for and not forgotten. One that was away from the start is not known;
// a number counts it, too. Behind Sentinels the number is kept when another
// server becomes the master, so that nothing is acknowledged until the old one
// is back as a replica. In a Cluster each master has a number of its own.
const AllReplicas Replicas = -1

// String returns "all" or the number.
func (r Replicas) String() string {
	if r == AllReplicas {
		return "all"
	}
	return strconv.Itoa(int(r))
}

// MarshalText returns what UnmarshalText reads.
func (r Replicas) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads "all" or a number from 0 on.
func (r *Replicas) UnmarshalText(text []byte) error {
	if strings.EqualFold(string(text), "all") {
		*r = AllReplicas
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil {
		return fmt.Errorf("%q is neither all nor a number from 0 to 65535", text)
	}
	*r = Replicas(n)
	return nil
}

// WithRedisClient makes the redis backend use this client, which the caller
// goes on to own and closes after the factory. Of Config.Redis only KeyPrefix,
// SaveOnFlush, WaitReplicas and the circuit matter then, and ClientCache is
// refused; a cache that the client itself has is not used. The client should
// have ContextTimeoutEnabled, and MaxRetries -1: go-redis's own retries give
// wrong answers to Insert and Delete when a reply is lost.
func WithRedisClient(client redis.UniversalClient) Option {
	return func(o *options) { o.client = client }
}

// WithoutAutoPipelining gives every single command to Redis a round trip of
// its own. Otherwise those of many goroutines share some. On a Cluster a call
// that waits for its connection then holds a copy of the values it writes.
func WithoutAutoPipelining() Option { return func(o *options) { o.unshared = true } }

// A ServerInformer tells what the servers behind it say of themselves. A store
// of the redis backend is one; see [As].
type ServerInformer interface {
	// ServerInfo returns the fields of INFO by server, host:port: of the
	// masters of a Cluster, or of the one server. A store of another backend
	// has no servers, and returns none.
	ServerInfo(ctx context.Context) (map[string]map[string]string, error)
}

// ServerInfo implements [ServerInformer].
func (s *store) ServerInfo(ctx context.Context) (map[string]map[string]string, error) {
	if err := s.begin(ctx); err != nil {
		return nil, s.fail("info", err)
	}
	e, ok := s.engine.(engine.ServerInformer)
	if !ok {
		return nil, nil
	}
	all, err := e.ServerInfo(ctx)
	return all, s.fail("info", err)
}

// acquireRedis returns the factory's client, which the caller releases, and
// what it was made from.
func (f *Factory) acquireRedis(ctx context.Context) (*redisstore.Client, redisstore.Options, error) {
	o, err := f.redisOptions()
	if err != nil {
		return nil, o, err
	}
	client, err := f.client.acquire(ctx, func(context.Context) (*redisstore.Client, error) { return redisstore.Connect(o) })
	return client, o, err
}

// redisstore.Options are the settings of the client. With one that was given, most
// of them do not count.
func (f *Factory) redisOptions() (redisstore.Options, error) {
	s, err := f.cfg.Redis.settle()
	if f.opts.client != nil {
		s = settledRedis{RedisConfig: f.cfg.Redis}
		s.fillDefaults()
		s.ConnectionTimeout, err = defaultTimeout, nil
	}
	o := s.options()
	o.Logger, o.States = f.opts.logger, quietlog.WithRepeats(f.opts.logger)
	o.Given, o.Unshared, o.ReadOnly = f.opts.client, f.opts.unshared, f.opts.readonly
	return o, err
}

// maintModes are go-redis's words.
var maintModes = map[MaintNotifications]maintnotifications.Mode{
	MaintOff:  maintnotifications.ModeDisabled,
	MaintAuto: maintnotifications.ModeAuto,
	MaintOn:   maintnotifications.ModeEnabled,
}

// options are what a client is made from. This is the only place where a
// setting becomes one.
func (s settledRedis) options() redisstore.Options {
	return redisstore.Options{
		Addrs:               s.addrs,
		DB:                  s.db,
		TLS:                 s.tls,
		Insecure:            s.insecure,
		Cluster:             s.cluster,
		MasterName:          s.masterName,
		ClientName:          s.clientName,
		Protocol:            s.protocol,
		MaxConnections:      s.MaxConnections,
		Username:            s.Username,
		Password:            string(s.Password),
		PasswordFile:        s.PasswordFile,
		SentinelUser:        s.sentinelUser,
		SentinelPass:        string(s.sentinelPass),
		CAFile:              s.CAFile,
		CertFile:            s.CertFile,
		KeyFile:             s.KeyFile,
		ServerName:          s.ServerName,
		ConnectionTimeout:   s.ConnectionTimeout,
		SocketTimeout:       s.SocketTimeout,
		HealthCheckInterval: s.HealthCheckInterval,
		CircuitFailures:     s.CircuitFailures,
		CircuitCooldown:     s.CircuitCooldown,
		ClientCache:         s.ClientCache,
		Maint:               maintModes[s.MaintNotifications],
		WaitReplicas:        int(s.WaitReplicas),
		KeyPrefix:           s.KeyPrefix,
		SaveOnFlush:         s.SaveOnFlush,
	}
}
