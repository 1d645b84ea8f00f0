package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonscan"
)

// read returns a document. Single reads of many callers share round trips.
func (e *Engine) read(ctx context.Context, id string) (json.RawMessage, error) {
	if e.way.combiner == nil {
		return e.readAlone(ctx, id)
	}
	// retry would do the same. But this is where hundreds of callers wait, and
	// the collector looks through the stacks of all of them.
	for attempt := 1; ; attempt++ {
		r, f, err := e.readTogether(ctx, id)
		switch {
		case err == nil && !r.sure:
			return e.readAlone(ctx, id)
		case err == nil && r.value == nil:
			return nil, fault.ErrNotFound
		case err == nil:
			return r.value, checkStored(r.value)
		case !e.way.onceMore(ctx, repeatable, attempt, f, &err):
			return nil, err
		}
	}
}

func (e *Engine) readTogether(ctx context.Context, id string) (readResult, fate, error) {
	turn, err := e.way.circuit.enter()
	if err != nil {
		return readResult{}, refused, err
	}
	r, err := e.way.combiner.read(ctx, e.prefix, id)
	f, err := e.way.attempted(ctx, turn, err)
	return r, f, err
}

// readAlone reads a document with a GET of its own.
func (e *Engine) readAlone(ctx context.Context, id string) (json.RawMessage, error) {
	cmd, _, err := share(ctx, e.way, repeatable, func() *redis.StringCmd {
		return redis.NewStringCmd(ctx, "get", e.key(id))
	})
	if err != nil {
		return nil, err
	}
	return stored(cmd)
}

// stored returns what a GET was answered with. The bytes are those of a
// string that nothing but the reply refers to, so the caller may have them.
func stored(cmd *redis.StringCmd) (json.RawMessage, error) {
	value, err := cmd.Bytes()
	if err != nil { // redis.Nil; run and pipeline have dealt with the others.
		return nil, fault.ErrNotFound
	}
	return value, checkStored(value)
}

// checkStored refuses what another program has put under our prefix.
func checkStored(value []byte) error {
	if err := jsonscan.Check(value, engine.MaxDepth); err != nil {
		return fault.NotJSON(fault.ErrCorrupt, err)
	}
	return nil
}

func (e *Engine) ReadMany(ctx context.Context, ids []string) ([]json.RawMessage, error) {
	values := make([]json.RawMessage, len(ids))
	get := e.getEach
	if e.way.cluster() == nil {
		get = e.getTogether
	}
	var mu sync.Mutex
	var failed, corrupt error
	engine.EachPart(chunks(ids, nil), len(ids), inFlight, func(from int, part []string) {
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop {
			return
		}
		bad, err := get(ctx, part, values[from:from+len(part)])
		mu.Lock()
		defer mu.Unlock()
		if failed == nil {
			failed = err
		}
		corrupt = errors.Join(corrupt, bad)
	})
	if failed != nil {
		return nil, failed
	}
	return values, corrupt
}

// getTogether reads values with one MGET. It answers nil for a key that holds
// another type, too, so those without an answer are counted afterwards.
func (e *Engine) getTogether(ctx context.Context, ids []string, values []json.RawMessage) (corrupt, err error) {
	args := command("mget", e.keysOf(ids))
	cmd, _, err := run(ctx, e.way, repeatable, func() *valuesCmd {
		cmd := newValuesCmd(ctx, values, args...)
		cmd.reply.check = true
		return cmd
	})
	if err != nil {
		return nil, err
	}
	for _, bad := range cmd.reply.corrupt {
		corrupt = errors.Join(corrupt, fault.WithID(ids[bad.at], bad.err))
	}
	var none []int
	for i, value := range values {
		if value == nil && (corrupt == nil || cmd.reply.corruption(i) == nil) {
			none = append(none, i)
		}
	}
	if len(none) == 0 {
		return corrupt, nil
	}
	absent := make([]string, len(none))
	for i, at := range none {
		absent[i] = ids[at]
	}
	args = command("exists", e.keysOf(absent))
	there, _, err := run(ctx, e.way, repeatable, func() *redis.IntCmd { return redis.NewIntCmd(ctx, args...) })
	if err != nil || there.Val() == 0 {
		return corrupt, err
	}
	found := make([]json.RawMessage, len(absent))
	bad, err := e.getEach(ctx, absent, found)
	for i, at := range none {
		values[at] = found[i]
	}
	return errors.Join(corrupt, bad), err
}

// getEach reads values with a GET for each.
func (e *Engine) getEach(ctx context.Context, ids []string, values []json.RawMessage) (corrupt, err error) {
	keys := e.keysOf(ids)
	p, err := pipeline(ctx, e.way, repeatable, len(ids), func(i int) *redis.StringCmd {
		return redis.NewStringCmd(ctx, "get", &keys[i])
	})
	if err != nil {
		return nil, err
	}
	for i, r := range p {
		value, err := json.RawMessage(nil), r.err
		if err == nil {
			value, err = stored(r.cmd)
		}
		switch {
		case errors.Is(err, fault.ErrCorrupt):
			corrupt = errors.Join(corrupt, fault.WithID(ids[i], err))
		case errors.Is(err, fault.ErrNotFound):
		case err != nil:
			return nil, err
		default:
			values[i] = value
		}
	}
	return corrupt, nil
}
