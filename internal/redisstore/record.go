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

// importPrefix begins the names of the keys that say what was imported. No
// document can have such a key: a namespace does not begin with a brace.
const importPrefix = "kv-import:"

// A Record says what was imported into a namespace, and has a lease
// for who imports. What stands in it is the importer's.
type Record struct {
	way   *way
	Key   string
	lease string // its key
}

func (e *Engine) Record() *Record {
	key := importPrefix + "{" + strings.TrimSuffix(e.prefix, ":") + "}"
	return &Record{way: e.way, Key: key, lease: leaseKey(key)}
}

// Read returns the text of the record. The error is ErrNotFound if nothing was
// ever imported.
func (r *Record) Read(ctx context.Context) ([]byte, error) {
	cmd, _, err := run(ctx, r.way, repeatable, func() *redis.StringCmd {
		return redis.NewStringCmd(ctx, "get", r.Key)
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

// importClaim: KEYS lease; ARGV token, life in ms. It returns who else has
// the lease.
const importClaim = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''`

// importHold: KEYS lease, record; ARGV token, life in ms or 0 to give the
// lease back, and the record or nothing. It returns 0 if the lease is not held. It
// may run twice.
const importHold = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3]) end
if ARGV[2] == '0' then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1`

// Claim takes the lease for the time life, or returns who has it.
func (r *Record) Claim(ctx context.Context, token string, life time.Duration) (holder string, err error) {
	cmd, _, err := run(ctx, r.way, repeatable, func() *redis.StringCmd {
		return redis.NewStringCmd(ctx, "eval", importClaim, 1, r.lease, token, ms(life))
	})
	if err != nil {
		return "", rightsOf(err)
	}
	return cmd.Val(), nil
}

// Hold renews the lease for the time life, or gives it back if that is 0. It
// writes the text in the same step, unless that is nil. It reports whether the
// lease was held: else nothing was written, or it was by a first attempt whose
// reply was lost.
func (r *Record) Hold(ctx context.Context, token string, life time.Duration, text []byte) (held bool, err error) {
	cmd, _, err := run(ctx, r.way, repeatable, func() *redis.IntCmd {
		return redis.NewIntCmd(ctx, "eval", importHold, 2, r.lease, r.Key, token, ms(life), text)
	})
	if err != nil {
		return false, rightsOf(err)
	}
	return cmd.Val() == 1, nil
}

// A RightsError says what to grant the user of Redis.
type RightsError struct{ cause error }

func (e *RightsError) Error() string {
	return fmt.Sprintf("the user of Redis needs ~%s* ~%s* +eval for it: %v", importPrefix, leasePrefix, e.cause)
}

func (e *RightsError) Unwrap() error { return e.cause }

// rightsOf makes a RightsError of one that comes from missing rights.
func rightsOf(err error) error {
	server := redis.Error(nil)
	if !errors.As(err, &server) || !strings.Contains(server.Error(), "NOPERM") && !strings.Contains(server.Error(), "ACL failure") {
		return err
	}
	return &RightsError{err}
}
