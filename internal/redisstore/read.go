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
	cmd, _, err := share(ctx, e.way, repeatable, func() *valuesCmd { return newGet(ctx, e.key(id)) })
	if err != nil {
		return nil, err
	}
	return cmd.stored()
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

// A manyRead is one call that reads many documents. The pieces that it asks for
// follow the link: a reply that breaks off is worth the documents that it had,
// and the next piece is smaller.
type manyRead struct {
	engine *Engine
	ask    func(ctx context.Context, ids []string, values []json.RawMessage) answer
	link   sync.RWMutex // a document that could not be had beside others is asked for alone

	mu              sync.Mutex
	failed, corrupt error
}

// An answer is what came of asking for documents.
type answer struct {
	came    int   // so many, from the first on
	corrupt error // which of them are no JSON
	fate    fate  // of the others
	err     error
}

// ReadMany returns documents, nil for those that are not there.
func (e *Engine) ReadMany(ctx context.Context, ids []string) ([]json.RawMessage, error) {
	values := make([]json.RawMessage, len(ids))
	r := &manyRead{engine: e, ask: e.getTogether}
	if e.way.cluster() != nil {
		r.ask = func(ctx context.Context, ids []string, values []json.RawMessage) answer {
			return e.getEach(ctx, once, ids, values)
		}
	}
	engine.EachPart(chunks(ids, nil), len(ids), inFlight, func(from int, part []string) {
		r.read(ctx, part, values[from:from+len(part)])
	})
	if r.failed != nil {
		return nil, r.failed
	}
	return values, r.corrupt
}

// read reads a part, in pieces. As long as documents come, it goes on.
func (r *manyRead) read(ctx context.Context, ids []string, values []json.RawMessage) {
	e, failures := r.engine, 0
	for len(ids) > 0 && !r.stopped() {
		n := min(e.pace.next(), len(ids))
		a := r.piece(ctx, n == 1 && failures > 0, ids[:n], values[:n])
		e.pace.came(n, values[:a.came])
		ids, values = ids[a.came:], values[a.came:]
		if a.came > 0 {
			failures = 0
		}
		if a.err != nil {
			failures++
			if e.way.onceMore(ctx, []fate{lost}, failures, a.fate, &a.err) {
				a.err = nil
			}
		}
		r.note(a)
	}
}

// piece asks for documents once.
func (r *manyRead) piece(ctx context.Context, alone bool, ids []string, values []json.RawMessage) answer {
	if alone {
		r.link.Lock()
		defer r.link.Unlock()
	} else {
		r.link.RLock()
		defer r.link.RUnlock()
	}
	return r.ask(ctx, ids, values)
}

func (r *manyRead) stopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed != nil
}

func (r *manyRead) note(a answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = a.err
	}
	r.corrupt = errors.Join(r.corrupt, a.corrupt)
}

// getTogether reads values with one MGET. It answers nil for a key that holds
// another type, too, so those without an answer are counted afterwards.
func (e *Engine) getTogether(ctx context.Context, ids []string, values []json.RawMessage) answer {
	args := command("mget", e.keysOf(ids))
	cmd, f, err := run(ctx, e.way, once, func() *valuesCmd {
		cmd := newValuesCmd(ctx, values, args...)
		cmd.reply.check = true
		return cmd
	})
	a := answer{came: len(ids), fate: f, err: err}
	if err != nil {
		a.came = 0
		if ctx.Err() == nil && brokeOff(err) { // Else the command may still be running.
			a.came = cmd.reply.seen
		}
	}
	if a.came == 0 {
		return a
	}
	for _, bad := range cmd.reply.corrupt {
		a.corrupt = errors.Join(a.corrupt, fault.WithID(ids[bad.at], bad.err))
	}
	var none []int
	for i, value := range values[:a.came] {
		if value == nil && (a.corrupt == nil || cmd.reply.corruption(i) == nil) {
			none = append(none, i)
		}
	}
	if len(none) == 0 {
		return a
	}
	corrupt, err := e.getNone(ctx, ids, values, none)
	if err != nil {
		return answer{fate: refused, err: err} // It has been repeated as often as is worth while.
	}
	a.corrupt = errors.Join(a.corrupt, corrupt)
	return a
}

// getNone looks again for those for which MGET had no value.
func (e *Engine) getNone(ctx context.Context, ids []string, values []json.RawMessage, none []int) (corrupt, err error) {
	absent := make([]string, len(none))
	for i, at := range none {
		absent[i] = ids[at]
	}
	args := command("exists", e.keysOf(absent))
	there, _, err := run(ctx, e.way, repeatable, func() *redis.IntCmd { return redis.NewIntCmd(ctx, args...) })
	if err != nil || there.Val() == 0 {
		return nil, err
	}
	found := make([]json.RawMessage, len(absent))
	a := e.getEach(ctx, repeatable, absent, found)
	for i, at := range none {
		values[at] = found[i]
	}
	return a.corrupt, a.err
}

// getEach reads values with a GET for each.
func (e *Engine) getEach(ctx context.Context, again []fate, ids []string, values []json.RawMessage) answer {
	keys := e.keysOf(ids)
	p, err := pipeline(ctx, e.way, again, len(ids), func(i int) *valuesCmd {
		return newValuesCmd(ctx, values[i:i+1], "get", &keys[i])
	})
	if err != nil {
		return answer{fate: lost, err: err}
	}
	a := answer{came: len(ids)}
	for i, r := range p {
		err := r.err
		if err == nil {
			_, err = r.cmd.stored()
		}
		switch {
		case err == nil, errors.Is(err, fault.ErrNotFound):
		case errors.Is(err, fault.ErrCorrupt):
			values[i] = nil
			a.corrupt = errors.Join(a.corrupt, fault.WithID(ids[i], err))
		default:
			a.came, a.fate, a.err = i, r.fate, err
			return a
		}
	}
	return a
}
