package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/lease"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

func cached(url string) Options {
	o := settled(url)
	o.ClientCache = 64 << 20
	return o
}

// warm reads a document until it comes from memory.
func warm(t *testing.T, s *enginetest.Store, id string) {
	t.Helper()
	require.NoError(t, testkit.Await(func() bool {
		before := figures(s).CacheHits
		_, err := s.Get(t.Context(), id)
		require.NoError(t, err)
		return figures(s).CacheHits > before
	}))
}

// shows waits until Get answers with a text, "" for none, and then makes sure
// that it goes on to do so.
func shows(t *testing.T, s *enginetest.Store, id, want string) {
	t.Helper()
	get := func() string {
		value, err := s.Get(t.Context(), id)
		if err != nil && !errors.Is(err, fault.ErrUnavailable) {
			require.ErrorIs(t, err, fault.ErrNotFound)
		}
		return string(value)
	}
	require.NoError(t, testkit.Await(func() bool { return get() == want }))
	for range 100 {
		require.Equal(t, want, get())
	}
}

// deafen returns the address of a proxy that keeps from clients what has
// changed.
func deafen(t *testing.T, server *redistest.Server) string {
	told := regexp.MustCompile(`>2\r\n\$10\r\ninvalidate\r\n(_\r\n|\*1\r\n\$\d+\r\n[^\r]*\r\n)`)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	pass := func(to, from net.Conn, edit func([]byte) []byte) {
		defer to.Close()
		defer from.Close()
		buf := make([]byte, 1<<20)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if _, err := to.Write(edit(buf[:n])); err != nil {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			behind, err := net.Dial("tcp", server.Addr)
			if err != nil {
				_ = client.Close()
				continue
			}
			wg.Go(func() { pass(behind, client, func(b []byte) []byte { return b }) })
			wg.Go(func() { pass(client, behind, func(b []byte) []byte { return told.ReplaceAll(b, nil) }) })
		}
	})
	return "redis://" + l.Addr().String()
}

// A repeated read comes from memory, and what it returns belongs to the
// caller. GetMany asks for the rest only. Figures say so.
func TestClientCacheHits(t *testing.T) {
	server := redistest.Start(t)
	s := openEngine(t, cached(server.URL()), "docs")
	require.NoError(t, s.Upsert(t.Context(), testkit.Numbered(10)))
	for i := range 5 {
		warm(t, s, fmt.Sprint("id-", i))
	}
	asked, before := testkit.ServerCalls(t, server.Client(), "get"), figures(s)
	for range 100 {
		for i := range 5 {
			value, err := s.Get(t.Context(), fmt.Sprint("id-", i))
			require.NoError(t, err)
			require.JSONEq(t, fmt.Sprintf(`{"id":"id-%d"}`, i), string(value))
			clear(value)
		}
	}
	values, err := s.GetMany(t.Context(), []string{"id-7", "id-1", "none", "id-1"})
	require.NoError(t, err)
	require.Equal(t, `{"id":"id-7"}|{"id":"id-1"}||{"id":"id-1"}`, fmt.Sprintf("%s|%s|%s|%s", values[0], values[1], values[2], values[3]))
	clear(values[1])
	shows(t, s, "id-1", `{"id":"id-1"}`)

	after := figures(s)
	require.Equal(t, asked, testkit.ServerCalls(t, server.Client(), "get"))
	require.EqualValues(t, 500+2+101, after.CacheHits-before.CacheHits)
	require.EqualValues(t, 2, after.CacheMisses-before.CacheMisses)
	require.Equal(t, 5, after.CacheEntries)
	require.Positive(t, after.CacheBytes)
}

