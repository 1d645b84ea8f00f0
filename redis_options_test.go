package kv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	neturl "net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redisstore"
	"github.com/ngraf/kv/internal/testkit"
)

// settledOptions are what a factory makes its client and engines from, as the
// environment asks for it. What becomes of them is for internal/redisstore.
func settledOptions(t *testing.T, vars map[string]string, book *testkit.LogBook) redisstore.Options {
	t.Helper()
	vars["STORAGE_KV_BACKEND"] = "redis"
	cfg, err := fromMap(vars)
	require.NoError(t, err)
	f, err := NewFactory(cfg, WithLogger(book.Logger()))
	require.NoError(t, err)
	o, err := f.redisOptions()
	require.NoError(t, err)
	return o
}

// settings are options without what a factory adds, for comparison.
func settings(o redisstore.Options) redisstore.Options {
	o.Logger, o.States = nil, nil
	return o
}

// Every Redis variable reaches the engine, from the environment on.
func TestRedisVariablesReachTheClient(t *testing.T) {
	book := new(testkit.LogBook)
	o := settledOptions(t, map[string]string{
		"REDIS_URL": "rediss://127.0.0.1:7777/7", "REDIS_USERNAME": "jo", "REDIS_PASSWORD": "p #/w",
		"REDIS_KEY_PREFIX": "pre", "REDIS_MAX_CONNECTIONS": "17 # enough", "REDIS_CONNECTION_TIMEOUT": "1.5",
		"REDIS_SOCKET_TIMEOUT": "2500ms", "REDIS_HEALTH_CHECK_INTERVAL": "11", "REDIS_CA_FILE": "ca.pem",
		"REDIS_CERT_FILE": "cert.pem", "REDIS_KEY_FILE": "key.pem", "REDIS_TLS_SERVER_NAME": "redis.internal",
		"REDIS_SAVE_ON_FLUSH": "yes", "REDIS_WAIT_REPLICAS": "2", "REDIS_CIRCUIT_FAILURES": "4", "REDIS_CIRCUIT_COOLDOWN": "6",
	}, book)
	require.Equal(t, redisstore.Options{
		Addrs: []string{"127.0.0.1:7777"}, DB: 7, TLS: true, Protocol: 3,
		Username: "jo", Password: "p #/w",
		KeyPrefix: "pre", SaveOnFlush: true,
		MaxConnections:      17,
		ConnectionTimeout:   1500 * time.Millisecond,
		SocketTimeout:       2500 * time.Millisecond,
		HealthCheckInterval: 11 * time.Second,
		CAFile:              "ca.pem", CertFile: "cert.pem", KeyFile: "key.pem", ServerName: "redis.internal",
		WaitReplicas:    2,
		Maint:           "disabled",
		CircuitFailures: 4, CircuitCooldown: 6 * time.Second,
	}, settings(o))
	require.Empty(t, book.Warnings())
}

// The defaults are those of design.md's table.
func TestRedisDefaultsReachTheClient(t *testing.T) {
	require.Equal(t, redisstore.Options{
		Addrs: []string{"localhost:6379"}, Protocol: 3,
		KeyPrefix:           "nano_graphrag",
		Maint:               "disabled",
		MaxConnections:      50,
		ConnectionTimeout:   5 * time.Second,
		SocketTimeout:       5 * time.Second,
		HealthCheckInterval: 30 * time.Second,
		CircuitCooldown:     5 * time.Second,
	}, settings(settledOptions(t, map[string]string{}, new(testkit.LogBook))))
}

// redis-py's URL options are understood, and the URL beats the variables with
// a warning for each that says otherwise.
func TestRedisURLOptionsWin(t *testing.T) {
	book := new(testkit.LogBook)
	o := settledOptions(t, map[string]string{
		"REDIS_URL": "redis://url-user:url%20pw@h:1/2?socket_timeout=0.25&socket_connect_timeout=3&max_connections=9" +
			"&health_check_interval=0&client_name=me&protocol=2&decode_responses=True&db=4",
		"REDIS_USERNAME": "env-user", "REDIS_PASSWORD": "env-pw", "REDIS_MAX_CONNECTIONS": "10",
		"REDIS_SOCKET_TIMEOUT": "7", "REDIS_CONNECTION_TIMEOUT": "3", "REDIS_HEALTH_CHECK_INTERVAL": "5",
	}, book)
	require.Equal(t, []any{"url-user", "url pw", 4, 9, "me", 2}, []any{o.Username, o.Password, o.DB, o.MaxConnections, o.ClientName, o.Protocol})
	require.Equal(t, 250*time.Millisecond, o.SocketTimeout)
	require.Equal(t, 3*time.Second, o.ConnectionTimeout)
	require.Negative(t, o.HealthCheckInterval, "0 means never, as in redis-py")
	warnings := book.Warnings()
	require.Len(t, warnings, 5, "the connection timeouts agree: %v", warnings)
	for _, name := range []string{"REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_MAX_CONNECTIONS", "REDIS_SOCKET_TIMEOUT", "REDIS_HEALTH_CHECK_INTERVAL"} {
		require.Contains(t, book.Text(), name)
	}
	require.NotContains(t, book.Text(), "pw")
}

