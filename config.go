package kv

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redisstore"
)

// Config says where and how documents are kept. It is plain data; the zero
// value is ready to use and means JSON files in ./nano_graphrag_cache. Each
// field names the variable that [FromEnv] reads it from. A field that is zero
// has the default.
type Config struct {
	// Backend is "json" (default), "redis", or a name given to [Register], in
	// any case.
	// STORAGE_KV_BACKEND.
	Backend string

	// WorkingDir is the directory of the document files,
	// kv_store_<namespace>.json. Default ./nano_graphrag_cache. It is created
	// when it is missing. STORAGE_WORKING_DIR.
	WorkingDir string

	// TTL is the time to live of new documents by namespace; 0 is for ever. A
	// name is matched exactly, and then in lower case with _ for - and ., the
	// form in which the environment gives it. Where nothing is said, documents
	// live for ever, but for llm_response_cache on Redis: 12 h. Negative times
	// count as 0, with a warning. Kept to the millisecond, rounded up.
	// STORAGE_TTL_<NAMESPACE>, or REDIS_TTL_<NAMESPACE>, each for both
	// backends.
	TTL map[string]time.Duration

	// MaxValueBytes bounds one value, without its insignificant white space.
	// Default 64 MiB, at most 512 MiB.
	// STORAGE_MAX_VALUE_BYTES.
	MaxValueBytes int64

	// NoMigrate keeps the redis backend from importing the files that it finds
	// in WorkingDir. Otherwise opening a namespace returns when those of its
	// documents that Redis lacks are there; nothing in Redis is changed, and
	// nothing in the files. STORAGE_KV_MIGRATE, which is on or off.
	NoMigrate bool

	JSON  JSONConfig
	Redis RedisConfig

	// Warnings are remarks on the configuration, one sentence each, which a
	// factory logs when it is made. FromEnv fills it in.
	Warnings []string
}

// JSONConfig is what only the json backend needs.
type JSONConfig struct {
	// Fsync says when a write reaches the disk. Default [FsyncEverySec].
	// STORAGE_JSON_FSYNC.
	Fsync Fsync
}

// Fsync is a policy of the journal, in Redis's words. Under each of them a
// write is in the operating system's hands before it is acknowledged, so that
// a process that is killed loses nothing.
type Fsync string

const (
	FsyncAlways   Fsync = "always"   // before the acknowledgement: a machine that dies loses nothing
	FsyncEverySec Fsync = "everysec" // within a second: a machine that dies loses that second
	FsyncNo       Fsync = "no"       // on Flush and Close, and when the operating system likes
)

