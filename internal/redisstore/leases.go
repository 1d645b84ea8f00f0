package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/lease"
)

// leasePrefix begins the names of keys and channels that have to do with
// leases. No document can have such a key: a namespace does not begin with a
// brace.
const leasePrefix = "kv-lease:"

// leases keep a lease in a key of its own, whose value is the token and
// whose time to live is the lease's. A script decides each question, so that
// nothing can come between reading and writing.
//
// The scripts are sent as text each time: the server compiles a text that it
// knows no second time, and a script that is gone, after a restart or on
// another node of a Cluster, needs no handling.
type leases struct {
	engine *Engine
	notes  *notifier
}

func newLeases(e *Engine) *leases {
	channel := leasePrefix + strings.TrimSuffix(e.prefix, ":")
	return &leases{engine: e, notes: newNotifier(e.way.client, channel)}
}

// Leases are those that all share who use the server.
func (e *Engine) Leases() lease.Leases { return newLeases(e) }

// leaseKey is a key in the Cluster slot of the document, whose script may then
// use both. A key has the slot of what stands between its first brace and the
// next closing one, if that is not empty, and else of the whole.
func leaseKey(key string) string {
	if _, ok := hashTag(key); !ok && !strings.Contains(key, "}") {
		return leasePrefix + "{" + key + "}"
	}
	return leasePrefix + "{" + tagOf(key) + "}:" + key
}

// tagOf returns a hash tag with the slot of a key.
func tagOf(key string) string {
	if tag, ok := hashTag(key); ok {
		return tag
	}
	// It cannot be quoted, so a number of the same slot stands for it.
	slot := keySlot(key)
	for i := 0; ; i++ {
		if tag := strconv.Itoa(i); keySlot(tag) == slot {
			return tag
		}
	}
}

// hashTag returns the part of a key that alone decides about its slot.
func hashTag(key string) (string, bool) {
	_, rest, ok := strings.Cut(key, "{")
	if !ok {
		return "", false
	}
	tag, _, ok := strings.Cut(rest, "}")
	return tag, ok && tag != ""
}

// keySlot returns the slot of a key without a hash tag: its CRC16 (XMODEM).
func keySlot(key string) uint16 {
	crc := uint16(0)
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}

// claimScript: KEYS document, lease; ARGV token, life in ms, digest of the
// document to be replaced or "". It may run twice: the token is then its own.
// The token "none" says that there is no such document.
const claimScript = `
local value = redis.call('GET', KEYS[1])
if value then
  if ARGV[3] == '' or redis.sha1hex(value) ~= ARGV[3] then return {2, value} end
elseif ARGV[3] ~= '' then
  return {2}
end
local holder = redis.call('GET', KEYS[2])
if holder == 'none' and ARGV[3] == '' then return {3} end
if holder and holder ~= 'none' and holder ~= ARGV[1] then return {1, redis.call('PTTL', KEYS[2])} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {0}`

// renewScript: KEYS lease; ARGV token, life in ms.
const renewScript = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0} end
return {redis.call('PEXPIRE', KEYS[1], ARGV[2])}`

// settleScript: KEYS document, lease; ARGV token, digest as above, channel,
// id, the document's life in ms or 0, that of the knowledge that there is
// none or 0, and the document, if there is one to store. It returns whether
// the lease was held, whether the document was stored, and the one that is
// there instead. A server that does not let us publish is no reason to fail.
const settleScript = `
local held = redis.call('GET', KEYS[2]) == ARGV[1]
local reply = {held and 1 or 0, 0}
if #ARGV == 7 then
  local value = redis.call('GET', KEYS[1])
  local seen = ''
  if value then seen = ARGV[2] == '' and '-' or redis.sha1hex(value) end
  if held and (not value or seen == ARGV[2]) then
    if ARGV[5] == '0' then
      redis.call('SET', KEYS[1], ARGV[7])
    else
      redis.call('SET', KEYS[1], ARGV[7], 'PX', ARGV[5])
    end
    reply[2] = 1
  elseif value then
    reply[3] = value
  end
end
if held then
  if ARGV[6] == '0' then
    redis.call('UNLINK', KEYS[2])
  else
    redis.call('SET', KEYS[2], 'none', 'PX', ARGV[6])
  end
  redis.pcall('PUBLISH', ARGV[3], ARGV[4])
