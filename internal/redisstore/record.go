package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/fault"
)

// recordPrefix begins the names of the keys that say what files and Redis had
// in common. No document can have such a key: a namespace does not begin with
// a brace.
const recordPrefix = "kv-import:"

// A Record is what is remembered of a namespace beside its documents: a text,
// chunks that belong to it, and a lease for who changes it. They have one slot
// in a Cluster. What stands in them is the merge's.
type Record struct {
	way   *way
	Key   string
	lease string // its key
}

// Record returns the record of the namespace.
func (e *Engine) Record() *Record {
	key := recordPrefix + "{" + strings.TrimSuffix(e.prefix, ":") + "}"
	return &Record{way: e.way, Key: key, lease: leaseKey(key)}
}

// Read returns the text of the record. The error is ErrNotFound if there is
// none.
func (r *Record) Read(ctx context.Context) ([]byte, error) { return r.get(ctx, r.Key) }

// Chunk returns a chunk. The error is ErrNotFound if it is not there.
func (r *Record) Chunk(ctx context.Context, name string) ([]byte, error) {
	return r.get(ctx, r.chunk(name))
}

func (r *Record) chunk(name string) string {
	return recordPrefix + "{" + tagOf(r.Key) + "}:" + name
}

func (r *Record) get(ctx context.Context, key string) ([]byte, error) {
	cmd, _, err := run(ctx, r.way, repeatable, func() *redis.StringCmd {
		return redis.NewStringCmd(ctx, "get", key)
	})
	if err != nil {
		return nil, rightsOf(err)
	}
	text, err := cmd.Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, fault.ErrNotFound
	}
	return text, err
}

// Save stores a chunk that goes away by itself unless Swap keeps it.
func (r *Record) Save(ctx context.Context, name string, chunk []byte) error {
	const life = time.Hour
	_, _, err := run(ctx, r.way, repeatable, func() *redis.StatusCmd {
		return redis.NewStatusCmd(ctx, "set", r.chunk(name), chunk, "px", ms(life))
	})
	return rightsOf(err)
}

// claimRecord: KEYS lease; ARGV token, life in ms. It returns who else has
// the lease.
const claimRecord = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''`

// renewRecord: KEYS lease; ARGV token, life in ms.
const renewRecord = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1}`

// releaseRecord: KEYS lease; ARGV token.
const releaseRecord = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0} end
return {redis.call('UNLINK', KEYS[1])}`

// swapRecord: KEYS lease, record, chunks that are to stay, chunks that are to
// go; ARGV token, text, number of chunks that are to stay. It returns whether
// the lease was held and the chunks were there: they were written after all
// that they tell of, so a server that has them has that, too. It may run twice.
const swapRecord = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0} end
local last = 2 + tonumber(ARGV[3])
for i = 3, last do
  if redis.call('EXISTS', KEYS[i]) == 0 then return {0} end
end
for i = 3, last do redis.call('SET', KEYS[i], redis.call('GET', KEYS[i])) end
redis.call('SET', KEYS[2], ARGV[2])
for i = last + 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
return {1}`

// Claim takes the lease for the time life, or returns who has it.
func (r *Record) Claim(ctx context.Context, token string, life time.Duration) (holder string, err error) {
	cmd, _, err := run(ctx, r.way, repeatable, func() *redis.StringCmd {
		return redis.NewStringCmd(ctx, "eval", claimRecord, 1, r.lease, token, ms(life))
	})
	if err != nil {
		return "", rightsOf(err)
	}
	return cmd.Val(), nil
}

// Renew holds the lease for another life, and reports whether it was held.
func (r *Record) Renew(ctx context.Context, token string, life time.Duration) (held bool, err error) {
	return r.eval(ctx, renewRecord, []string{r.lease}, token, ms(life))
}

// Release gives the lease back. It is no matter if it is not held.
func (r *Record) Release(ctx context.Context, token string) error {
	_, err := r.eval(ctx, releaseRecord, []string{r.lease}, token)
	return err
}

// Swap replaces the text of the record, keeps the chunks fresh, and removes
// the chunks stale, in one step. It reports whether the lease was held, and the
// chunks were there: else nothing was changed.
func (r *Record) Swap(ctx context.Context, token string, text []byte, fresh, stale []string) (done bool, err error) {
	keys := []string{r.lease, r.Key}
	for _, names := range [][]string{fresh, stale} {
		for _, name := range names {
			keys = append(keys, r.chunk(name))
		}
	}
	return r.eval(ctx, swapRecord, keys, token, text, len(fresh))
}

// eval runs a script that answers yes or no.
func (r *Record) eval(ctx context.Context, script string, keys []string, args ...any) (bool, error) {
	all := []any{"eval", script, len(keys)}
	for _, key := range keys {
		all = append(all, key)
	}
	all = append(all, args...)
	cmd, _, err := run(ctx, r.way, repeatable, func() *redis.SliceCmd { return redis.NewSliceCmd(ctx, all...) })
	if err != nil {
		return false, rightsOf(err)
	}
	reply := cmd.Val()
	return len(reply) > 0 && reply[0] == int64(1), nil
}

// A RightsError says what to grant the user of Redis.
type RightsError struct{ cause error }

func (e *RightsError) Error() string {
	return fmt.Sprintf("the user of Redis needs ~%s* ~%s* +eval for it: %v", recordPrefix, leasePrefix, e.cause)
}

func (e *RightsError) Unwrap() error { return e.cause }

// rightsOf makes a RightsError of one that comes from missing rights.
func rightsOf(err error) error {
	server := redis.Error(nil)
	if !errors.As(err, &server) {
		return err
	}
	for _, said := range []string{"NOPERM", "ACL failure", "user executing the script"} {
		if strings.Contains(server.Error(), said) {
			return &RightsError{err}
		}
	}
	return err
}
