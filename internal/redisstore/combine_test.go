package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
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
func gatedCombiner(t *testing.T, most int) (*combiner, *gate, *sync.WaitGroup) {
	server := miniredis.RunT(t)
	for i := range 100 {
		require.NoError(t, server.Set(fmt.Sprint(i), fmt.Sprint("value ", i)))
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	g := &gate{make(chan struct{}), make(chan struct{}), make(chan int, 100)}
	client.AddHook(g)
	c := newCombiner(sendTo(client), new(calls), nil, most)
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
		return len(c.queue) == 1 && c.queue[0].callers == n
	}, testkit.Slack, 100*time.Microsecond)
}

// Nobody waits behind groups that are stuck, as long as there are connections.
func TestCombinerStuckGroups(t *testing.T) {
	c, g, running := gatedCombiner(t, groupsInFlight+2)
	set := func(ctx context.Context, id string) error {
		return c.do(ctx, redis.NewStatusCmd(t.Context(), "set", id, id))
	}
	require.NoError(t, set(t.Context(), "1"))
	require.NoError(t, set(context.Background(), "2"))
	for range 2 { // Now all connections have a stuck group.
		running.Go(func() { _ = c.do(t.Context(), redis.NewStringCmd(t.Context(), "get", "0")) })
		<-g.held
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*overdue)
	defer cancel()
	require.ErrorIs(t, set(ctx, "3"), context.DeadlineExceeded)
	close(g.open)
	running.Wait()
	c.calls.running.Wait()
	require.True(t, c.idle())
}

// Callers without an end to their patience are back when the socket's timeout
// has passed as often as there are attempts, however many they are.
func TestRedisHungServerHoldsNobodyLonger(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := settled(server.URL())
	cfg.SocketTimeout = 500 * time.Millisecond
	s := openEngine(t, cfg, "docs")
	server.Pause()
	defer server.Resume()
	began := time.Now()
	testkit.Together(t, 5000/testkit.Stride(), func(worker int) {
		if _, err := s.Get(context.Background(), fmt.Sprint(worker)); !errors.Is(err, fault.ErrUnavailable) {
			t.Errorf("%d: %v", worker, err)
		}
	})
	require.Less(t, time.Since(began), retryAttempts*(cfg.SocketTimeout+retryMost)+testkit.Slack)
}

// Commands that come while groups are on their way go together, and each
// caller gets the answer to its own. One who gives up is back at once, and
// costs the others nothing, even as the one who sends them (Store: "A context
// that is done ends the call").
func TestCombinerGroups(t *testing.T) {
	for name, quits := range map[string]int{"nobody quits": -1, "the sender quits": 0, "another quits": 5} {
		t.Run(name, func(t *testing.T) {
			c, g, running := gatedCombiner(t, groupsInFlight)
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
			require.Equal(t, 20-min(quits+1, 1), <-g.sizes, "who quit has taken his command along")
			require.Empty(t, g.sizes)
			c.calls.running.Wait()
		})
	}
}

// Reads that come while groups are on their way become one MGET, and each
// caller gets his own value. Of one that MGET has no value for, it is not said
// that it is not there.
func TestCombinerReads(t *testing.T) {
	c, g, running := gatedCombiner(t, groupsInFlight)
	ids := []string{"1", "absent", "2", "3", "1"}
	ctx, cancel := context.WithCancel(t.Context())
	quit := make(chan error, 1)
	for i, id := range ids {
		running.Go(func() {
			got, err := c.read([]context.Context{t.Context(), context.Background()}[i%2], "", id)
			want := readResult{value: json.RawMessage("value " + id), sure: true}
			if id == "absent" {
				want = readResult{}
			}
			if err != nil || got.sure != want.sure || string(got.value) != string(want.value) {
				t.Errorf("%s is %q, %v, %v", id, got.value, got.sure, err)
			}
		})
		joined(t, c, i+1)
	}
	running.Go(func() {
		_, err := c.read(ctx, "", "4")
		quit <- err
	})
	joined(t, c, len(ids)+1)
	cancel()
	require.ErrorIs(t, <-quit, context.Canceled)
	close(g.open)
	running.Wait()
	require.Empty(t, g.sizes, "a pipeline was sent, not an MGET alone")
	c.calls.running.Wait()
}