// RedisConfig is what only the redis backend needs. Options in the query of
// the URL win over the fields here, as they do in redis-py, which may read the
// same variables.
type RedisConfig struct {
	// URL is redis://, rediss:// (TLS) or unix://. master_name= in its query
	// makes it a Sentinel's, several addr= or cluster=true a Cluster's.
	// Default redis://localhost:6379. REDIS_URL.
	URL RedisURL

	// Username and Password log in where the URL does not say how.
	// REDIS_USERNAME, REDIS_PASSWORD.
	Username string
	Password Secret
	// PasswordFile holds the password, as mounted secrets do; white space at
	// its end is dropped. It is read at every new connection, so that a
	// rotated secret is picked up. REDIS_PASSWORD_FILE.
	PasswordFile string

	// KeyPrefix is the first part of every key, before a colon. Applications
	// with different prefixes can share a database, unless one prefix is the
	// beginning of the other up to a colon. Default nano_graphrag.
	// REDIS_KEY_PREFIX.
	KeyPrefix string

	// MaxConnections bounds the connections of all stores of a factory
	// together, per node in a Cluster. Default 50, at most 100,000.
	// REDIS_MAX_CONNECTIONS.
	MaxConnections int

	// ConnectionTimeout bounds the making of a connection, SocketTimeout one
	// read or write on it. Default 5 s each. REDIS_CONNECTION_TIMEOUT,
	// REDIS_SOCKET_TIMEOUT.
	ConnectionTimeout time.Duration
	SocketTimeout     time.Duration

	// HealthCheckInterval is how long an idle connection is trusted; an older
	// one is replaced before use. Default 30 s, negative: for ever.
	// REDIS_HEALTH_CHECK_INTERVAL, where 0 means for ever.
	HealthCheckInterval time.Duration

	// CAFile holds the certificates to trust in place of the system's,
	// CertFile and KeyFile a client certificate, all PEM. ServerName is the
	// name to expect in the server's certificate in place of the URL's host.
	// All need a rediss:// URL. REDIS_CA_FILE, REDIS_CERT_FILE,
	// REDIS_KEY_FILE, REDIS_TLS_SERVER_NAME.
	CAFile     string
	CertFile   string
	KeyFile    string
	ServerName string

	// CircuitFailures is after how many failures in a row, of calls that the
	// server did not answer or could not serve for the time being, the
	// circuit opens: calls then fail at once with [ErrUnavailable], without
	// input or output, until CircuitCooldown has passed (default 5 s) and one
	// trial call was answered. 0, the default: there is no circuit.
	// REDIS_CIRCUIT_FAILURES, REDIS_CIRCUIT_COOLDOWN.
	CircuitFailures int
	CircuitCooldown time.Duration

	// ClientCache is how many bytes of this process may hold documents that
	// Get has read: 0 (default) for none, or at least 1 MiB. A document that
	// takes more than a sixteenth of it is not kept. The server tells when one
	// changes, so that a Get returns what was current some milliseconds ago or
	// later, and one after a write through the same factory sees it; see
	// docs/reliability.md for what can be older. Only for one server, its
	// database 0, and a fixed password. REDIS_CLIENT_CACHE.
	ClientCache int64

	// WaitReplicas is how many replicas must have a write before it is
	// acknowledged; [AllReplicas] is every one. With fewer, the call fails
	// with an error that matches [ErrUnavailable] though the master has the
	// write; Insert and Delete match [ErrOutcomeUnknown], too. It is waited
	// for four fifths of SocketTimeout. Reads do not wait. Default 0.
	// REDIS_WAIT_REPLICAS.
	WaitReplicas Replicas

	// MaintNotifications says whether servers are asked to tell of maintenance
	// before it breaks connections. Default [MaintOff].
	// REDIS_MAINT_NOTIFICATIONS.
	MaintNotifications MaintNotifications

	// SaveOnFlush makes Flush ask the server for a BGSAVE.
	// REDIS_SAVE_ON_FLUSH.
	SaveOnFlush bool
}

// MaintNotifications are told by Redis Cloud and Redis Enterprise: which node
// is about to move or to fail over. go-redis then makes the new connection
// before the old one is closed, and is patient meanwhile. They need RESP3 and
// the right client|maint_notifications, and cost a command for each new
// connection.
type MaintNotifications string

const (
	MaintOff  MaintNotifications = "off"  // nobody is asked
	MaintAuto MaintNotifications = "auto" // a server that does not know them, or refuses, is used without
	MaintOn   MaintNotifications = "on"   // a server that does not know them is an error of Open
)

// Defaults of Config.
const (
	defaultBackend    = "json"
	defaultWorkingDir = "./nano_graphrag_cache"
	defaultRedisURL   = "redis://localhost:6379"
	defaultKeyPrefix  = "nano_graphrag"
	defaultMaxConns   = 50
	limitMaxConns     = 100_000 // More than one address has ports for, and what a server takes.
	defaultTimeout    = 5 * time.Second
	defaultHealth     = 30 * time.Second
	defaultCooldown   = 5 * time.Second
)

// FromEnv reads a Config from the process's environment. See [FromLookup].
func FromEnv() (Config, error) { return FromLookup(os.LookupEnv, os.Environ()) }

