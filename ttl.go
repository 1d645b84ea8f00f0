package kv

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

const ttlPrefix = "REDIS_TTL_"

// The time to live of namespaces that Config.TTL does not name: that of the
// Python original. Every other namespace keeps its documents for ever.
func defaultTTL(namespace string) time.Duration {
	switch namespace {
	case "llm_response_cache":
		return 12 * time.Hour
	case "community_reports":
		return 24 * time.Hour
	}
	return 0
}

// misleadingTTL are names that the original's documentation gave and its code
// never read, and the ones that work.
var misleadingTTL = map[string]string{
	"REDIS_TTL_LLM_CACHE": "REDIS_TTL_LLM_RESPONSE_CACHE",
	"REDIS_TTL_CHUNKS":    "REDIS_TTL_TEXT_CHUNKS",
	"REDIS_TTL_DOCS":      "REDIS_TTL_FULL_DOCS",
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
	return defaultTTL(namespace)
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

// ttlsFromEnviron reads every REDIS_TTL_<NAMESPACE>.
func ttlsFromEnviron(vars map[string]string) (ttls map[string]time.Duration, warnings []string, problems []error) {
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		suffix := strings.TrimPrefix(name, ttlPrefix)
		if engine.CheckNamespace(suffix) != nil || suffix != strings.ToUpper(ttlKey(suffix)) {
			warnings = append(warnings, fmt.Sprintf(
				"%s: not the name of a namespace, ignored; write it in upper case, with _ for - and .", name))
			continue
		}
		if right, ok := misleadingTTL[name]; ok {
			warnings = append(warnings, fmt.Sprintf("%s: sets the namespace %q; did you mean %s?", name, ttlKey(suffix), right))
		}
		text := withoutComment(vars[name])
		if text == "" {
			continue
		}
		ttl, err := parseSeconds(text)
		if err != nil {
			problems = append(problems, fault.Invalidf("%s: %v", name, err))
			continue
		}
		if ttl < 0 {
			warnings = append(warnings, fmt.Sprintf("%s: %s is negative; using 0 (never expires)", name, text))
			ttl = 0
		}
		if ttls == nil {
			ttls = make(map[string]time.Duration)
		}
		ttls[ttlKey(suffix)] = ttl
	}
	return ttls, warnings, problems
}

// parseSeconds reads a number of seconds or a Go duration.
func parseSeconds(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(seconds) || math.IsInf(seconds, 0) {
		return 0, fmt.Errorf("%q is neither a number of seconds nor a duration such as 90s, 15m or 12h", text)
	}
	if math.Abs(seconds) > math.MaxInt64/float64(time.Second)/2 {
		return 0, fmt.Errorf("%q seconds is out of range", text)
	}
	return time.Duration(math.Round(seconds * float64(time.Second))), nil
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
