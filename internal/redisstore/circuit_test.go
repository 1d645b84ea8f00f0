package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/lease"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// A circuit opens after failures in a row, and only then; those of attempts
// that were under way together are one. After the cooldown one attempt at a
// time is let through, until one is answered.
func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book, cause := new(testkit.LogBook), fault.Unavailablef("gone")
		c := newCircuit(3, time.Second, book.Logger())
		attempt := func(v evidence) {
			t.Helper()
			p, err := c.enter()
			require.NoError(t, err)
			c.leave(p, v, cause)
		}
		for _, v := range []evidence{failing, failing, answered, failing, nothing, failing} {
			attempt(v)
			require.Equal(t, "closed", c.String())
		}
		attempt(answered)
		together := make([]pass, 5)
		for i := range together {
			together[i], _ = c.enter()
		}
		for _, p := range together {
			c.leave(p, failing, cause)
		}
		attempt(failing)
		require.Equal(t, "closed", c.String())
		require.Empty(t, book.Text())
		attempt(failing)
		require.Equal(t, "open", c.String())

		time.Sleep(400 * time.Millisecond)
		_, err := c.enter()
		require.ErrorIs(t, err, cause)
		require.EqualError(t, err, "the circuit is open, the next trial is in 600ms; it opened after: backend unavailable: gone")
		time.Sleep(601 * time.Millisecond)
		for _, v := range []evidence{nothing, nothing, failing} { // A trial that is given up leaves its place.
			require.Equal(t, "half-open", c.String())
			trial, err := c.enter()
			require.NoError(t, err)
			_, err = c.enter()
			require.ErrorIs(t, err, cause)
			require.ErrorContains(t, err, "a trial is under way")
			c.leave(trial, v, cause)
		}
		require.Equal(t, "open", c.String())
		_, err = c.enter()
		require.ErrorIs(t, err, fault.ErrUnavailable)
		time.Sleep(1001 * time.Millisecond)
		attempt(answered)
		require.Equal(t, "closed", c.String())
		require.Len(t, book.Warnings(), 1)
		require.Equal(t, 1, strings.Count(book.Text(), "level=INFO"))
	})
}

// What counts is that the server does not answer or says that it cannot serve
// now; not what it refuses, nor a caller that gave up, nor a full pool.
func TestCircuitVerdicts(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	w := &way{pool: &pool{where: "here", calls: new(calls)}}
	for _, tt := range []struct {
		ctx  context.Context
		err  error
		want evidence
	}{
		{t.Context(), nil, answered},
		{t.Context(), redisReply("WRONGTYPE"), answered},
		{t.Context(), redisReply("OOM"), answered},
		{t.Context(), redisReply("NOPERM"), answered},
		{t.Context(), redisReply("LOADING"), failing},
		{t.Context(), &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, failing},
		{t.Context(), &net.OpError{Op: "read", Err: syscall.ECONNRESET}, failing},
		{t.Context(), redis.ErrPoolTimeout, nothing},
		{t.Context(), &loginError{cause: errors.New("no file")}, nothing},
		{ended, context.Canceled, nothing},
		{ended, &net.OpError{Op: "read", Err: syscall.ECONNRESET}, nothing},
	} {
		f, err := w.classify(tt.ctx, tt.err)
		require.Equal(t, tt.want, judge(tt.ctx, f, err), "%v", tt.err)
	}
}

type redisReply string

func (r redisReply) Error() string { return string(r) }
func (redisReply) RedisError()     {}

// traffic counts what a client does on the network.
type traffic struct{ dials, commands atomic.Int64 }

func (n *traffic) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.dials.Add(1)
		return next(ctx, network, addr)
	}
}

func (n *traffic) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { n.commands.Add(1); return next(ctx, cmd) }
}

func (n *traffic) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { n.commands.Add(1); return next(ctx, cmds) }
}

// of returns what was counted.
func (n *traffic) of(s *enginetest.Store) [3]int64 {
	return [3]int64{n.dials.Load(), n.commands.Load(), figures(s).Retries}
}

// listen counts from now on.
func (n *traffic) listen(t *testing.T, s *enginetest.Store) {
	w := engineOf(s).way
	w.to.AddHook(n)
	if cluster := w.cluster(); cluster != nil {
		require.NoError(t, cluster.ForEachShard(t.Context(), func(_ context.Context, node *redis.Client) error {
			node.AddHook(n)
			return nil
		}))
	}
}

// circuitServers are the ways to a server, with its URL and the options.
var circuitServers = map[string]func(t *testing.T) (*redistest.Server, string, []change){
	"shared": func(t *testing.T) (*redistest.Server, string, []change) {
		server := redistest.Start(t)
		return server, server.URL(), nil
	},
	"alone": func(t *testing.T) (*redistest.Server, string, []change) {
		server := redistest.Start(t)
		return server, server.URL(), []change{unshared}
	},
	"cluster": func(t *testing.T) (*redistest.Server, string, []change) {
		cluster := redistest.StartCluster(t, 1, 0)
		return cluster.Nodes[0], cluster.URL(), nil
	},
	"given": func(t *testing.T) (*redistest.Server, string, []change) {
		server := redistest.Start(t)
		client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = client.Close() })
		return server, "", []change{given(client)}
	},
}

