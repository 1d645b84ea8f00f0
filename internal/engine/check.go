package engine

import (
	"cmp"
	"encoding/json"
	"math"
	"runtime"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonscan"
)

// Limits of the contract. They are the same on every backend.
const (
	maxNamespaceBytes    = 64
	MaxIDBytes           = 64 << 10
	MaxDepth             = 512
	DefaultMaxValueBytes = 64 << 20
	// Redis refuses strings over this size (proto-max-bulk-len).
	LimitMaxValueBytes = 512 << 20
)

// CheckNamespace accepts [A-Za-z0-9_][A-Za-z0-9_.-]{0,63}. Nothing in it has
// a meaning in a path, a Redis key or a SCAN pattern.
func CheckNamespace(name string) error {
	if name == "" {
		return fault.Invalidf("the namespace is empty; use 1 to %d of A-Z a-z 0-9 _ . -", maxNamespaceBytes)
	}
	if len(name) > maxNamespaceBytes {
		return fault.Invalidf("the namespace has %d bytes; at most %d are allowed", len(name), maxNamespaceBytes)
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		case i > 0 && (c == '.' || c == '-'):
		default:
			return fault.Invalidf("the namespace has %q at byte %d; use A-Z a-z 0-9 _ and, not in front, . and -", c, i)
		}
	}
	return nil
}

// CheckID accepts what every backend can have as a key.
func CheckID(id string) error {
	if len(id) > MaxIDBytes {
		return fault.WithID(id, fault.Invalidf("an id has %d bytes; at most %d are allowed", len(id), MaxIDBytes))
	}
	if !utf8.ValidString(id) {
		return fault.WithID(id, fault.Invalidf("an id is not valid UTF-8"))
	}
	return nil
}

// CheckValue accepts what every reader of the files and keys can read. White
// space between tokens does not count, up to what Redis takes: a document file
// is laid out, and what was read from it can be written again.
func CheckValue(id string, v json.RawMessage, maxBytes int64) error {
	size := int64(len(v))
	if maxBytes < size && size <= LimitMaxValueBytes {
		size = jsonscan.CompactSize(v)
	}
	if size > maxBytes {
		return fault.WithID(id, fault.Invalidf("a value has %d bytes; STORAGE_MAX_VALUE_BYTES allows %d", size, maxBytes))
	}
	if err := jsonscan.Check(v, MaxDepth); err != nil {
		return fault.WithID(id, fault.NotJSON(fault.ErrInvalid, err))
	}
	return nil
}

// perCheck bounds what is checked by one processor at a time.
var perCheck = Limits{256, 256 << 10}

// CheckAll checks items, many of them on all processors, and returns how many
// bytes their values have.
func CheckAll(items Items, maxBytes int64) (written int64, err error) {
	var mu sync.Mutex
	EachPart(items.Parts(perCheck), items.Len(), runtime.GOMAXPROCS(0), func(_ int, part []Item) {
		bytes, bad := checkEach(part, maxBytes)
		mu.Lock()
		defer mu.Unlock()
		written += bytes
		err = cmp.Or(err, bad)
	})
	return written, err
}

func checkEach(items []Item, maxBytes int64) (written int64, err error) {
	for i, it := range items {
		if next := items[i+1:]; len(next) > 0 {
			jsonscan.Prefetch(next[0].Value)
			jsonscan.Prefetch(next[min(1, len(next)-1)].ID)
		}
		if err := CheckID(it.ID); err != nil {
			return 0, err
		}
		if err := CheckValue(it.ID, it.Value, maxBytes); err != nil {
			return 0, err
		}
		written += int64(len(it.Value))
	}
	return written, nil
}

// RoundTTL rounds up to the millisecond, the unit of PX, so that a short time
// to live never becomes 0, which would mean for ever.
func RoundTTL(ttl time.Duration) time.Duration {
	whole := ttl.Truncate(time.Millisecond)
	if whole < ttl && whole < math.MaxInt64-time.Millisecond {
		whole += time.Millisecond
	}
	return whole
}

// LongestTTL stands for all times to live that a time.Duration cannot hold.
const LongestTTL time.Duration = math.MaxInt64

// Millis returns ms milliseconds, or the longest time to live. Redis and our files
// know much longer ones.
func Millis(ms int64) time.Duration {
	if ms > int64(LongestTTL/time.Millisecond) {
		return LongestTTL
	}
	return time.Duration(ms) * time.Millisecond
}