// Get finds out what is no document by itself, in whatever company: what is
// absent, what is of another type, and what is not JSON; also for a user who
// may use GET, but not MGET.
func TestRedisReadsInCompany(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client()
	for i := range 50 {
		require.NoError(t, admin.Set(t.Context(), fmt.Sprint("nano_graphrag:docs:", i), i, 0).Err())
	}
	require.NoError(t, admin.RPush(t.Context(), "nano_graphrag:docs:list", 1).Err())
	require.NoError(t, admin.Set(t.Context(), "nano_graphrag:docs:broken", "{", 0).Err())
	require.NoError(t, admin.Set(t.Context(), "nano_graphrag:docs:empty", "", 0).Err())
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "poor", "on", ">poor", "~*", "+@all", "-mget").Err())
	for name, user := range map[string]string{"may use MGET": "", "may not use MGET": "poor"} {
		t.Run(name, func(t *testing.T) {
			cfg := settled(server.URL())
			cfg.Username, cfg.Password = user, user
			s := openEngine(t, cfg, "docs")
			want := map[string]error{"list": fault.ErrCorrupt, "broken": fault.ErrCorrupt, "empty": fault.ErrCorrupt, "absent": fault.ErrNotFound}
			for id, kind := range want { // Alone, on the lane and off it.
				_, err := s.Get(t.Context(), id)
				require.ErrorIs(t, err, kind, id)
				_, err = s.Get(context.Background(), id)
				require.ErrorIs(t, err, kind, id)
			}
			testkit.Together(t, 64, func(worker int) {
				for i := range 200 / len(want) {
					for id, kind := range want {
						if _, err := s.Get(t.Context(), id); !errors.Is(err, kind) {
							t.Errorf("%s: %v", id, err)
						}
					}
					id := fmt.Sprint((worker + i) % 50)
					if value, err := s.Get(t.Context(), id); err != nil || string(value) != id {
						t.Errorf("%s is %s, %v", id, value, err)
					}
				}
			})
		})
	}
}

// A panic in the goroutine of one caller is no acknowledgement for the others.
func TestCombinerPanic(t *testing.T) {
	c, g, running := gatedCombiner(t, groupsInFlight)
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

// Cancelled reads do not cost a connection each.
func TestRedisLaneRests(t *testing.T) {
	server := redistest.Start(t)
	s := openEngine(t, settled(server.URL()), "docs")
	before, began := testkit.Received(t, server), time.Now()
	server.Pause()
	for range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err := s.Get(ctx, "0")
		require.ErrorIs(t, err, context.Canceled)
	}
	server.Resume()
	most := 50 + int(time.Since(began)/time.Second) // The pool's, and one each second.
	require.LessOrEqual(t, testkit.Received(t, server)-before, most+1)
}

// A call on the lane ends when its context is cancelled, and Close ends one
// that goes on. The lane is used again afterwards, and is one of
// MaxConnections.
func TestRedisLaneIsCut(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := settled(server.URL())
	cfg.MaxConnections, cfg.SocketTimeout = 2, time.Minute
	s := openEngine(t, cfg, "docs")
	lane := engineOf(s).way.lane
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
		}, testkit.Slack, time.Millisecond)
		return got
	}
	rested := func() {
		t.Helper()
		require.NoError(t, testkit.Await(func() bool {
			_, err := s.Get(t.Context(), "0")
			require.ErrorIs(t, err, fault.ErrNotFound)
			return lane.client.Load() != nil
		}), "the lane is not used")
	}
	for range 2 {
		rested()
		require.Equal(t, 2, figures(s).Connections)

		server.Pause()
		ctx, cancel := context.WithCancel(t.Context())
		got := stuck(ctx)
		cancel()
		err := <-got
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, fault.ErrUnavailable)
		require.Nil(t, lane.client.Load(), "the lane was not cut")
		server.Resume()
	}
	rested()
	server.Pause()
	defer server.Resume()
	got := stuck(t.Context())
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-got, fault.ErrClosed)
}