// When the server is gone the circuit opens at the failure that was set, in
// the middle of a call; then every method fails without a dial, a command or a
// retry, says so, and knows that nothing was executed. Ping asks the server.
func TestRedisCircuitOpens(t *testing.T) {
	t.Parallel()
	const rounds = 20
	for name, start := range circuitServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, url, opts := start(t)
			cfg, ctx := settled(url), t.Context()
			cfg.CircuitFailures, cfg.CircuitCooldown = 3, time.Hour
			s := openEngine(t, cfg, "docs", append(opts, logTo(slog.New(slog.DiscardHandler)))...)
			require.NoError(t, s.Upsert(ctx, testkit.OneDoc))
			require.Equal(t, "closed", figures(s).Circuit)
			server.Kill()
			_, err := s.Get(ctx, "a")
			require.ErrorIs(t, err, fault.ErrUnavailable)
			require.NotContains(t, err.Error(), "circuit", "it is the error of the last attempt")
			require.Equal(t, "open", figures(s).Circuit)
			require.EqualValues(t, 2, figures(s).Retries)

			net := new(traffic)
			net.listen(t, s)
			before := net.of(s)
			for i := range rounds * len(operations) {
				op := slices.Sorted(maps.Keys(operations))[i/rounds]
				if op == "ping" || op == "flush" {
					continue
				}
				err := operations[op](ctx, s)
				require.ErrorIs(t, err, fault.ErrUnavailable, op)
				require.ErrorContains(t, err, "the circuit is open, the next trial is in ", op)
				require.NotErrorIs(t, err, fault.ErrOutcomeUnknown, op)
			}
			leases := engineOf(s).Leases()
			defer leases.Close()
			claims := leases.Claim(ctx, []lease.Lease{{ID: "x", Token: "me"}}, time.Hour)
			require.ErrorIs(t, claims[0].Err, fault.ErrUnavailable)
			_, err = s.Insert(ctx, testkit.Numbered(700))
			var batch *fault.Partial
			require.ErrorAs(t, err, &batch)
			require.Len(t, batch.NotApplied, 700)
			after := net.of(s)
			require.Equal(t, before[1:], after[1:], "commands, retries")
			if name == "cluster" { // The last failure has the topology read again, in the background.
				require.Less(t, after[0]-before[0], int64(rounds))
			} else {
				require.Equal(t, before[0], after[0], "dials")
			}

			require.ErrorIs(t, s.Ping(ctx), fault.ErrUnavailable)
			require.Greater(t, net.of(s)[1], before[1])
			server.Restart()
			require.NoError(t, testkit.Await(func() bool { return s.Ping(ctx) == nil }))
			require.Equal(t, "open", figures(s).Circuit)
		})
	}
}

// The circuit closes by itself when the server is back, under 64 callers that
// go on all the while; what they are told is right or fault.ErrUnavailable.
func TestRedisCircuitCloses(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.AppendFsyncAlways())
	cfg, book := settled(server.URL()), new(testkit.LogBook)
	cfg.CircuitFailures, cfg.CircuitCooldown = 5, 20*time.Millisecond
	s := openEngine(t, cfg, "docs", logTo(book.Logger()))
	require.NoError(t, s.Upsert(t.Context(), testkit.Numbered(64)))
	var wg sync.WaitGroup
	var stop atomic.Bool
	var refusals atomic.Int64
	for i := range 64 {
		wg.Go(func() {
			id := fmt.Sprintf("id-%d", i)
			want := json.RawMessage(fmt.Sprintf(`{"id":%q}`, id))
			for round := 0; !stop.Load(); round++ {
				var err error
				if round%2 == 0 {
					err = s.Upsert(context.Background(), map[string]json.RawMessage{id: want})
				} else if value, e := s.Get(context.Background(), id); e != nil {
					err = e
				} else if !slices.Equal(value, want) {
					t.Errorf("%s is %s", id, value)
				}
				if err == nil {
					continue
				}
				if !errors.Is(err, fault.ErrUnavailable) {
					t.Error(err)
				}
				if refused := (*circuitError)(nil); errors.As(err, &refused) {
					refusals.Add(1)
					time.Sleep(time.Millisecond) // A refusal costs nothing; leave the others room.
				}
			}
		})
	}
	for range 3 {
		server.Kill()
		require.NoError(t, testkit.Await(func() bool { return figures(s).Circuit == "open" }))
		server.Restart()
		require.NoError(t, testkit.Await(func() bool { return figures(s).Circuit == "closed" }))
	}
	stop.Store(true)
	wg.Wait()
	require.Positive(t, refusals.Load())
	for op, call := range operations {
		require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
		require.NoError(t, call(t.Context(), s), op)
	}
	require.GreaterOrEqual(t, len(book.Warnings()), 3)
	require.Contains(t, book.Text(), "closed again")
}
