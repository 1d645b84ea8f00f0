package kv

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// ServerInfo returns the fields of INFO by server, host:port: of the masters
// of a Cluster, or of the one server. It is for tools, which find it by As;
// another backend has no servers, and returns none.
func (s *store) ServerInfo(ctx context.Context) (map[string]map[string]string, error) {
	if err := s.begin(ctx); err != nil {
		return nil, s.fail("info", err)
	}
	e, ok := s.engine.(*redisEngine)
	if !ok {
		return nil, nil
	}
	all, err := e.serverInfo(ctx)
	return all, s.fail("info", err)
}

func (e *redisEngine) serverInfo(ctx context.Context) (map[string]map[string]string, error) {
	nodes, err := e.client.masters(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var asked sync.WaitGroup
	var failed error
	all := make(map[string]map[string]string)
	for _, node := range nodes {
		asked.Go(func() {
			where := e.client.where
			if c, ok := node.(*redis.Client); ok && e.client.cluster() != nil {
				where = c.Options().Addr
			}
			cmd, _, err := run(ctx, e.client.on(node), repeatable, func() *redis.StringCmd { return redis.NewStringCmd(ctx, "info") })
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			all[where] = parseInfo(cmd.Val())
		})
	}
	asked.Wait()
	return all, failed
}
