package redisstore

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/testkit"
)

// A reply that cannot be read says nothing of what was done: Insert and Delete
// are sent once and say that they do not know, on every way a command can go;
// and what the reply holds, which may be anybody's, is not shown.
func TestRedisReplyThatCannotBeRead(t *testing.T) {
	const garbage = "GEHEIM"
	many := map[string]json.RawMessage{"a": json.RawMessage("1"), "b": json.RawMessage("2")}
	for name, opts := range map[string][]change{"shared": nil, "unshared": {unshared}} {
		// Each has a server of its own: what comes behind a reply that cannot be
		// read may be counted late.
		server := testkit.StartStrange(t, func(args []string) string {
			switch strings.ToLower(args[0]) {
			case "set", "unlink":
				return "?" + garbage + "\r\n"
			}
			return ""
		})
		s := openEngine(t, settled("redis://"+server.Addr), "docs", opts...)
		for op, call := range map[string]func() (int, error){
			"set":    func() (int, error) { return s.Insert(t.Context(), testkit.OneDoc) },
			"unlink": func() (int, error) { return s.Delete(t.Context(), "a") },
		} {
			before := server.Called(op)
			n, err := call()
			require.ErrorIs(t, err, fault.ErrOutcomeUnknown, "%s, %s", name, op)
			require.ErrorIs(t, err, fault.ErrUnavailable, "%s, %s", name, op)
			require.NotContains(t, fmt.Sprintf("%v %+v", err, err), garbage)
			require.Zero(t, n)
			require.Equal(t, 1, server.Called(op)-before, "%s, %s", name, op)
		}
		n, err := s.Insert(t.Context(), many)
		require.ErrorIs(t, err, fault.ErrOutcomeUnknown, name)
		require.Zero(t, n)
		n, err = s.Delete(t.Context(), "a", "b")
		require.ErrorIs(t, err, fault.ErrOutcomeUnknown, name)
		require.Zero(t, n)
	}
}

// What goes wrong in the making of a connection comes before the command: the
// call fails, and its outcome is known. So it is with Sentinels that do not
// know the master, and with a server that knows no TLS.
func TestRedisNoServerToSendTo(t *testing.T) {
	t.Parallel()
	unknown := testkit.StartStrange(t, func(args []string) string {
		if strings.EqualFold(args[0], "sentinel") {
			return "*-1\r\n"
		}
		return ""
	})
	broken := testkit.StartStrange(t, func([]string) string { return "HTTP/1.1 400 Bad Request\r\n" })
	for _, url := range []string{
		"redis://" + unknown.Addr + "?master_name=nobody",
		"rediss://" + broken.Addr,
		"rediss://" + broken.Addr + "?cluster=true",
	} {
		o := settled(url)
		client, err := Connect(o)
		require.NoError(t, err)
		e := New(client, o, "docs", nil)
		require.ErrorIs(t, e.Ping(t.Context()), fault.ErrUnavailable, url)
		n, err := e.Insert(t.Context(), engine.Items{ByID: testkit.OneDoc})
		require.ErrorIs(t, err, fault.ErrUnavailable, url)
		require.NotErrorIs(t, err, fault.ErrOutcomeUnknown, url)
		require.Zero(t, n)
		n, err = e.Delete(t.Context(), []string{"a", "b"})
		require.ErrorIs(t, err, fault.ErrUnavailable, url)
		require.NotErrorIs(t, err, fault.ErrOutcomeUnknown, url)
		require.Zero(t, n)
		require.NoError(t, client.Close())
	}
}

// A login that the server refuses when a connection is made fails the commands
// that were to go over it, together as by themselves: nothing is acknowledged
// that was not sent.
func TestRedisLoginRefusedLater(t *testing.T) {
	var refuse atomic.Bool
	server := testkit.StartStrange(t, func(args []string) string {
		if refuse.Load() && strings.EqualFold(args[0], "auth") {
			return "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
		}
		return ""
	})
	cfg := settled("redis://:pw@" + server.Addr)
	cfg.HealthCheckInterval = 1 // Every call makes a connection.
	many := map[string]json.RawMessage{"a": json.RawMessage("1"), "b": json.RawMessage("2")}
	for name, opts := range map[string][]change{"shared": nil, "unshared": {unshared}} {
		for _, namespace := range []string{"docs", "timed"} {
			refuse.Store(false)
			s := openEngine(t, cfg, namespace, opts...)
			if namespace == "timed" {
				s.TTLs = time.Hour
			}
			refuse.Store(true)
			for op, call := range map[string]func() error{
				"upsert one":  func() error { return s.Upsert(t.Context(), testkit.OneDoc) },
				"upsert many": func() error { return s.Upsert(t.Context(), many) },
				"insert many": func() error { _, err := s.Insert(t.Context(), many); return err },
				"delete many": func() error { _, err := s.Delete(t.Context(), "a", "b"); return err },
				"ttl":         func() error { _, err := s.TTL(t.Context(), "a"); return err },
				"missing":     func() error { _, err := s.Missing(t.Context(), []string{"a", "b"}); return err },
			} {
				require.ErrorContains(t, call(), "REDIS_PASSWORD", "%s: %s in %s", name, op, namespace)
			}
			// Commands of several callers, of which the last ones share a round trip.
			errs := make([]error, 50)
			var running sync.WaitGroup
			for i := range errs {
				running.Go(func() { errs[i] = s.Upsert(t.Context(), testkit.OneDoc) })
			}
			running.Wait()
			for _, err := range errs {
				require.ErrorContains(t, err, "REDIS_PASSWORD", name)
			}
		}
	}
	require.Zero(t, server.Called("set"))
	require.Zero(t, server.Called("unlink"))
}