end
return reply`

// eval makes a command of a script. The number of its keys is that of the
// script: the lease alone, or the document before it.
func (r *leases) eval(ctx context.Context, script string, id string, both bool, args ...any) *redis.SliceCmd {
	key := r.engine.key(id)
	all := append(make([]any, 0, 5+len(args)), "eval", script)
	if both {
		all = append(all, 2, key, leaseKey(key))
	} else {
		all = append(all, 1, leaseKey(key))
	}
	return redis.NewSliceCmd(ctx, append(all, args...)...)
}

// ms is a duration in the unit of PX, rounded up; only 0 is 0.
func ms(d time.Duration) int64 { return engine.RoundTTL(d).Milliseconds() }

func (r *leases) Claim(ctx context.Context, asked []lease.Lease, life time.Duration) ([]lease.Claim, error) {
	claims := make([]lease.Claim, 0, len(asked))
	for _, part := range chunks(asked, nil) {
		replies, err := pipeline(ctx, r.engine.way, repeatable, len(part), func(i int) *redis.SliceCmd {
			return r.eval(ctx, claimScript, part[i].ID, true, part[i].Token, ms(life), part[i].Seen)
		})
		if err != nil {
			return claims, err
		}
		for i, reply := range replies {
			if reply.err != nil {
				return claims, fault.WithID(part[i].ID, reply.err)
			}
			claims = append(claims, readClaim(reply.cmd.Val()))
		}
	}
	return claims, nil
}

func readClaim(reply []any) lease.Claim {
	code, _ := reply[0].(int64)
	switch code {
	case 0:
		return lease.Claim{State: lease.Granted}
	case 1:
		left, _ := reply[1].(int64)
		return lease.Claim{State: lease.Busy, Left: engine.Millis(left)}
	case 2:
		if len(reply) < 2 {
			return lease.Claim{State: lease.There}
		}
		value, err := storedValue(reply[1])
		return lease.Claim{State: lease.There, Value: value, Err: err}
	}
	return lease.Claim{State: lease.Barren}
}

// storedValue returns a document that is in a script's reply.
func storedValue(reply any) (json.RawMessage, error) {
	text, _ := reply.(string)
	cmd := redis.NewStringResult(text, nil)
	return stored(cmd)
}

func (r *leases) Renew(ctx context.Context, held []lease.Lease, life time.Duration) ([]bool, error) {
	still := make([]bool, 0, len(held))
	for _, part := range chunks(held, nil) {
		replies, err := pipeline(ctx, r.engine.way, repeatable, len(part), func(i int) *redis.SliceCmd {
			return r.eval(ctx, renewScript, part[i].ID, false, part[i].Token, ms(life))
		})
		if err != nil {
			return nil, err
		}
		for i, reply := range replies {
			if reply.err != nil {
				return nil, fault.WithID(part[i].ID, reply.err)
			}
			still = append(still, reply.cmd.Val()[0] == int64(1))
		}
	}
	return still, nil
}

func (r *leases) Settle(ctx context.Context, answers []lease.Answer) []lease.Settled {
	outcome := make([]lease.Settled, len(answers))
	for from, part := range chunks(answers, lease.Answer.Size) {
		replies, err := pipeline(ctx, r.engine.writes, r.engine.writes.unlessConfirmed(), len(part), func(i int) *redis.SliceCmd {
			a := part[i]
			args := []any{a.Token, a.Seen, r.notes.channel, a.ID, ms(a.TTL), ms(a.None)}
			if a.Value != nil {
				args = append(args, []byte(a.Value))
			}
			return r.eval(ctx, settleScript, a.ID, true, args...)
		})
		for i := range part {
			if err != nil {
				outcome[from+i].Err = err
				continue
			}
			outcome[from+i] = readSettled(replies[i], part[i])
			if r.engine.writes.confirm != nil && replies[i].err != nil && replies[i].fate >= lost {
				outcome[from+i].Err = unconfirmed(replies[i].err)
			}
		}
		for _, a := range part {
			r.engine.forget(a.ID)
		}
	}
	return outcome
}

func readSettled(r reply[*redis.SliceCmd], a lease.Answer) lease.Settled {
	if r.err != nil {
		return lease.Settled{Err: r.err}
	}
	reply := r.cmd.Val()
	s := lease.Settled{Lost: reply[0] == int64(0), Stored: reply[1] == int64(1)}
	if len(reply) > 2 {
		s.Value, s.Err = storedValue(reply[2])
	}
	if r.fate == lost {
		s = s.Doubt(a)
	}
	return s
}

// unconfirmed keeps an answer that may have been stored from being settled
// again, see unlessConfirmed: the error is not that of a backend that is away.
func unconfirmed(err error) error { return fault.Unknown(errors.New(err.Error())) }

func (r *leases) Watch(ids []string) (<-chan struct{}, func()) { return r.notes.watch(ids) }

func (r *leases) Close() { r.notes.close() }
