package kv

import (
	"cmp"
	"encoding/json"
	"math"
	"runtime"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ngraf/kv/internal/jsonscan"
)

// Limits of the contract. They are the same on every backend.
const (
	maxNamespaceBytes    = 64
	maxIDBytes           = 64 << 10
	maxDepth             = 512
	defaultMaxValueBytes = 64 << 20
	// Redis refuses strings over this size (proto-max-bulk-len).
	limitMaxValueBytes = 512 << 20
)

// checkNamespace accepts [A-Za-z0-9_][A-Za-z0-9_.-]{0,63}. Nothing in it has
// a meaning in a path, a Redis key or a SCAN pattern.
func checkNamespace(name string) error {
	if name == "" {
		return invalidf("the namespace is empty; use 1 to %d of A-Z a-z 0-9 _ . -", maxNamespaceBytes)
	}
	if len(name) > maxNamespaceBytes {
		return invalidf("the namespace has %d bytes; at most %d are allowed", len(name), maxNamespaceBytes)
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		case i > 0 && (c == '.' || c == '-'):
		default:
			return invalidf("the namespace has %q at byte %d; use A-Z a-z 0-9 _ and, not in front, . and -", c, i)
		}
	}
	return nil
}

func checkID(id string) error {
	if len(id) > maxIDBytes {
		return newWithID(id, invalidf("an id has %d bytes; at most %d are allowed", len(id), maxIDBytes))
	}
	if !utf8.ValidString(id) {
		return newWithID(id, invalidf("an id is not valid UTF-8"))
	}
	return nil
}

func checkIDs(ids []string) error {
	for _, id := range ids {
		if err := checkID(id); err != nil {
			return err
		}
	}
	return nil
}

// checkValue accepts what every reader of the files and keys can read.
func checkValue(id string, v json.RawMessage, maxBytes int64) error {
	if int64(len(v)) > maxBytes {
		return newWithID(id, invalidf("a value has %d bytes; STORAGE_MAX_VALUE_BYTES allows %d", len(v), maxBytes))
	}
	if err := jsonscan.Check(v, maxDepth); err != nil {
		return newWithID(id, notJSON(ErrInvalid, err))
	}
	return nil
}

// perCheck bounds what is checked by one processor at a time.
var perCheck = limits{256, 256 << 10}

// checkAll checks items, many of them on all processors, and returns how many
// bytes their values have.
func checkAll(items items, maxBytes int64) (written int64, err error) {
	var mu sync.Mutex
	eachPart(items.parts(perCheck), items.len(), runtime.GOMAXPROCS(0), func(_ int, part []item) {
		bytes, bad := checkEach(part, maxBytes)
		mu.Lock()
		defer mu.Unlock()
		written += bytes
		err = cmp.Or(err, bad)
	})
	return written, err
}

func checkEach(items []item, maxBytes int64) (written int64, err error) {
	for i, it := range items {
		if next := items[i+1:]; len(next) > 0 {
			jsonscan.Prefetch(next[0].value)
			jsonscan.Prefetch(next[min(1, len(next)-1)].id)
		}
		if err := checkID(it.id); err != nil {
			return 0, err
		}
		if err := checkValue(it.id, it.value, maxBytes); err != nil {
			return 0, err
		}
		written += int64(len(it.value))
	}
	return written, nil
}

// roundTTL rounds up to the millisecond, the unit of PX, so that a short time
// to live never becomes 0, which would mean for ever.
func roundTTL(ttl time.Duration) time.Duration {
	whole := ttl.Truncate(time.Millisecond)
	if whole < ttl && whole < math.MaxInt64-time.Millisecond {
		whole += time.Millisecond
	}
	return whole
}

// longestTTL stands for all times to live that a time.Duration cannot hold.
const longestTTL time.Duration = math.MaxInt64

// millis is ms milliseconds, or the longest time to live. Redis and our files
// know much longer ones.
func millis(ms int64) time.Duration {
	if ms > int64(longestTTL/time.Millisecond) {
		return longestTTL
	}
	return time.Duration(ms) * time.Millisecond
}
