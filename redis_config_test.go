package kv_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// No error of Open shows the password, whatever went wrong.
func TestSecretsAreInNoErrorOfOpen(t *testing.T) {
	const secret = "GEHEIM"
	server := redistest.Start(t, redistest.Password("other"), redistest.TLS("yes"))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	for name, url := range map[string]string{
		"refused":        "redis://:" + secret + "@" + closed.Addr().String(),
		"bad TLS":        "rediss://:" + secret + "@" + server.Addr,
		"TLS wanted":     "redis://:" + secret + "@" + server.Addr,
		"wrong password": "unix://:" + secret + "@" + server.Socket,
		"no such socket": "unix://:" + secret + "@" + server.Dir + "/none",
		"no such host":   "redis://:" + secret + "@no-such-host.invalid",
		"cluster":        "redis://:" + secret + "@" + closed.Addr().String() + "?cluster=true",
		"sentinel":       "redis://:" + secret + "@" + closed.Addr().String() + "?master_name=m&sentinel_password=" + secret,
	} {
		book := new(testkit.LogBook)
		_, err := kv.Open(t.Context(), kv.Config{Backend: "redis", Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}, "docs", kv.WithLogger(book.Logger()))
		require.Error(t, err, name)
		text := fmt.Sprintf("%v %+v %#v %q", err, err, err, err) + book.Text()
		for e := range testkit.Causes(err) {
			text += fmt.Sprintf("%v %+v", e, e)
		}
		require.NotContains(t, text, secret, name)
		t.Logf("%s: %v", name, err)
	}
}

// REDIS_PASSWORD_FILE holds a mounted secret, read at every connection.
func TestRedisPasswordFile(t *testing.T) {
	server := redistest.Start(t, redistest.Password("p w"))
	file := filepath.Join(t.TempDir(), "secret")
	vars := map[string]string{"STORAGE_KV_BACKEND": "redis", "REDIS_URL": "redis://" + server.Addr, "REDIS_PASSWORD_FILE": file}
	cfg, err := fromMap(vars)
	require.NoError(t, err)
	_, err = kv.Open(t.Context(), cfg, "docs")
	require.ErrorContains(t, err, "REDIS_PASSWORD_FILE")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorIs(t, err, kv.ErrUnavailable)
	require.NoError(t, os.WriteFile(file, []byte("p w\r\n"), 0o600))
	s, err := kv.Open(t.Context(), cfg, "docs")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	vars["REDIS_PASSWORD"] = "both"
	_, err = fromMap(vars)
	require.ErrorContains(t, err, "REDIS_PASSWORD_FILE")
}

// All problems are reported at once, each naming its variable and what would
// be right; what does not work yet is refused rather than ignored.
func TestAllProblemsAtOnce(t *testing.T) {
	_, err := fromMap(map[string]string{"STORAGE_KV_BACKEND": "reddis"})
	require.ErrorContains(t, err, "STORAGE_KV_BACKEND")
	require.ErrorContains(t, err, strings.Join(kv.Backends(), ", "))
	bad := map[string]string{
		"STORAGE_KV_BACKEND": "reddis", "STORAGE_JSON_FSYNC": "sometimes", "STORAGE_MAX_VALUE_BYTES": "-1", "REDIS_URL": "http://x",
		"REDIS_MAX_CONNECTIONS": "many", "REDIS_CONNECTION_TIMEOUT": "0", "REDIS_SOCKET_TIMEOUT": "soon", "REDIS_HEALTH_CHECK_INTERVAL": "-1",
		"REDIS_SAVE_ON_FLUSH": "perhaps", "REDIS_KEY_PREFIX": "a\nb", "REDIS_TTL_FULL_DOCS": "x", "REDIS_TTL_OTHER": "y",
		"STORAGE_KV_MIGRATE": "maybe", "REDIS_WAIT_REPLICAS": "some", "REDIS_CLIENT_CACHE": "64", "REDIS_MAINT_NOTIFICATIONS": "sometimes",
	}
	_, err = fromMap(bad)
	for name := range bad {
		require.ErrorContains(t, err, name+":")
	}
	for e := range testkit.Causes(err) {
		if joined, ok := e.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) == 2 {
			continue
		}
		require.ErrorIs(t, e, kv.ErrInvalid)
	}
	_, err = kv.NewFactory(kv.Config{Backend: "reddis"})
	require.ErrorIs(t, err, kv.ErrInvalid)
	_, err = fromMap(map[string]string{"STORAGE_KV_MIGRATE": "off # later", "REDIS_WAIT_REPLICAS": "0", "REDIS_CLIENT_CACHE": ""})
	require.NoError(t, err)
}

