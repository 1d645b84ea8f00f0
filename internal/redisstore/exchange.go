package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
)

// exchangeScript: KEYS document; ARGV digest of the document to be replaced,
// its life in ms or 0, and the document, or nothing to remove it. It returns
// whether the document is now the new one. It may run twice.
const exchangeScript = `
local value = redis.call('GET', KEYS[1])
if not value then return #ARGV == 2 and 1 or 0 end
if redis.sha1hex(value) ~= ARGV[1] then return #ARGV == 3 and value == ARGV[3] and 1 or 0 end
if #ARGV == 2 then
  redis.call('UNLINK', KEYS[1])
elseif ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
end
return 1`

// Exchange makes changes to documents that are what was seen, by Digest,
// each in one atomic step. It reports for each whether it was made: else the
// document is another one meanwhile.
func (e *Engine) Exchange(ctx context.Context, changes []engine.Change, seen []string) ([]bool, error) {
	made := make([]bool, 0, len(changes))
	for from, part := range chunks(changes, func(c engine.Change) int { return c.Size() }) {
		items := make([]engine.Item, len(part))
		for i, c := range part {
			items[i] = c.Item
		}
		defer e.forgetItems(engine.List(items...))
		keys, by := e.keysOfItems(items), lend(ctx, items)
		p, err := pipeline(by, e.writes.carrying(items), repeatable, len(part), func(i int) *redis.IntCmd {
			args := []any{"eval", exchangeScript, 1, &keys[i], seen[from+i], ms(items[i].TTL)}
			if !part[i].Remove {
				args = append(args, &by.values[i])
			}
			return redis.NewIntCmd(by, args...)
		})
		if err != nil {
			return made, err
		}
		for _, r := range p {
			if r.err != nil {
				return made, rightsOf(r.err)
			}
			made = append(made, r.cmd.Val() == 1)
		}
	}
	return made, nil
}
