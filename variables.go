package kv

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ngraf/kv/internal/engine"
)

// A variable of the environment. The table below is the one place that knows
// them: FromLookup, Settings and the README's table come from it.
type variable struct {
	name      string
	byDefault string
	meaning   string
	read      func(c *Config, text string) error
	show      func(c Config, redis settledRedis) string
}

var variables = []variable{
	{"STORAGE_KV_BACKEND", defaultBackend, "which backend: json, redis, or a registered name",
		func(c *Config, t string) error { c.Backend = withoutComment(t); return nil },
		func(c Config, _ settledRedis) string { return c.backend() }},
	{"STORAGE_WORKING_DIR", defaultWorkingDir, "where `kv_store_<namespace>.json` lives",
		func(c *Config, t string) error { c.WorkingDir = t; return nil },
		func(c Config, _ settledRedis) string { return c.workingDir() }},
	{"STORAGE_JSON_FSYNC", string(FsyncEverySec), "when the journal reaches the disk: always, everysec, no",
		func(c *Config, t string) error { c.JSON.Fsync = Fsync(withoutComment(t)); return nil },
		func(c Config, _ settledRedis) string { return string(c.JSON.fsync()) }},
	{"STORAGE_MAX_VALUE_BYTES", fmt.Sprint(engine.DefaultMaxValueBytes), "upper bound of one value in bytes, on both backends",
		func(c *Config, t string) error { return readWhole(&c.MaxValueBytes, t) },
		func(c Config, _ settledRedis) string { return fmt.Sprint(c.maxValue()) }},
	{"REDIS_URL", defaultRedisURL, "redis://, rediss:// or unix://; `master_name=` makes it Sentinel, several `addr=` or `cluster=true` Cluster",
		func(c *Config, t string) error { c.Redis.URL = RedisURL(strings.TrimSpace(t)); return nil },
		func(c Config, _ settledRedis) string { return c.Redis.url().String() }},
	{"REDIS_USERNAME", "", "user to log in as, where the URL names none",
		func(c *Config, t string) error { c.Redis.Username = t; return nil },
		func(_ Config, r settledRedis) string { return r.shownUser() }},
	{"REDIS_PASSWORD", "", "password, where the URL has none",
		func(c *Config, t string) error { c.Redis.Password = Secret(t); return nil },
		func(_ Config, r settledRedis) string { return r.Password.String() }},
	{"REDIS_PASSWORD_FILE", "", "file that holds the password",
		func(c *Config, t string) error { c.Redis.PasswordFile = t; return nil },
		func(_ Config, r settledRedis) string { return r.PasswordFile }},
	{"REDIS_KEY_PREFIX", defaultKeyPrefix, "first part of every key",
		func(c *Config, t string) error { c.Redis.KeyPrefix = t; return nil },
		func(_ Config, r settledRedis) string { return r.KeyPrefix }},
	{"REDIS_MAX_CONNECTIONS", strconv.Itoa(defaultMaxConns), "upper bound of one shared pool for all namespaces",
		func(c *Config, t string) error { return readWhole(&c.Redis.MaxConnections, t) },
		func(_ Config, r settledRedis) string { return fmt.Sprint(r.MaxConnections) }},
	{"REDIS_CONNECTION_TIMEOUT", "5s", "bound on making a connection: seconds, or a Go duration",
		func(c *Config, t string) error { return readTimeout(&c.Redis.ConnectionTimeout, t) },
		func(_ Config, r settledRedis) string { return r.ConnectionTimeout.String() }},
	{"REDIS_SOCKET_TIMEOUT", "5s", "bound on one read or write: seconds, or a Go duration",
		func(c *Config, t string) error { return readTimeout(&c.Redis.SocketTimeout, t) },
		func(_ Config, r settledRedis) string { return r.SocketTimeout.String() }},
	{"REDIS_HEALTH_CHECK_INTERVAL", "30s", "an idle connection older than this is replaced before use; 0: never",
		func(c *Config, t string) error { return readInterval(&c.Redis.HealthCheckInterval, t) },
		func(_ Config, r settledRedis) string { return max(r.HealthCheckInterval, 0).String() }},
	{"REDIS_CA_FILE", "", "PEM certificates to trust in place of the system's",
		func(c *Config, t string) error { c.Redis.CAFile = t; return nil },
		func(_ Config, r settledRedis) string { return r.CAFile }},
	{"REDIS_CERT_FILE", "", "PEM client certificate",
		func(c *Config, t string) error { c.Redis.CertFile = t; return nil },
		func(_ Config, r settledRedis) string { return r.CertFile }},
	{"REDIS_KEY_FILE", "", "PEM key of the client certificate",
		func(c *Config, t string) error { c.Redis.KeyFile = t; return nil },
		func(_ Config, r settledRedis) string { return r.KeyFile }},
	{"REDIS_TLS_SERVER_NAME", "", "name to expect in the server's certificate",
		func(c *Config, t string) error { c.Redis.ServerName = t; return nil },
		func(_ Config, r settledRedis) string { return r.ServerName }},
	{"REDIS_CIRCUIT_FAILURES", "0", "calls fail at once after so many failures in a row; 0: never",
		func(c *Config, t string) error { return readCount(&c.Redis.CircuitFailures, t) },
		func(_ Config, r settledRedis) string { return fmt.Sprint(r.CircuitFailures) }},
	{"REDIS_CIRCUIT_COOLDOWN", "5s", "how long they do before one is tried: seconds, or a Go duration",
		func(c *Config, t string) error { return readTimeout(&c.Redis.CircuitCooldown, t) },
		func(_ Config, r settledRedis) string { return r.CircuitCooldown.String() }},
	{"REDIS_SAVE_ON_FLUSH", "false", "Flush asks for BGSAVE",
		func(c *Config, t string) error { return readBool(&c.Redis.SaveOnFlush, t) },
		func(_ Config, r settledRedis) string { return strconv.FormatBool(r.SaveOnFlush) }},
	{"REDIS_MAINT_NOTIFICATIONS", string(MaintOff), "servers tell of maintenance before it breaks connections: off, auto, on",
		func(c *Config, t string) error {
			c.Redis.MaintNotifications = MaintNotifications(withoutComment(t))
			return nil
		},
		func(_ Config, r settledRedis) string { return string(r.MaintNotifications) }},
	{"REDIS_WAIT_REPLICAS", "0", "a write is acknowledged when so many replicas have it: a number, or all",
		func(c *Config, t string) error {
			return c.Redis.WaitReplicas.UnmarshalText([]byte(withoutComment(t)))
		},
		func(c Config, _ settledRedis) string { return c.Redis.WaitReplicas.String() }},
	{"STORAGE_KV_MIGRATE", "on", "the redis backend first brings in what is due of the files in the working directory: on, off; wait: as on, after who has the files",
		readMigrate, migrateText},
	{"REDIS_CLIENT_CACHE", "0", "bytes for an in-process read cache, at least 1048576; 0: none",
		func(c *Config, t string) error { return readCount(&c.Redis.ClientCache, t) },
		func(_ Config, r settledRedis) string { return fmt.Sprint(r.ClientCache) }},
}