// FromLookup reads a Config from variables: lookup answers for a name, as
// os.LookupEnv does, and environ lists all as NAME=value, as os.Environ does,
// for the names that depend on a namespace. A variable that is set to nothing
// counts as not set.
//
// The error joins all problems, each of which matches [ErrInvalid] and names
// its variable; the Config has what could be read.
func FromLookup(lookup func(string) (string, bool), environ []string) (Config, error) {
	var c Config
	var problems []error
	for _, v := range variables {
		text, _ := lookup(v.name)
		if v.read == nil || text == "" {
			continue
		}
		if err := v.read(&c, text); err != nil {
			problems = append(problems, fault.Invalidf("%s: %v", v.name, err))
		}
	}
	ttls, others := variablesOfOthers(lookup, environ)
	var bad []error
	c.TTL, c.Warnings, bad = ttlsFromEnviron(ttls)
	c.Warnings = append(c.Warnings, misspelt(others)...)
	problems = append(problems, bad...)
	if err := c.Validate(); err != nil {
		problems = append(problems, err)
	}
	return c, errors.Join(problems...)
}

// variablesOfOthers collects, from environ and, for the names that are known,
// from lookup, the variables that are not in the table: those with times to
// live, and others that begin as ours do.
func variablesOfOthers(lookup func(string) (string, bool), environ []string) (ttls, others map[string]string) {
	ttls, others = make(map[string]string), make(map[string]string)
	add := func(name, value string) {
		switch {
		case strings.HasPrefix(name, ttlPrefix), strings.HasPrefix(name, redisTTLPrefix):
			ttls[name] = value
		case strings.HasPrefix(name, "STORAGE_"), strings.HasPrefix(name, "REDIS_"):
			others[name] = value
		}
	}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			add(name, value)
		}
	}
	known := slices.Collect(maps.Keys(elsewhere))
	for _, end := range slices.AppendSeq([]string{"FULL_DOCS", "TEXT_CHUNKS", "COMMUNITY_REPORTS", "LLM_RESPONSE_CACHE"}, maps.Keys(misleadingTTL)) {
		known = append(known, ttlPrefix+end, redisTTLPrefix+end)
	}
	for _, name := range known {
		if value, ok := lookup(name); ok {
			add(name, value)
		}
	}
	return ttls, others
}

// Validate reports every problem of c at once, without any input or output.
// Each matches [ErrInvalid] and names the variable to mend.
func (c Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fault.Invalidf(format, args...)) }
	if !slices.Contains(Backends(), c.backend()) {
		bad("STORAGE_KV_BACKEND: there is no backend %q; there are %s", c.Backend, strings.Join(Backends(), ", "))
	}
	if strings.ContainsRune(c.WorkingDir, 0) {
		bad("STORAGE_WORKING_DIR: a path cannot hold a NUL byte")
	}
	if c.MaxValueBytes < 0 || c.MaxValueBytes > engine.LimitMaxValueBytes {
		bad("STORAGE_MAX_VALUE_BYTES: %d is not between 1 and %d (512 MiB, the limit of Redis)", c.MaxValueBytes, engine.LimitMaxValueBytes)
	}
	switch c.JSON.Fsync {
	case "", FsyncAlways, FsyncEverySec, FsyncNo:
	default:
		bad("STORAGE_JSON_FSYNC: %q is none of always, everysec, no", string(c.JSON.Fsync))
	}
	problems = append(problems, c.Redis.problems()...)
	return errors.Join(problems...)
}

