package kv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
)

// A gate is a hook that holds single commands back and counts pipelines.
type gate struct {
	held  chan struct{} // a command arrives
	open  chan struct{} // nothing is held back any more
	sizes chan int      // of pipelines
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "get" {
			g.held <- struct{}{}
			<-g.open
		}
		return next(ctx, cmd)
	}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "get" { // Else it belongs to the making of a connection.
			g.sizes <- len(cmds)
		}
		if len(cmds[0].Args()) > 1 && cmds[0].Args()[1] == "panic" {
			panic("in a hook")
		}
		return next(ctx, cmds)
	}
}

// gatedCombiner returns a combiner whose groups are all on their way, until
// the gate opens.
func gatedCombiner(t *testing.T) (*combiner, *gate, *sync.WaitGroup) {
	server := miniredis.RunT(t)
	for i := range 100 {
		require.NoError(t, server.Set(fmt.Sprint(i), fmt.Sprint("value ", i)))
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	g := &gate{make(chan struct{}), make(chan struct{}), make(chan int, 100)}
	client.AddHook(g)
	c := newCombiner(sendTo(client), new(calls), nil)
	running := new(sync.WaitGroup)
	for range groupsInFlight {
		running.Go(func() { _ = c.do(t.Context(), redis.NewStringCmd(t.Context(), "get", "0")) })
		<-g.held
	}
	return c, g, running
}

// joined waits until that many commands are in the next group.
func joined(t *testing.T, c *combiner, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.next != nil && len(c.next.cmds) == n
	}, slack, 100*time.Microsecond)
}

// Commands that come while groups are on their way go together, and each
// caller gets the answer to its own. One who gives up is back at once, and
// costs the others nothing, even as the one who sends them (Store: "A context
// that is done ends the call").
func TestCombinerGroups(t *testing.T) {
	for name, quits := range map[string]int{"nobody quits": -1, "the sender quits": 0, "another quits": 5} {
		t.Run(name, func(t *testing.T) {
			c, g, running := gatedCombiner(t)
			quit := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			for i := range 20 {
				cmd := redis.NewStringCmd(t.Context(), "get", fmt.Sprint(i))
				running.Go(func() {
					if i == quits {
						quit <- c.do(ctx, cmd)
						return
					}
					err := c.do([]context.Context{t.Context(), context.Background()}[i%2], cmd)
					if err != nil || cmd.Val() != fmt.Sprint("value ", i) {
						t.Errorf("%d is %q, %v", i, cmd.Val(), err)
					}
				})
				joined(t, c, i+1)
			}
			cancel()
			if quits >= 0 {
				require.ErrorIs(t, <-quit, context.Canceled)
			}
			close(g.open)
			running.Wait()
			require.Equal(t, 20, <-g.sizes)
			require.Empty(t, g.sizes)
			c.calls.running.Wait()
		})
	}
}

// A panic in the goroutine of one caller is no acknowledgement for the others.
func TestCombinerPanic(t *testing.T) {
	c, g, running := gatedCombiner(t)
	running.Go(func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		_ = c.do(context.Background(), redis.NewStringCmd(t.Context(), "get", "panic"))
	})
	joined(t, c, 1)
	running.Go(func() {
		if err := c.do(context.Background(), redis.NewStatusCmd(t.Context(), "set", "1", "2")); !errors.Is(err, errNoAnswer) {
			t.Errorf("the other one got %v", err)
		}
	})
	joined(t, c, 2)
	close(g.open)
	running.Wait()
}

// A call on the lane ends when its context is cancelled, and Close ends one
// that goes on. The lane is used again afterwards, and is one of
// MaxConnections.
func TestRedisLaneIsCut(t *testing.T) {
	server := redistest.Start(t)
	cfg := redisCfg(server.URL())
	cfg.Redis.MaxConnections, cfg.Redis.SocketTimeout = 2, time.Minute
	s := openRedisStore(t, cfg, "docs")
	lane := s.engine.(*redisEngine).client.lane
	stuck := func(ctx context.Context) chan error {
		got := make(chan error, 1)
		go func() {
			_, err := s.Get(ctx, "0")
			got <- err
		}()
		require.Eventually(t, func() bool {
			if lane.busy.TryLock() {
				lane.busy.Unlock()
				return false
			}
			return true
		}, slack, time.Millisecond)
		return got
	}
	for range 3 {
		_, err := s.Get(t.Context(), "0")
		require.ErrorIs(t, err, ErrNotFound)
		require.NotNil(t, lane.client.Load(), "the lane was not used")
		stats, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, stats.Redis.Connections)

		server.Pause()
		ctx, cancel := context.WithCancel(t.Context())
		got := stuck(ctx)
		cancel()
		err = <-got
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, ErrUnavailable)
		require.Nil(t, lane.client.Load(), "the lane was not cut")
		server.Resume()
	}
	server.Pause()
	defer server.Resume()
	got := stuck(t.Context())
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-got, ErrClosed)
}
