package kv

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/units"
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
	{"STORAGE_MAX_VALUE_BYTES", fmt.Sprint(engine.DefaultMaxValueBytes), "upper bound of one value, on both backends: bytes, or a size such as 64mb",
		func(c *Config, t string) error { return readBytes(&c.MaxValueBytes, t, 1) },
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
	{"REDIS_CONNECTION_TIMEOUT", "5s", "bound on making a connection: seconds, or a duration such as 500ms",
		func(c *Config, t string) error { return readTimeout(&c.Redis.ConnectionTimeout, t) },
		func(_ Config, r settledRedis) string { return r.ConnectionTimeout.String() }},
	{"REDIS_SOCKET_TIMEOUT", "5s", "bound on one read or write: seconds, or a duration such as 500ms",
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
	{"REDIS_CIRCUIT_COOLDOWN", "5s", "how long they do before one is tried: seconds, or a duration such as 500ms",
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
	{"REDIS_CLIENT_CACHE", "0", "memory of an in-process read cache: bytes, or a size from 1mb on; 0: none",
		func(c *Config, t string) error { return readBytes(&c.Redis.ClientCache, t, 0) },
		func(_ Config, r settledRedis) string { return fmt.Sprint(r.ClientCache) }},
}

// readBytes reads a size, to which least is the lower bound.
func readBytes(dst *int64, text string, least int64) error {
	n, err := units.Bytes(withoutComment(text))
	if err == nil && n < least {
		err = fmt.Errorf("%q is below %d", withoutComment(text), least)
	}
	*dst = n
	return err
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
	d, err := units.Duration(withoutComment(text))
	if err == nil && d <= 0 {
		err = fmt.Errorf("%s is not above 0", withoutComment(text))
	}
	*dst = d
	return err
}

func readInterval(dst *time.Duration, text string) error {
	d, err := units.Duration(withoutComment(text))
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

// readBool reads a switch, of which there is one spelling everywhere.
func readBool(dst *bool, text string) error {
	switch text = withoutComment(text); strings.ToLower(text) {
	case "true", "1", "yes", "on":
		*dst = true
	case "false", "0", "no", "off":
		*dst = false
	default:
		return fmt.Errorf("%q is neither on nor off; true, false, yes, no, 1 and 0 will do, too", text)
	}
	return nil
}

// readMigrate reads whether files are brought into Redis.
func readMigrate(c *Config, text string) error {
	if text = withoutComment(text); strings.EqualFold(text, "wait") {
		c.NoMigrate, c.MigrateWait = false, true
		return nil
	}
	var on bool
	if readBool(&on, text) != nil {
		return fmt.Errorf("%q is neither on nor off nor wait", text)
	}
	c.NoMigrate, c.MigrateWait = !on, false
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

// elsewhere are names under which other programs look for what is in one of
// our variables.
var elsewhere = map[string]string{
	"REDIS_HOST": "REDIS_URL", "REDIS_PORT": "REDIS_URL", "REDIS_DB": "REDIS_URL", "REDIS_SSL": "REDIS_URL",
	"REDIS_USER": "REDIS_USERNAME", "REDIS_PASS": "REDIS_PASSWORD", "REDIS_PREFIX": "REDIS_KEY_PREFIX",
	"REDIS_CONNECT_TIMEOUT": "REDIS_CONNECTION_TIMEOUT", "REDIS_TIMEOUT": "REDIS_SOCKET_TIMEOUT",
	"STORAGE_BACKEND": "STORAGE_KV_BACKEND", "STORAGE_DIR": "STORAGE_WORKING_DIR",
}

// meant is the variable that somebody had in mind who set this one, or "".
func meant(name, value string) string {
	if strings.HasPrefix(value, "tcp://") {
		return "" // Docker and Kubernetes set REDIS_PORT so, for a service called redis.
	}
	if right, ok := elsewhere[name]; ok {
		return right
	}
	best, nearest := "", max(1, len(name)/6)+1
	for _, v := range variables {
		switch d := distance(name, v.name); {
		case d == 0:
			return ""
		case d < nearest:
			best, nearest = v.name, d
		}
	}
	return best
}

// misspelt are warnings about variables that look like ours and are not.
func misspelt(vars map[string]string) (warnings []string) {
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if right := meant(name, vars[name]); right != "" {
			warnings = append(warnings, fmt.Sprintf("%s: no variable of kv, ignored; did you mean %s?", name, right))
		}
	}
	return warnings
}

// distance is how many letters must be put in, left out or changed to make b
// of a (Levenshtein, 1965).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