// master_name makes it Sentinel, several addr or cluster=true make it Cluster;
// both get the same options as one server.
func TestRedisURLKindsReachTheClient(t *testing.T) {
	common := map[string]string{"REDIS_PASSWORD": "pw", "REDIS_MAX_CONNECTIONS": "3", "REDIS_SOCKET_TIMEOUT": "2", "REDIS_CONNECTION_TIMEOUT": "4"}
	for url, addrs := range map[string][]string{
		"redis://a:1?addr=b:2&addr=[::1]:3":  {"a:1", "b:2", "[::1]:3"},
		"redis://a:1?cluster=true":           {"a:1"},
		"redis://a:1?cluster=true&addr=c":    {"a:1", "c:6379"},
		"redis://a:1?addr=a:1&addr=b:2&db=0": {"a:1", "b:2"},
	} {
		vars := maps.Clone(common)
		vars["REDIS_URL"] = url
		o := settledOptions(t, vars, new(testkit.LogBook))
		require.True(t, o.Cluster, url)
		require.Equal(t, addrs, o.Addrs, url)
		require.Equal(t, []any{"pw", 3, 2 * time.Second, 4 * time.Second}, []any{o.Password, o.MaxConnections, o.SocketTimeout, o.ConnectionTimeout})
	}
	vars := maps.Clone(common)
	vars["REDIS_URL"] = "redis://s1:1/5?addr=s2&master_name=mymaster&sentinel_username=su&sentinel_password=sp"
	o := settledOptions(t, vars, new(testkit.LogBook))
	require.False(t, o.Cluster)
	require.Equal(t, []any{5, "pw", 3, 2 * time.Second}, []any{o.DB, o.Password, o.MaxConnections, o.SocketTimeout})
	require.Equal(t, []any{"mymaster", "su", "sp"}, []any{o.MasterName, o.SentinelUser, o.SentinelPass})
	require.Equal(t, []string{"s1:1", "s2:6379"}, o.Addrs)
}

// The forms of REDIS_URL (design.md, Configuration).
func TestRedisURLForms(t *testing.T) {
	type form struct {
		addr       string
		db         int
		tls        bool
		user, pass string
	}
	for url, want := range map[string]form{
		"":                                {addr: "localhost:6379"},
		"redis://":                        {addr: "localhost:6379"},
		"redis://h":                       {addr: "h:6379"},
		"redis://h:1/":                    {addr: "h:1"},
		"redis://[::1]:7/3":               {addr: "[::1]:7", db: 3},
		"redis://[fe80::1]":               {addr: "[fe80::1]:6379"},
		"redis://h/3?db=4":                {addr: "h:6379", db: 4},
		"rediss://h":                      {addr: "h:6379", tls: true},
		"rediss://h?ssl_cert_reqs=none":   {addr: "h:6379", tls: true},
		"redis://:p%40%2F%3F%23%25w@h":    {addr: "h:6379", pass: "p@/?#%w"},
		"redis://u%3Av:a:b@h":             {addr: "h:6379", user: "u:v", pass: "a:b"},
		"redis://h?username=u&password=p": {addr: "h:6379", user: "u", pass: "p"},
		"unix:///run/r.sock?db=2":         {addr: "/run/r.sock", db: 2},
		"unix://u:p@/run/r.sock":          {addr: "/run/r.sock", user: "u", pass: "p"},
	} {
		s, err := RedisConfig{URL: RedisURL(url)}.settle()
		require.NoError(t, err, url)
		require.Equal(t, want, form{s.addrs[0], s.db, s.tls, s.Username, string(s.Password)}, url)
		require.False(t, s.cluster)
	}
	for _, url := range []string{
		"h:6379", "http://h", "redis:h", "redis://h:0", "redis://h:65536", "redis://h:x", "redis://h/x", "redis://h/-1",
		"redis://h?db=x", "redis://h?nonsense=1", "redis://h?socket_timeout=x", "redis://h?max_connections=0", "unix://run/r.sock",
		"unix://", "redis://h#1", "redis://h?ssl_cert_reqs=none", "redis://h?cluster=true&master_name=m", "redis://h/1?cluster=true",
		"redis://h?sentinel_password=p", "redis://user@h", "unix:///s?cluster=true", "rediss://h?ssl_cert_reqs=maybe", "redis://h?protocol=4",
	} {
		err := Config{Redis: RedisConfig{URL: RedisURL(url)}}.Validate()
		require.ErrorIs(t, err, ErrInvalid, url)
		require.Contains(t, err.Error(), "REDIS_", url)
	}
}