// problems are those of the fields; what is wrong with the URL comes last.
func (c RedisConfig) problems() (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fault.Invalidf(format, args...)) }
	if len(c.KeyPrefix) > 256 || !utf8.ValidString(c.KeyPrefix) || strings.ContainsFunc(c.KeyPrefix, unicode.IsControl) {
		bad("REDIS_KEY_PREFIX: use up to 256 bytes of UTF-8 without control characters")
	}
	if c.MaxConnections < 0 || c.MaxConnections > limitMaxConns {
		bad("REDIS_MAX_CONNECTIONS: %d is not between 1 and %d", c.MaxConnections, limitMaxConns)
	}
	if c.ConnectionTimeout < 0 {
		bad("REDIS_CONNECTION_TIMEOUT: %v is not above 0", c.ConnectionTimeout)
	}
	if c.SocketTimeout < 0 {
		bad("REDIS_SOCKET_TIMEOUT: %v is not above 0", c.SocketTimeout)
	}
	if c.CircuitFailures < 0 {
		bad("REDIS_CIRCUIT_FAILURES: %d is negative", c.CircuitFailures)
	}
	if c.CircuitCooldown < 0 {
		bad("REDIS_CIRCUIT_COOLDOWN: %v is not above 0", c.CircuitCooldown)
	}
	if c.WaitReplicas < AllReplicas {
		bad("REDIS_WAIT_REPLICAS: %d is negative", int(c.WaitReplicas))
	}
	if c.Password != "" && c.PasswordFile != "" {
		bad("REDIS_PASSWORD and REDIS_PASSWORD_FILE are both set; keep one")
	}
	if c.ClientCache < redisstore.LeastCache && c.ClientCache != 0 {
		bad("REDIS_CLIENT_CACHE: %d is not a number of bytes from %d (1 MiB) on; 0 is no cache", c.ClientCache, redisstore.LeastCache)
	}
	switch c.MaintNotifications {
	case "", MaintOff, MaintAuto, MaintOn:
	default:
		bad("REDIS_MAINT_NOTIFICATIONS: %q is none of off, auto, on", string(c.MaintNotifications))
	}
	if _, err := c.settle(); err != nil {
		problems = append(problems, err)
	}
	return problems
}

// warnings are remarks on c that do not keep it from working.
func (c Config) warnings() []string {
	warnings := append(slices.Clone(c.Warnings), c.ttlWarnings()...)
	if s, err := c.Redis.settle(); err == nil && c.backend() == "redis" {
		warnings = append(warnings, s.warnings...)
	}
	return warnings
}

// backend is the name of the backend as it was registered, or what is said
// where there is none.
func (c Config) backend() string {
	name, known := cmp.Or(c.Backend, defaultBackend), Backends()
	if !slices.Contains(known, name) {
		if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) }); i >= 0 {
			return known[i]
		}
	}
	return name
}

func (c Config) workingDir() string { return cmp.Or(c.WorkingDir, defaultWorkingDir) }
func (c Config) maxValue() int64    { return cmp.Or(c.MaxValueBytes, engine.DefaultMaxValueBytes) }
func (c JSONConfig) fsync() Fsync   { return cmp.Or(c.Fsync, FsyncEverySec) }

// A Setting is one variable with its effect.
type Setting struct {
	Variable string // its name; STORAGE_TTL_<NAMESPACE> for each namespace named
	Value    string // in effect; secrets and passwords masked
	Default  string // what holds where nothing is said
	Source   string // "default", "set", or "REDIS_URL" for an option or a login in it
	Meaning  string // one line
}

// Settings lists every variable with the value that is in effect in c, in a
// form that can be shown: secrets are masked.
func (c Config) Settings() []Setting {
	var list []Setting
	redis, err := c.Redis.settle()
	if err != nil { // Validate says what is wrong; the fields are shown.
		redis = settledRedis{RedisConfig: c.Redis}
		redis.fillDefaults()
	}
	for _, v := range variables {
		list = append(list, Setting{Variable: v.name, Value: v.show(c, redis), Default: v.byDefault, Meaning: v.meaning})
	}
	for _, name := range append([]string{"llm_response_cache"}, slices.Sorted(maps.Keys(c.TTL))...) {
		setting := Setting{
			Variable: ttlPrefix + strings.ToUpper(ttlKey(name)),
			Value:    fmt.Sprint(c.ttlFor(name)),
			Default:  fmt.Sprint(c.defaultTTL(name)),
			Meaning:  "time to live of new documents in " + name,
		}
		if !slices.Contains(list, setting) {
			list = append(list, setting)
		}
	}
	for i := range list {
		list[i].Source = list[i].source(redis.setByURL)
	}
	return list
}

func (s Setting) source(byURL []string) string {
	switch {
	case slices.Contains(byURL, s.Variable):
		return "REDIS_URL"
	case s.Value == s.Default:
		return "default"
	}
	return "set"
}