// Every write through the factory is seen by the next Get, although nothing
// tells of changes here, from any store.
func TestClientCacheReadsItsWrites(t *testing.T) {
	s := openEngine(t, cached(deafen(t, redistest.Start(t))), "docs")
	o := enginetest.Wrap(s.Engine) // Stores of a namespace share an engine.
	one := map[string]json.RawMessage{"a": json.RawMessage(`1`)}
	for name, write := range map[string]func() (string, error){
		"upsert":    func() (string, error) { return `1`, o.Upsert(t.Context(), one) },
		"upsertttl": func() (string, error) { return `1`, o.UpsertTTL(t.Context(), one, time.Hour) },
		"many": func() (string, error) {
			return `{"id":"id-1"}`, o.Upsert(t.Context(), map[string]json.RawMessage{"a": testkit.Numbered(2)["id-1"], "b": json.RawMessage(`1`)})
		},
		"delete": func() (string, error) { _, err := o.Delete(t.Context(), "a"); return "", err },
		"drop":   func() (string, error) { return "", o.Drop(t.Context()) },
		"insert": func() (string, error) {
			_, err := o.Delete(t.Context(), "a")
			require.NoError(t, err)
			n, err := o.Insert(t.Context(), one)
			require.Equal(t, 1, n)
			return `1`, err
		},
		"settle": func() (string, error) {
			leases := engineOf(o).Leases()
			defer leases.Close()
			a := lease.Answer{Lease: lease.Lease{ID: "a", Token: "me", Seen: json.RawMessage(`0`)}, Value: json.RawMessage(`1`)}
			claims := leases.Claim(t.Context(), []lease.Lease{a.Lease}, time.Minute)
			require.Equal(t, []lease.Claim{{State: lease.Granted}}, claims)
			return `1`, leases.Settle(t.Context(), []lease.Answer{a})[0].Err
		},
	} {
		require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{"a": json.RawMessage(`0`)}))
		warm(t, s, "a")
		want, err := write()
		require.NoError(t, err, name)
		value, err := s.Get(t.Context(), "a")
		if want == "" {
			require.ErrorIs(t, err, fault.ErrNotFound, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, want, string(value), name)
	}
}

// A document is not served after its time to live, although the server has
// told nothing: it removes an expired key when it comes to it.
func TestClientCacheExpiry(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Arg("--enable-debug-command", "yes"))
	require.NoError(t, server.Client().Do(t.Context(), "debug", "set-active-expire", "0").Err())
	s := openEngine(t, cached(server.URL()), "docs")
	require.NoError(t, s.UpsertTTL(t.Context(), testkit.OneDoc, 3*time.Second))
	end := time.Now().Add(3*time.Second + 20*time.Millisecond) // It is in the server's milliseconds.
	warm(t, s, "a")
	hits := figures(s).CacheHits
	for {
		began := time.Now()
		_, err := s.Get(t.Context(), "a")
		if began.After(end) {
			require.ErrorIs(t, err, fault.ErrNotFound)
			break
		}
	}
	require.Greater(t, figures(s).CacheHits, hits)

	// A stranger's change of the time to live is a change.
	require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
	warm(t, s, "a")
	require.NoError(t, server.Client().PExpire(t.Context(), "nano_graphrag:docs:a", time.Millisecond).Err())
	shows(t, s, "a", "")
}

// Whatever a stranger does, and whatever becomes of connections and servers,
// no old value is left.
func TestClientCacheForgets(t *testing.T) {
	server := redistest.Start(t, redistest.AppendFsyncAlways())
	s := openEngine(t, cached(server.URL()), "docs")
	stranger := server.Client()
	const key = "nano_graphrag:docs:a"
	for _, event := range []struct {
		name string
		do   func() error
		want string
	}{
		{"set", func() error { return stranger.Set(t.Context(), key, `2`, 0).Err() }, `2`},
		{"del", func() error { return stranger.Del(t.Context(), key).Err() }, ""},
		{"rename", func() error { return stranger.Rename(t.Context(), key, "elsewhere").Err() }, ""},
		{"flushall", func() error { return stranger.FlushAll(t.Context()).Err() }, ""},
		{"script", func() error {
			return stranger.Eval(t.Context(), "return redis.call('SET', KEYS[1], '2')", []string{key}).Err()
		}, `2`},
		{"killed connections", func() error {
			return errors.Join(testkit.KillTCP(t.Context(), server), stranger.Set(t.Context(), key, `2`, 0).Err())
		}, `2`},
		{"a new server", func() error {
			server.Kill()
			server.Restart()
			return stranger.Set(t.Context(), key, `2`, 0).Err()
		}, `2`},
	} {
		require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{"a": json.RawMessage(`1`)}), event.name)
		warm(t, s, "a")
		require.NoError(t, event.do(), event.name)
		t.Log(event.name)
		shows(t, s, "a", event.want)
	}
	server.Kill()
	require.NoError(t, testkit.Await(func() bool { _, err := s.Get(t.Context(), "a"); return errors.Is(err, fault.ErrUnavailable) }))
	server.Restart()
}

// When it is not heard that something has changed, what is served is no older
// than an idle connection may be.
func TestClientCacheTrustEnds(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cfg := cached(deafen(t, server))
	cfg.HealthCheckInterval = 2 * time.Second
	s := openEngine(t, cfg, "docs")
	require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{"a": json.RawMessage(`1`)}))
	warm(t, s, "a")
	require.NoError(t, server.Client().Set(t.Context(), "nano_graphrag:docs:a", `2`, 0).Err())
	value, err := s.Get(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, `1`, string(value), "the proxy lets through what has changed")
	shows(t, s, "a", `2`)
}