// NOAUTH, WRONGPASS, NOPERM: fail fast with what to do, without a retry, and
// not as ErrUnavailable.
func TestRedisLoginsFailFast(t *testing.T) {
	server := redistest.Start(t, redistest.Password("right"))
	server.ACL("app", "pw", "~nano_graphrag:*", "+@all", "-get", "-set")
	server.ACL("elsewhere", "pw", "~other:*", "+@all")
	c := server.Client()
	connections := func() int64 {
		fields := c.InfoMap(t.Context(), "stats").Item("Stats", "total_connections_received")
		var n int64
		_, err := fmt.Sscan(fields, &n)
		require.NoError(t, err)
		return n
	}
	for user, want := range map[string]string{":GEHEIM@": "REDIS_PASSWORD", "": "REDIS_PASSWORD", "nobody:GEHEIM@": "REDIS_USERNAME"} {
		before := connections()
		_, err := kv.Open(t.Context(), redisCfg("redis://"+user+server.Addr), "docs")
		require.ErrorContains(t, err, want)
		require.NotErrorIs(t, err, kv.ErrUnavailable)
		require.NotContains(t, err.Error(), "GEHEIM")
		require.EqualValues(t, 1, connections()-before, "one attempt for %q", user)
	}
	for user, want := range map[string]string{"app": "'get'", "elsewhere": "key"} {
		s := openRedisStore(t, redisCfg("redis://"+user+":pw@"+server.Addr), "docs")
		require.NoError(t, c.ConfigResetStat(t.Context()).Err())
		_, err := s.Get(t.Context(), "GEHEIM")
		require.ErrorContains(t, err, strings.Trim(want, "'"))
		require.ErrorContains(t, err, "may not")
		require.NotErrorIs(t, err, kv.ErrUnavailable)
		require.NotContains(t, err.Error(), "GEHEIM")
		err = s.Upsert(t.Context(), testkit.Numbered(1))
		require.Error(t, err)
		require.NotErrorIs(t, err, kv.ErrUnavailable)
		info := c.Info(t.Context(), "commandstats").Val()
		require.Contains(t, info, "cmdstat_get:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,", "no retry")
		require.Contains(t, info, "cmdstat_set:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,", "no retry")
	}
}

// TLS verifies by default, with the settings that say whom to trust, what to
// show and which name to expect; leaving it out is logged.
func TestRedisTLS(t *testing.T) {
	server := redistest.Start(t, redistest.TLS("yes"))
	host, port, err := net.SplitHostPort(server.Addr)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", host)
	full := kv.RedisConfig{URL: kv.RedisURL(server.URL()), CAFile: server.TLS.CAFile, CertFile: server.TLS.CertFile, KeyFile: server.TLS.KeyFile}
	try := func(change func(c *kv.RedisConfig), book *testkit.LogBook) error {
		c := full
		change(&c)
		s, err := kv.Open(t.Context(), kv.Config{Backend: "redis", Redis: c}, "docs", kv.WithLogger(book.Logger()))
		if err != nil {
			return err
		}
		return errors.Join(s.Upsert(t.Context(), testkit.OneDoc), s.Close())
	}
	book := new(testkit.LogBook)
	require.NoError(t, try(func(*kv.RedisConfig) {}, book))
	require.NoError(t, try(func(c *kv.RedisConfig) { c.URL, c.ServerName = kv.RedisURL("rediss://127.0.0.1:"+port), "localhost" }, book))
	require.Empty(t, book.Warnings())
	require.NoError(t, try(func(c *kv.RedisConfig) { c.URL, c.CAFile = c.URL+"?ssl_cert_reqs=none", "" }, book))
	require.Len(t, book.Warnings(), 1)
	require.Contains(t, book.Text(), "not verified")
	for want, change := range map[string]func(c *kv.RedisConfig){
		"unknown authority":    func(c *kv.RedisConfig) { c.CAFile = "" },
		"not other.example":    func(c *kv.RedisConfig) { c.ServerName = "other.example" },
		"":                     func(c *kv.RedisConfig) { c.CertFile, c.KeyFile = "", "" },
		"REDIS_CA_FILE":        func(c *kv.RedisConfig) { c.CAFile = "/nowhere" },
		"REDIS_CERT_FILE":      func(c *kv.RedisConfig) { c.CertFile = "/nowhere" },
		"no PEM certificate":   func(c *kv.RedisConfig) { c.CAFile = server.TLS.KeyFile },
		"need a rediss:// URL": func(c *kv.RedisConfig) { c.URL = kv.RedisURL("redis://" + server.Addr) },
	} {
		err := try(change, new(testkit.LogBook))
		require.ErrorContains(t, err, want)
		if remote := want == "" || strings.Contains(want, "authority") || strings.Contains(want, "other"); remote {
			require.ErrorIs(t, err, kv.ErrUnavailable)
			require.ErrorContains(t, err, server.Addr)
		}
		t.Logf("%v", err)
	}
}

// More connections than a machine has ports for are refused, wherever they are
// asked for: the pool would panic, or take seconds to be made.
func TestRedisMaxConnectionsIsBounded(t *testing.T) {
	for _, vars := range []map[string]string{
		{"REDIS_MAX_CONNECTIONS": "100001"},
		{"REDIS_MAX_CONNECTIONS": "4294967296"},
		{"REDIS_URL": "redis://h?max_connections=100000000"},
	} {
		_, err := fromMap(vars)
		require.ErrorIs(t, err, kv.ErrInvalid)
		require.ErrorContains(t, err, "100000")
	}
	_, err := fromMap(map[string]string{"REDIS_MAX_CONNECTIONS": "100000"})
	require.NoError(t, err)
}

// A programLogger is one that a program gave go-redis for all its clients.
type programLogger struct{ lines atomic.Int64 }

func (l *programLogger) Printf(context.Context, string, ...any) { l.lines.Add(1) }

// go-redis's logger is the program's: a store that is opened leaves it alone.
func TestRedisLoggerOfTheProgramIsLeftAlone(t *testing.T) {
	nobody := testkit.StartStrange(t, func(args []string) string {
		if strings.EqualFold(args[0], "sentinel") {
			return "*-1\r\n" // Of which go-redis tells its logger.
		}
		return ""
	})
	l := new(programLogger)
	redis.SetLogger(l)
	defer logging.Enable()
	_, err := kv.Open(t.Context(), redisCfg("redis://"+nobody.Addr+"?master_name=m"), "docs", kv.WithLogger(new(testkit.LogBook).Logger()))
	require.ErrorIs(t, err, kv.ErrUnavailable)
	require.Positive(t, l.lines.Load())
}
