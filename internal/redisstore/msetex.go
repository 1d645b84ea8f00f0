package redisstore

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

// setTogetherFor stores items of the same time to live with one MSETEX, which came with Redis 8.4 and
// Valkey 9.1. A server that does not know it, or does not let us, is found out
// by trying, which needs no command to ask with: it executes nothing then, and
// is sent a SET for each from now on.
func (e *Engine) setTogetherFor(ctx context.Context, b *batch, items []engine.Item) {
	if !e.knowsMSETEX(ctx) {
		e.plain.Store(true)
		e.setEach(ctx, b, items)
		return
	}
	args := make([]any, 2, 4+2*len(items))
	args[0], args[1] = "msetex", len(items)
	keys, by := e.keysOfItems(items), lend(ctx, items)
	for i := range items {
		args = append(args, &keys[i], &by.values[i])
	}
	args = append(args, "px", items[0].TTL.Milliseconds())
	cmd, f, err := run(by, e.writes.carrying(items), repeatable, func() *redis.IntCmd { return redis.NewIntCmd(by, args...) })
	notOurs := declined(f, err) && !errors.Is(err, fault.ErrUnavailable) // OOM and the like would meet SET, too.
	if notOurs || err == nil && cmd.Val() != 1 {
		e.plain.Store(true)
		e.setEach(ctx, b, items)
		return
	}
	b.note(items, f, err)
}

// knowsMSETEX sends the bare name once. A server repeats the arguments of a
// command that it does not know in its error, and that is what a client with
// instrumentation of its own shows: ids and values.
func (e *Engine) knowsMSETEX(ctx context.Context) bool {
	if e.asked.Load() {
		return true
	}
	_, f, err := run(ctx, e.way, never, func() *redis.IntCmd { return redis.NewIntCmd(ctx, "msetex") })
	if err == nil || !declined(f, err) {
		return true // The batch will meet what this has met.
	}
	if strings.Contains(err.Error(), "unknown command") {
		return false
	}
	e.asked.Store(true)
	return true
}