// What is not there, and what is not JSON, is asked for each time.
func TestClientCacheHasDocumentsOnly(t *testing.T) {
	server := redistest.Start(t)
	s := openEngine(t, cached(server.URL()), "docs")
	const prefix = "nano_graphrag:docs:"
	require.NoError(t, server.Client().Set(t.Context(), prefix+"bad", `{"a":NaN}`, 0).Err())
	require.NoError(t, server.Client().LPush(t.Context(), prefix+"list", `1`).Err())
	for range 5 {
		for id, want := range map[string]error{"none": fault.ErrNotFound, "bad": fault.ErrCorrupt, "list": fault.ErrCorrupt} {
			value, err := s.Get(t.Context(), id)
			require.ErrorIs(t, err, want, id)
			if id != "bad" {
				require.Nil(t, value)
			}
		}
	}
	stats := figures(s)
	require.Zero(t, stats.CacheHits)
	require.Zero(t, reservations(engineOf(s).cache.docCache))
}

// A user without CLIENT TRACKING is told at Open. One who loses it later has
// right answers, and a warning.
func TestClientCacheNeedsTracking(t *testing.T) {
	server := redistest.Start(t, redistest.Password("not this"))
	least := append([]string{"resetchannels", "~nano_graphrag:*"}, strings.Fields("+get +mget +set +mset +unlink +exists +scan +ping +hello +auth +pttl")...)
	server.ACL("app", "pw", least...)
	cfg := cached("redis://" + server.Addr)
	cfg.Username, cfg.Password = "app", "pw"
	client, err := Connect(cfg)
	require.NoError(t, err)
	err = New(client, cfg, "docs", client.Close).Begin(t.Context())
	require.NoError(t, client.Close())
	require.ErrorIs(t, err, fault.ErrInvalid)
	require.ErrorContains(t, err, "REDIS_CLIENT_CACHE")
	require.ErrorContains(t, err, "+client|tracking")
	require.ErrorContains(t, err, "no permissions")

	server.ACL("app", "pw", append(least, "+client|tracking")...)
	book := new(testkit.LogBook)
	s := openEngine(t, cfg, "docs", logTo(book.Logger()))
	require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
	warm(t, s, "a")
	require.Empty(t, book.Warnings())
	server.ACL("app", "pw", append(least, "-client|tracking")...)
	require.NoError(t, testkit.KillTCP(t.Context(), server))
	require.NoError(t, server.Client().Set(t.Context(), "nano_graphrag:docs:a", `2`, 0).Err())
	shows(t, s, "a", `2`)
	require.NoError(t, server.Client().Set(t.Context(), "nano_graphrag:docs:a", `3`, 0).Err())
	shows(t, s, "a", `3`)
	require.Len(t, book.Warnings(), 1)
	require.Contains(t, book.Warnings()[0], "client-side cache is off")
}

// The cache serves over a unix socket and TLS, too.
func TestClientCacheTransports(t *testing.T) {
	server := redistest.Start(t, redistest.TLS("no"), redistest.Password("p w"))
	for _, url := range []string{server.URL(), server.SocketURL()} {
		cfg := cached(url)
		if strings.HasPrefix(url, "rediss") {
			cfg.CAFile = server.TLS.CAFile
		}
		s := openEngine(t, cfg, "docs")
		require.NoError(t, s.Upsert(t.Context(), testkit.OneDoc))
		for i := range 20 {
			warm(t, s, "a")
			require.NoError(t, server.Client().Set(context.Background(), "nano_graphrag:docs:a", i, 0).Err())
			shows(t, s, "a", fmt.Sprint(i))
		}
	}
}

// reservations counts what go-redis has neither fulfilled nor cancelled.
func reservations(c *docCache) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.reserved)
}

// A document with the longest time to live is served from the client-side
// cache as any other.
func TestClientCacheKeepsWhatLivesLong(t *testing.T) {
	server := redistest.Start(t)
	o := settled(server.URL())
	o.ClientCache = 1 << 20
	s := openEngine(t, o, "docs")
	require.NoError(t, server.Client().Do(t.Context(), "set", "nano_graphrag:docs:a", "1", "ex", int64(9_999_999_999)).Err())
	warm(t, s, "a")
}
