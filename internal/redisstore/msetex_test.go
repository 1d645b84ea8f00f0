package redisstore

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/testkit"
)

// A batch with a time to live is one MSETEX for each chunk where the server
// has it, in the form that Redis 8.4 documents.
func TestRedisMSETEX(t *testing.T) {
	m := miniredis.RunT(t)
	var mu sync.Mutex // Two chunks are under way at a time.
	var sent [][]string
	require.NoError(t, m.Server().Register("MSETEX", func(c *server.Peer, _ string, args []string) {
		if len(args) == 0 {
			c.WriteError("ERR wrong number of arguments for 'msetex' command")
			return
		}
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, slices.Clone(args))
		for i := 1; i < len(args)-2; i += 2 {
			_ = m.Set(args[i], args[i+1])
			m.SetTTL(args[i], time.Minute)
		}
		c.WriteInt(1)
	}))
	s := openEngine(t, settled("redis://"+m.Addr()), "docs", unshared)
	require.NoError(t, s.UpsertTTL(t.Context(), testkit.Numbered(2), 1500*time.Millisecond))
	require.Len(t, sent, 1)
	args := sent[0]
	require.Equal(t, []string{"2", "px", "1500"}, slices.Concat(args[:1], args[5:]))
	require.ElementsMatch(t, []string{"nano_graphrag:docs:id-0", "nano_graphrag:docs:id-1"}, []string{args[1], args[3]})
	require.Equal(t, []string{"id-0", "id-1"}, listed(t, s))

	require.NoError(t, s.UpsertTTL(t.Context(), testkit.Numbered(1), time.Minute))
	require.NoError(t, s.Upsert(t.Context(), testkit.Numbered(2)))
	require.Len(t, sent, 1)
	require.NoError(t, s.UpsertTTL(t.Context(), testkit.Numbered(1200), time.Minute))
	require.Len(t, sent, 4)
}

// Where there is no MSETEX, or the user may not use it, or its answer is not
// understood, a SET is sent for each, and it is not tried again. A server that
// is full is an error, and no reason to give it up.
func TestRedisWithoutMSETEX(t *testing.T) {
	for reply, want := range map[string]struct {
		err   error
		tries int
	}{
		"ERR unknown command 'msetex', with args beginning with: 'id'": {nil, 1},
		"NOPERM this user has no permissions to run 'msetex'":          {nil, 1},
		"":    {nil, 1}, // 0: nothing was stored
		"OOM": {fault.ErrUnavailable, 2},
	} {
		m := miniredis.RunT(t)
		tries := 0
		require.NoError(t, m.Server().Register("MSETEX", func(c *server.Peer, _ string, args []string) {
			if unknown := strings.HasPrefix(reply, "ERR unknown"); unknown != (len(args) == 0) {
				require.False(t, unknown, "a server tells what it was sent with a command that it does not know")
				c.WriteError("ERR wrong number of arguments for 'msetex' command")
				return
			}
			if tries++; reply == "" {
				c.WriteInt(0)
				return
			}
			c.WriteError(reply)
		}))
		s := openEngine(t, settled("redis://"+m.Addr()), "docs")
		for range 2 {
			require.ErrorIs(t, s.UpsertTTL(t.Context(), testkit.Numbered(3), time.Minute), want.err, reply)
		}
		require.Equal(t, want.tries, tries, reply)
		if want.err == nil {
			require.Equal(t, []string{"id-0", "id-1", "id-2"}, listed(t, s))
			ttl, err := s.TTL(t.Context(), "id-2")
			require.NoError(t, err)
			require.Equal(t, time.Minute, ttl)
		}
	}
}
