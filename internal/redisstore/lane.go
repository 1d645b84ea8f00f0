package redisstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// laneRest is how long a lane that was cut is not used: each time costs a
// connection.
const laneRest = time.Second

// A lane is a connection apart from the pool, for one command at a time of a
// caller who may give up. The command runs in the caller's own goroutine, and
// closing the lane's client cuts it short: go-redis itself sees a deadline,
// but not that a context was cancelled while it waits for a reply. To wait for
// another goroutine would take almost as long again as the round trip.
type lane struct {
	open  func() *redis.Client // of one connection
	calls *calls

	busy   sync.Mutex
	rests  time.Time                    // until then
	client atomic.Pointer[redis.Client] // nil: not opened
}

// process makes and executes a command, or reports that the lane is not to be
// had.
func (l *lane) process(ctx context.Context, build func() redis.Cmder) bool {
	if !l.busy.TryLock() {
		return false
	}
	defer l.busy.Unlock()
	if !l.rests.IsZero() && time.Now().Before(l.rests) || !l.calls.begin() {
		return false
	}
	defer l.calls.running.Done()
	client := l.client.Load()
	if client == nil {
		client = l.open()
		l.client.Store(client)
	}
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		_ = l.close()
	})
	err := client.Process(ctx, build())
	if !stop() {
		<-cut // Else it would cut the next one.
		l.rests = time.Now().Add(laneRest)
	}
	// A client whose pool is full of failures repeats the last one for a
	// second, and a pool of one connection is full soon.
	if server := redis.Error(nil); err != nil && !errors.As(err, &server) {
		_ = l.close()
	}
	return true
}

// close ends the command that is under way. The next one opens a client anew.
func (l *lane) close() error {
	if l == nil {
		return nil
	}
	if client := l.client.Swap(nil); client != nil {
		return client.Close()
	}
	return nil
}

// count adds the lane's connection to the figures of the pool.
func (l *lane) count(s *Figures) {
	if l == nil {
		return
	}
	if client := l.client.Load(); client != nil {
		own := client.PoolStats()
		s.Connections += int(own.TotalConns)
		s.IdleConnections += int(own.IdleConns)
	}
}
