package redisstore

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redistest"
)

// recordServers are the kinds of servers that records and exchanges work on.
var recordServers = map[string]func(t *testing.T) string{
	"standalone": func(t *testing.T) string { return redistest.Start(t).URL() },
	"cluster":    func(t *testing.T) string { return redistest.StartCluster(t, 3, 0).URL() },
}

// A document is replaced or removed only if it is what was seen, with its time
// to live in the same step, and a change that was made counts as made when it
// is asked for again.
func TestExchange(t *testing.T) {
	t.Parallel()
	for name, start := range recordServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openEngine(t, settled(start(t)), "docs")
			e := s.Engine.(*Engine)
			item := func(id, value string, ttl time.Duration) engine.Item {
				return engine.Item{ID: id, Value: json.RawMessage(value), TTL: ttl}
			}
			require.NoError(t, e.Upsert(t.Context(), engine.List(item("a", "1", time.Hour), item("b", "2", 0), item("c", "3", 0), item("d", "4", 0))))
			changes := []engine.Change{
				{Item: item("a", "10", 0)}, {Item: item("b", "20", time.Minute)}, {Item: item("c", "30", 0)},
				{Item: item("d", "", 0), Remove: true}, {Item: item("none", "1", 0)}, {Item: item("gone", "", 0), Remove: true},
			}
			var seen []string
			for _, value := range []string{"1", "2", "another", "4", "", "5"} {
				seen = append(seen, Digest(json.RawMessage(value)))
			}
			for range 2 {
				made, err := e.Exchange(t.Context(), changes, seen)
				require.NoError(t, err)
				require.Equal(t, []bool{true, true, false, true, false, true}, made)
			}
			ids := []string{"a", "b", "c", "d", "none"}
			values, err := e.ReadMany(t.Context(), ids)
			require.NoError(t, err)
			require.Equal(t, "[10 20 3  ]", fmt.Sprintf("%s", values))
			ttls, err := e.TTLs(t.Context(), ids)
			require.NoError(t, err)
			require.Zero(t, ttls[0])
			require.InDelta(t, time.Minute, ttls[1], float64(5*time.Second))
		})
	}
}

// A record changes in one step with its chunks, and only in the hands of who
// has the lease; chunks that nobody keeps go away by themselves.
func TestRecord(t *testing.T) {
	t.Parallel()
	for name, start := range recordServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			e := openEngine(t, settled(start(t)), "docs").Engine.(*Engine)
			r := e.Record()
			_, err := r.Read(ctx)
			require.ErrorIs(t, err, fault.ErrNotFound)
			holder, err := r.Claim(ctx, "me", time.Minute)
			require.NoError(t, err)
			require.Empty(t, holder)
			holder, err = r.Claim(ctx, "you", time.Minute)
			require.NoError(t, err)
			require.Equal(t, "me", holder)

			require.NoError(t, r.Save(ctx, "g:0", []byte("\x00one")))
			swap := func(token string, fresh, stale []string) bool {
				done, err := r.Swap(ctx, token, []byte("text of "+token), fresh, stale)
				require.NoError(t, err)
				return done
			}
			require.False(t, swap("me", []string{"g:0", "g:1"}, nil), "a chunk is missing")
			require.False(t, swap("you", []string{"g:0"}, nil), "not the lease")
			_, err = r.Read(ctx)
			require.ErrorIs(t, err, fault.ErrNotFound)
			left, err := e.way.to.PTTL(ctx, r.chunk("g:0")).Result()
			require.NoError(t, err)
			require.Positive(t, left)
			for range 2 {
				require.True(t, swap("me", []string{"g:0"}, []string{"f:0"}))
			}
			left, err = e.way.to.PTTL(ctx, r.chunk("g:0")).Result()
			require.NoError(t, err)
			require.EqualValues(t, -1, left, "it stays")
			require.NoError(t, r.Save(ctx, "h:0", []byte("two")))
			require.True(t, swap("me", []string{"h:0"}, []string{"g:0"}))
			_, err = r.Chunk(ctx, "g:0")
			require.ErrorIs(t, err, fault.ErrNotFound)
			chunk, err := r.Chunk(ctx, "h:0")
			require.NoError(t, err)
			require.Equal(t, "two", string(chunk))
			text, err := r.Read(ctx)
			require.NoError(t, err)
			require.Equal(t, "text of me", string(text))

			held, err := r.Renew(ctx, "me", time.Minute)
			require.NoError(t, err)
			require.True(t, held)
			require.NoError(t, r.Release(ctx, "you"))
			require.NoError(t, r.Release(ctx, "me"))
			held, err = r.Renew(ctx, "me", time.Minute)
			require.NoError(t, err)
			require.False(t, held)
		})
	}
}
