package redisstore

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
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

// leases keep a lease in a key of its own, whose time to live is the lease's.
// Its value is the token of who holds it, or one of the words failed and none
// if nobody does, and behind a space how many computations have failed in a
// row. A script decides each question, so that nothing can come between
// reading and writing; it decides for many documents at a time, except in a
// Cluster, where their keys may be on different servers.
type leases struct {
	engine        *Engine
	notes         *notifier
	claim, settle *script
}

func newLeases(e *Engine) *leases {
	channel := leasePrefix + strings.TrimSuffix(e.prefix, ":")
	return &leases{
		engine: e,
		notes:  newNotifier(e.way.client, channel),
		claim:  newScript(claimScript),
		settle: newScript(settleScript),
	}
}

// Leases are those that all share who use the server.
func (e *Engine) Leases() lease.Leases { return newLeases(e) }

// leaseKey is a key in the Cluster slot of the document, whose script may then
// use both. A key has the slot of what stands between its first brace and the
// next closing one, if that is not empty, and else of the whole.
func leaseKey(key string) string {
	if tag, ok := hashTag(key); ok {
		return leasePrefix + "{" + tag + "}:" + key
	}
	if !strings.Contains(key, "}") {
		return leasePrefix + "{" + key + "}"
	}
	// It cannot be quoted, so a number of the same slot stands for it.
	slot := keySlot(key)
	for i := 0; ; i++ {
		if tag := strconv.Itoa(i); keySlot(tag) == slot {
			return leasePrefix + "{" + tag + "}:" + key
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

// readLease is the beginning of both scripts.
const readLease = `
local function read(lease)
  local held = redis.call('GET', lease) or ''
  local holder, fails = string.match(held, '^(.*) (%d+)$')
  return holder or held, tonumber(fails or 0), held
end
`

// claimScript: KEYS document, lease, of each; ARGV life in ms, and of each the
// token, the digest of the document to be replaced or "", and Lease.Most. It
// may run twice: the token is then its own.
const claimScript = readLease + `
local function claim(doc, lease, token, seen, most)
  local value = redis.pcall('GET', doc)
  if type(value) == 'table' then return {-1, value.err} end
  if value and (seen == '' or redis.sha1hex(value) ~= seen) then return {4, value} end
  if not value and seen ~= '' then return {4} end
  local holder, fails, held = read(lease)
  if holder == 'none' and not value then return {5} end
  if holder ~= '' and holder ~= 'none' and holder ~= 'failed' and holder ~= token then
    if most > 0 and fails >= most then return {2} end
    return {3, held, redis.call('PTTL', lease), fails}
  end
  local set = redis.pcall('SET', lease, token .. ' ' .. fails, 'PX', ARGV[1])
  if set.err then return {-1, set.err} end
  return {1}
end
local replies = {}
for i = 1, #KEYS / 2 do
  replies[i] = claim(KEYS[2*i-1], KEYS[2*i], ARGV[3*i-1], ARGV[3*i], tonumber(ARGV[3*i+1]))
end
return replies`

// settleScript: KEYS as above; ARGV channel, length of the prefix of ids, and
// of each the token, the digest as above, whether it may have been settled
// before, the document or "" if there is none to store, its life in ms or 0,
// what becomes of the lease, and for how many ms. It returns whether the lease
// was held, whether the document was stored, and the one that is there
// instead; or an error, and then the lease is what it was. A server that does
// not let us publish is no reason to fail.
const settleScript = readLease + `
local function settle(doc, lease, token, seen, unsure, new, ttl, after, life)
  local holder, fails = read(lease)
  local mine = holder == token
  local stored, other = 0, nil
  if new ~= '' then
    local value = redis.pcall('GET', doc)
    if type(value) == 'table' then return {-1, value.err} end
    if (value and seen ~= '' and redis.sha1hex(value) == seen or not value and seen == '') and (mine or unsure == '0') then
      local set
      if ttl == '0' then set = redis.pcall('SET', doc, new) else set = redis.pcall('SET', doc, new, 'PX', ttl) end
      if set.err then return {-1, set.err} end
      stored = 1
    elseif value then
      other = value
    end
  end
  if mine then
    if after == 'held' then redis.call('PEXPIRE', lease, life)
    elseif after == 'failed' then redis.call('SET', lease, 'failed ' .. fails + 1, 'PX', life)
    elseif after == 'none' then redis.call('SET', lease, 'none 0', 'PX', life)
    else redis.call('UNLINK', lease) end
  end
  return {mine and 1 or 0, stored, other}, stored == 1 or mine and after ~= 'held'
end
local replies, news = {}, {}
for i = 1, #KEYS / 2 do
  local over
  replies[i], over = settle(KEYS[2*i-1], KEYS[2*i], unpack(ARGV, 7*i-4, 7*i+2))
  if over then news[#news+1] = string.sub(KEYS[2*i-1], ARGV[2] + 1) end
end
if #news > 0 then redis.pcall('PUBLISH', ARGV[1], cjson.encode(news)) end
return replies`

// ms is a duration in the unit of PX, rounded up; only 0 is 0.
func ms(d time.Duration) int64 { return engine.RoundTTL(d).Milliseconds() }

// digest tells documents apart as the scripts do.
func digest(value json.RawMessage) string {
	if value == nil {
		return ""
	}
	sum := sha1.Sum(value)
	return hex.EncodeToString(sum[:])
}

func (r *leases) Claim(ctx context.Context, asked []lease.Lease, life time.Duration) []lease.Claim {
	claims := make([]lease.Claim, 0, len(asked))
	for _, part := range chunks(asked, nil) {
		for _, s := range r.ask(ctx, r.engine.way, repeatable, r.claim, []any{ms(life)}, len(part), func(i int) (string, []any) {
			a := part[i]
			return a.ID, []any{a.Token, digest(a.Seen), a.Most}
		}) {
			claims = append(claims, readClaim(s))
		}
	}
	return claims
}

func readClaim(s said) lease.Claim {
	c := lease.Claim{State: lease.State(s.number(0)), Err: s.err}
	switch c.State {
	case lease.Busy:
		c.Holder, c.Left, c.Fails = s.text(1), engine.Millis(s.number(2)), int(s.number(3))
	case lease.There:
		if c.Value, c.Err = s.value(1); c.Err != nil {
			c.State = lease.Failed
		}
	}
	return c
}

// Settle sends an answer again only if it was not executed: what is known of
// the first attempt is for the caller to say.
func (r *leases) Settle(ctx context.Context, answers []lease.Answer) []lease.Settled {
	outcome := make([]lease.Settled, 0, len(answers))
	for _, part := range chunks(answers, lease.Answer.Size) {
		w := r.engine.way
		if slices.ContainsFunc(part, func(a lease.Answer) bool { return a.Value != nil }) {
			w = r.engine.writes
		}
		head := []any{r.notes.channel, len(r.engine.prefix)}
		for i, s := range r.ask(ctx, w, once, r.settle, head, len(part), func(i int) (string, []any) {
			a := part[i]
			return a.ID, []any{a.Token, digest(a.Seen), a.Unsure, []byte(a.Value), ms(a.TTL), string(a.Then), ms(a.For)}
		}) {
			outcome = append(outcome, readSettled(s, part[i], w.confirm != nil))
			if part[i].Value != nil {
				r.engine.forget(part[i].ID)
			}
		}
	}
	return outcome
}

// readSettled is told whether replicas were to confirm. What is unknown then
// is not settled again, see unlessConfirmed: the error is not that of a backend
// that is away.
func readSettled(s said, a lease.Answer, confirmed bool) lease.Settled {
	if s.err != nil && confirmed && s.fate >= lost {
		return lease.Settled{Err: fault.Unknown(errors.New(s.err.Error()))}
	}
	if s.err != nil {
		return lease.Settled{Err: s.err, Unsure: a.Unsure || s.fate >= lost}
	}
	settled := lease.Settled{Lost: s.number(0) == 0, Stored: s.number(1) == 1}
	settled.Value, settled.Err = s.value(2)
	if a.Unsure {
		settled = settled.Doubt(a)
	}
	return settled
}

// Look reads documents and leases together.
func (r *leases) Look(ctx context.Context, waiting []lease.Lease) ([]bool, error) {
	changed := make([]bool, 0, len(waiting))
	for _, part := range chunks(waiting, nil) {
		size := len(part)
		if r.engine.way.cluster() != nil {
			size = 1
		}
		groups := slices.Collect(slices.Chunk(part, size))
		replies, err := pipeline(ctx, r.engine.way, repeatable, len(groups), func(i int) *redis.SliceCmd {
			args := make([]any, 1, 1+2*size)
			args[0] = "mget"
			for _, l := range groups[i] {
				key := r.engine.key(l.ID)
				args = append(args, key, leaseKey(key))
			}
			return redis.NewSliceCmd(ctx, args...)
		})
		if err != nil {
			return nil, err
		}
		for g, reply := range replies {
			if reply.err != nil {
				return nil, reply.err
			}
			for i, l := range groups[g] {
				value, holder := reply.cmd.Val()[2*i], reply.cmd.Val()[2*i+1]
				changed = append(changed, value != nil || holder != l.Holder)
			}
		}
	}
	return changed, nil
}

func (r *leases) Watch(ids []string) lease.Watch { return r.notes.watch(ids) }

func (r *leases) Close() { r.notes.close() }
