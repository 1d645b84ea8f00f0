package redisstore

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// nodeQueues are the combiners of a Cluster. Each master has its own, so that
// one that is stuck holds nobody up who wants another. A command whose slot has
// moved is redirected from there.
type nodeQueues struct {
	cluster *redis.ClusterClient
	open    func() *combiner

	mu     sync.RWMutex
	byNode map[*redis.Client]*combiner
}

func newNodeQueues(cluster *redis.ClusterClient, open func() *combiner) *nodeQueues {
	return &nodeQueues{cluster: cluster, open: open, byNode: make(map[*redis.Client]*combiner)}
}

// do executes a command along with others for the same master.
func (q *nodeQueues) do(ctx context.Context, cmd redis.Cmder) error {
	node, err := q.cluster.MasterForKey(ctx, keyOf(cmd))
	if err != nil {
		return err
	}
	return q.of(node).do(ctx, cmd)
}

func (q *nodeQueues) of(node *redis.Client) *combiner {
	q.mu.RLock()
	c := q.byNode[node]
	q.mu.RUnlock()
	if c != nil {
		return c
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.byNode[node]; c != nil {
		return c
	}
	for other, c := range q.byNode { // It may have left the Cluster.
		if c.idle() {
			delete(q.byNode, other)
		}
	}
	c = q.open()
	q.byNode[node] = c
	return c
}