func readWhole[T int | int64](dst *T, text string) error {
	n, err := strconv.ParseInt(withoutComment(text), 10, strconv.IntSize)
	if err != nil || n <= 0 {
		return fmt.Errorf("%q is not a whole number above 0", withoutComment(text))
	}
	*dst = T(n)
	return nil
}

func readCount[T int | int64](dst *T, text string) error {
	n, err := strconv.ParseInt(withoutComment(text), 10, strconv.IntSize)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a whole number from 0 on", withoutComment(text))
	}
	*dst = T(n)
	return nil
}

func readTimeout(dst *time.Duration, text string) error {
	d, err := parseSeconds(withoutComment(text))
	if err == nil && d <= 0 {
		err = fmt.Errorf("%s is not above 0", withoutComment(text))
	}
	*dst = d
	return err
}

func readInterval(dst *time.Duration, text string) error {
	d, err := parseSeconds(withoutComment(text))
	switch {
	case err != nil:
		return err
	case d < 0:
		return fmt.Errorf("%s is negative", withoutComment(text))
	case d == 0:
		d = -1
	}
	*dst = d
	return nil
}

func readBool(dst *bool, text string) error {
	switch strings.ToLower(withoutComment(text)) {
	case "true", "1", "yes", "on":
		*dst = true
	case "false", "0", "no", "off":
		*dst = false
	default:
		return errors.New("not true or false")
	}
	return nil
}

// readMigrate reads whether files are brought into Redis.
func readMigrate(c *Config, text string) error {
	switch text = strings.ToLower(withoutComment(text)); text {
	case "on", "off", "wait":
		c.NoMigrate, c.MigrateWait = text == "off", text == "wait"
	default:
		return fmt.Errorf("%q is neither on nor off nor wait", text)
	}
	return nil
}

func migrateText(c Config, _ settledRedis) string {
	switch {
	case c.NoMigrate:
		return "off"
	case c.MigrateWait:
		return "wait"
	}
	return "on"
}
