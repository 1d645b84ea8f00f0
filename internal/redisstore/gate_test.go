package redisstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// A countingStore is what a lost reply can make tell lies.
type countingStore interface {
	Insert(ctx context.Context, items map[string]json.RawMessage) (int, error)
	Delete(ctx context.Context, ids ...string) (int, error)
}

// wrongCounts lets the reply to each call get lost, and returns the calls
// whose answer is neither right nor an error. The server is the store's alone.
func wrongCounts(t *testing.T, s countingStore, proxy *testkit.DroppingProxy, server *redistest.Server) []string {
	var wrong []string
	for _, n := range []int{1, 3} {
		items := testkit.Numbered(n)
		for _, tt := range []struct {
			name, command string
			call          func() (int, error)
		}{
			{"insert", "set", func() (int, error) { return s.Insert(t.Context(), items) }},
			{"delete", "unlink", func() (int, error) { return s.Delete(t.Context(), slices.Sorted(maps.Keys(items))...) }},
		} {
			text := "\r\n" + tt.command + "\r\n"
			proxy.Drop.Store(&text)
			count, err := tt.call()
			require.Nil(t, proxy.Drop.Load(), "the reply was dropped")
			if err == nil && count != n {
				wrong = append(wrong, fmt.Sprintf("%s of %d: %d", tt.name, n, count))
			} else if err != nil && !errors.Is(err, fault.ErrOutcomeUnknown) {
				wrong = append(wrong, fmt.Sprintf("%s of %d: %v", tt.name, n, err))
			}
			for id, value := range items { // As if the call had been carried out in full.
				key := "nano_graphrag:docs:" + id
				if tt.name == "insert" {
					require.NoError(t, server.Client().Set(t.Context(), key, []byte(value), 0).Err())
				} else {
					require.NoError(t, server.Client().Del(t.Context(), key).Err())
				}
			}
		}
	}
	return wrong
}

// The check of lost replies is one that can fail: go-redis's own retries, put
// into our store or used by a plain one, give wrong counts, and it says so
// (reliability.md, known-bad gate).
func TestRedisGateRetries(t *testing.T) {
	proxy := testkit.StartProxy(t)
	server := redistest.Start(t)
	proxy.Forward(server.Addr)
	url := "redis://" + proxy.Addr().String()
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr().String()}) // Retries three times, by default.
	defer client.Close()

	require.Empty(t, wrongCounts(t, openEngine(t, settled(url), "docs"), proxy, server))
	require.Empty(t, wrongCounts(t, openEngine(t, settled(url), "docs", unshared), proxy, server))
	require.Empty(t, wrongCounts(t, openEngine(t, settled(""), "docs", given(client)), proxy, server))

	all := []string{"insert of 1: 0", "delete of 1: 0", "insert of 3: 0", "delete of 3: 0"}
	careless := openEngine(t, settled(""), "docs", given(retryingClient{client}))
	require.Equal(t, all, wrongCounts(t, careless, proxy, server))
	require.Equal(t, all, wrongCounts(t, naiveStore{client}, proxy, server))
}

// A retryingClient takes off what keeps go-redis from repeating our commands.
type retryingClient struct{ *redis.Client }

func (c retryingClient) Process(ctx context.Context, cmd redis.Cmder) error {
	return c.Client.Process(ctx, bare(cmd))
}

func (c retryingClient) Pipeline() redis.Pipeliner { return retryingPipeline{c.Client.Pipeline()} }

type retryingPipeline struct{ redis.Pipeliner }

func (p retryingPipeline) Process(ctx context.Context, cmd redis.Cmder) error {
	return p.Pipeliner.Process(ctx, bare(cmd))
}

func bare(cmd redis.Cmder) redis.Cmder {
	switch s := cmd.(type) {
	case single:
		return s.Cmder
	case *single:
		return s.Cmder
	}
	return cmd
}

// The checks of callers who have gone can fail, too: they see commands that do
// not ask for their caller, and a queue that keeps what was given up.
func TestRedisGateGoneCallers(t *testing.T) {
	server := redistest.Start(t)
	proxy := startSlowProxy(t, server.Addr)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr().String(), MaxRetries: -1})
	defer client.Close()
	careless := openEngine(t, settled(""), "docs", given(retryingClient{client}))
	require.NotEmpty(t, undoneBeforeGreeting(t, careless, proxy, openEngine(t, settled(server.URL()), "docs")))

	hoarding := openEngine(t, settled(server.URL()), "docs")
	hoard(t, hoarding)
	caught := false // Which of two commands a server reads first is chance.
	for tries := 0; !caught && tries < 5; tries++ {
		look := undone(t, hoarding, server)
		caught = testkit.Await(func() bool { return len(look()) > 0 }) == nil
	}
	require.True(t, caught)
	stopped([]*redistest.Server{server}, func() {
		grown := int64(0)
		for tries := 0; grown <= impatientHeap && tries < 10; tries++ { // How much callers give up in a while is the machine's.
			grown += impatience(t, 200, func(ctx context.Context, i int) error {
				return hoarding.Upsert(ctx, map[string]json.RawMessage{fmt.Sprintf("id-%d", i): bytes.Clone(thirtyKB)})
			})
		}
		require.Greater(t, grown, int64(impatientHeap))
	})
}

// hoard gives a store go-redis's own queue, which a command cannot leave.
func hoard(t *testing.T, s *enginetest.Store) {
	w := engineOf(s).way // For writing, too.
	queue, err := w.to.(*redis.Client).AsyncAutoPipeline()
	require.NoError(t, err)
	w.combiner = nil
	w.together = func(ctx context.Context, cmd redis.Cmder) error {
		return queue.Submit(ctx, cmd).WaitContext(ctx)
	}
}

// A naiveStore is what one writes with go-redis at first.
type naiveStore struct{ client *redis.Client }

func (s naiveStore) Insert(ctx context.Context, items map[string]json.RawMessage) (int, error) {
	var replies []*redis.StatusCmd
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for id, value := range items {
			replies = append(replies, p.SetArgs(ctx, "nano_graphrag:docs:"+id, []byte(value), redis.SetArgs{Mode: "NX"}))
		}
		return nil
	})
	n := 0
	for _, r := range replies {
		if r.Err() == nil {
			n++
		}
	}
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return n, err
}

func (s naiveStore) Delete(ctx context.Context, ids ...string) (int, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = "nano_graphrag:docs:" + id
	}
	n, err := s.client.Unlink(ctx, keys...).Result()
	return int(n), err
}