// Errors about URLs name the host only (reliability.md, Security and 10).
func TestRedisURLNeverLeaksItsPassword(t *testing.T) {
	const a, b = "4711", "GEHEIM"
	for _, sep := range []string{"/", "#", "?", "@", "%", "%zz", "&", "/?", "?x=", "#@", " ", ":", "[", "]", "\\", "\n", "?db=", "?addr=", "/0?"} {
		for _, form := range []string{"redis://:%s@h.example:6379/0", "redis://user:%s@h.example", "rediss://%s@h.example:6379", "%s@h.example",
			"redis:%s@h", "redis://:%s@h/notanumber", "redis://:%s@h:99999?nonsense=1", "redis://h?password=%s&db=x", "unix://:%s@/s?cluster=1"} {
			for _, password := range []string{a + sep + b, b + sep + a, sep + a + b} {
				url := RedisURL(fmt.Sprintf(form, password))
				cfg := Config{Backend: "redis", Redis: RedisConfig{URL: url}}
				texts := []string{url.String(), fmt.Sprintf("%+v %#v", cfg, cfg.Redis), fmt.Sprint(cfg.Settings())}
				secret := password
				s, err := cfg.Redis.settle()
				if err == nil { // Then the URL was understood as it is; a user's name is no secret.
					understood, err := neturl.PathUnescape(password)
					require.NoError(t, err)
					require.Contains(t, []string{string(s.Password), s.Username + ":" + string(s.Password)}, understood, "%s", string(url))
					secret = string(s.Password)
				} else {
					_, open := Open(t.Context(), cfg, "docs")
					texts = append(texts, err.Error(), fmt.Sprintf("%v %#v", open, open))
				}
				for _, part := range []string{a, b} {
					if strings.Contains(secret, part) {
						require.NotContains(t, strings.Join(texts, "\n"), part, "%s", string(url))
					}
				}
			}
		}
	}
}

// Secrets are a type that prints, logs and marshals as *** (design.md).
func TestSecretsNeverPrint(t *testing.T) {
	const secret = "GEHEIM"
	c := RedisConfig{URL: "redis://u:" + secret + "@h?master_name=m&sentinel_password=" + secret, Password: secret}
	s, err := c.settle()
	require.NoError(t, err)
	cfg := Config{Redis: c}
	f, err := NewFactory(cfg, WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	for _, v := range []any{c.Password, &c.Password, c.URL, &c.URL, c, &c, cfg, &cfg, s, &s, []Config{cfg}, map[string]Secret{"x": secret}, f, cfg.Settings()} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
			text := fmt.Sprintf(verb, v)
			require.NotContains(t, text, secret, "%T %s", v, verb)
			require.NotContains(t, strings.ToLower(text), fmt.Sprintf("%x", secret), "%T %s", v, verb)
		}
		text, err := json.Marshal(v)
		require.NoError(t, err)
		require.NotContains(t, string(text), secret, "%T", v)
		var out bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("m", "v", v, slog.Group("g", "v", v))
		}
		require.NotContains(t, out.String(), secret, "%T", v)
	}
	require.Equal(t, `*** "***" ***`, fmt.Sprintf("%v %q %s", c.Password, c.Password, c.Password))
	require.Equal(t, "redis://u:***@h?master_name=m&sentinel_password=***", c.URL.String())
	require.Equal(t, secret, string(c.Password))
}

// fromMap is FromLookup of an environment that is a map.
func fromMap(vars map[string]string) (Config, error) {
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	var environ []string
	for name, value := range vars {
		environ = append(environ, name+"="+value)
	}
	return FromLookup(lookup, environ)
}
