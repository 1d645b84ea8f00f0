package kv

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/units"
)

// What begins the names of the variables with the time to live of a namespace.
// Both are for both backends; the second is the original's, and the first wins.
const (
	ttlPrefix      = "STORAGE_TTL_"
	redisTTLPrefix = "REDIS_TTL_"
)

// defaultTTL is the time to live of namespaces that Config.TTL does not name.
// Cached answers expire on Redis, where they fill the memory of a server that
// others need; all else is kept until it is deleted.
func (c Config) defaultTTL(namespace string) time.Duration {
	if namespace == "llm_response_cache" && c.backend() == "redis" {
		return 12 * time.Hour
	}
	return 0
}

// misleadingTTL are the ends of names that the original's documentation gave
// and its code never read, and the ones that work.
var misleadingTTL = map[string]string{
	"LLM_CACHE": "LLM_RESPONSE_CACHE",
	"CHUNKS":    "TEXT_CHUNKS",
	"DOCS":      "FULL_DOCS",
}

// ttlKey is the form in which the environment can name a namespace.
func ttlKey(namespace string) string {
	return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(namespace))
}

// ttlFor returns the time to live of a namespace: that of its name, that of
// its name in the form of the environment, or the default.
func (c Config) ttlFor(namespace string) time.Duration {
	for _, key := range []string{namespace, ttlKey(namespace)} {
		if ttl, ok := c.TTL[key]; ok {
			return engine.RoundTTL(max(ttl, 0))
		}
	}
	return c.defaultTTL(namespace)
}

// ttlWarnings reports negative times in a Config that a program filled in.
func (c Config) ttlWarnings() (warnings []string) {
	for _, name := range slices.Sorted(maps.Keys(c.TTL)) {
		if c.TTL[name] < 0 {
			warnings = append(warnings, fmt.Sprintf("TTL of %s: %v is negative; using 0 (never expires)", name, c.TTL[name]))
		}
	}
	return warnings
}

// ttlsFromEnviron reads every STORAGE_TTL_<NAMESPACE> and REDIS_TTL_<NAMESPACE>.
func ttlsFromEnviron(vars map[string]string) (ttls map[string]time.Duration, warnings []string, problems []error) {
	ttls = make(map[string]time.Duration)
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(vars)) { // REDIS_ before STORAGE_.
		prefix := ttlPrefix
		if strings.HasPrefix(name, redisTTLPrefix) {
			prefix = redisTTLPrefix
		}
		suffix := strings.TrimPrefix(name, prefix)
		if engine.CheckNamespace(suffix) != nil || suffix != strings.ToUpper(ttlKey(suffix)) {
			warn("%s: not the name of a namespace, ignored; write it in upper case, with _ for - and .", name)
			continue
		}
		if right, ok := misleadingTTL[suffix]; ok {
			warn("%s: sets the namespace %q; did you mean %s?", name, ttlKey(suffix), prefix+right)
		}
		text := withoutComment(vars[name])
		if text == "" {
			continue
		}
		ttl, err := units.Duration(text)
		if err != nil {
			problems = append(problems, fault.Invalidf("%s: %v", name, err))
			continue
		}
		if ttl < 0 {
			warn("%s: %s is negative; using 0 (never expires)", name, text)
			ttl = 0
		}
		if before, ok := ttls[ttlKey(suffix)]; ok && before != ttl {
			warn("%s: %v, and %s%s says %v; the first counts", name, ttl, redisTTLPrefix, suffix, before)
		}
		ttls[ttlKey(suffix)] = ttl
	}
	if len(ttls) == 0 {
		ttls = nil
	}
	return ttls, warnings, problems
}

// withoutComment drops the " # comment" that docker's env files leave in a
// value, and the white space around it.
func withoutComment(text string) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "#") {
		return ""
	}
	if i := strings.Index(text, " #"); i >= 0 {
		text = text[:i]
	}
	if i := strings.Index(text, "\t#"); i >= 0 {
		text = text[:i]
	}
	return strings.TrimSpace(text)
}
