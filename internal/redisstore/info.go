package redisstore

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// ServerInfo returns the fields of INFO by server.
func (e *Engine) ServerInfo(ctx context.Context) (map[string]map[string]string, error) {
	nodes, err := e.way.masters(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var asked sync.WaitGroup
	var failed error
	all := make(map[string]map[string]string)
	for _, node := range nodes {
		asked.Go(func() {
			where := e.way.where
			if c, ok := node.(*redis.Client); ok && e.way.cluster() != nil {
				where = c.Options().Addr
			}
			cmd, _, err := run(ctx, e.way.on(node), repeatable, func() *redis.StringCmd { return redis.NewStringCmd(ctx, "info") })
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
