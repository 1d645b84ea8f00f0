package redisstore

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/fault"
)

// When a command may be sent again.
var (
	repeatable = []fate{passing, lost} // a read, or a write that may run twice
	once       = []fate{passing}       // a write whose answer depends on running first
	never      = []fate{}
)

// run sends one command and, by the rule again, repeats it. The command is
// made anew for each attempt. Its error is translated, and comes with the fate
// of the command over all attempts; redis.Nil is none, and is left in the
// command.
func run[C redis.Cmder](ctx context.Context, w *way, again []fate, build func() C) (C, fate, error) {
	var last C
	worst := refused
	err := w.await(ctx, func(by *caller) (err error) {
		last, err = retry(ctx, w, again, func() (C, fate, error) {
			cmd := build()
			f, err := w.attempt(ctx, func() error { return w.do(ctx, single{cmd, by}) })
			worst = max(worst, f) // Once lost, it may have been executed.
			return cmd, f, err
		})
		return err
	})
	if err != nil && ctx.Err() != nil { // The call may still be running, and last its own.
		var none C
		return none, lost, err
	}
	return last, worst, err
}

// share is run for a small command, which travels together with those of other
// callers where the client can do that. A caller that gives up leaves a
// command behind that ends with its fellows.
func share[C redis.Cmder](ctx context.Context, w *way, again []fate, build func() C) (C, fate, error) {
	if w.together == nil {
		return run(ctx, w, again, build)
	}
	worst := refused
	cmd, err := retry(ctx, w, again, func() (C, fate, error) {
		cmd := build()
		f, err := w.attempt(ctx, func() error { return w.together(ctx, cmd) })
		worst = max(worst, f)
		return cmd, f, err
	})
	return cmd, worst, err
}

// attempt sends one command, unless the circuit is open.
func (w *way) attempt(ctx context.Context, send func() error) (fate, error) {
	turn, err := w.circuit.enter()
	if err != nil {
		return refused, err
	}
	return w.attempted(ctx, turn, send())
}

// attempted says what came of an attempt.
func (w *way) attempted(ctx context.Context, turn pass, err error) (fate, error) {
	f, err := w.classify(ctx, notNil(err))
	if w.circuit != nil {
		w.circuit.leave(turn, judge(ctx, f, err), err)
	}
	w.refresh(ctx, f)
	return f, err
}

// notNil drops redis.Nil, which says that there is no such key. Within another
// error it is the answer of a Sentinel that does not know the master, and the
// command was not sent.
func notNil(err error) error {
	if err == redis.Nil { //nolint:errorlint // See above.
		return nil
	}
	return err
}

// A reply is what came of one command of a pipeline.
type reply[C redis.Cmder] struct {
	cmd  C
	fate fate // of the failed command, over all its attempts
	err  error
}

// pipeline sends n commands together and, by the rule again, repeats those
// that failed. The error of each is its own: of a pipeline that met a demoted
// master or a dead node, some commands were executed and some were not. The
// error that pipeline returns is that of a call that was cut short, of whose
// commands nothing is known.
func pipeline[C redis.Cmder](ctx context.Context, w *way, again []fate, n int, build func(i int) C) ([]reply[C], error) {
	replies := make([]reply[C], n)
	if r := &replies[0]; n == 1 {
		r.cmd, r.fate, r.err = share(ctx, w, again, func() C { return build(0) })
		if r.err != nil && fault.ContextError(ctx) != nil {
			return nil, r.err
		}
		return replies, nil
	}
	todo := make([]int, n)
	for i := range todo {
		todo[i] = i
	}
	finished := make(chan struct{})
	err := w.await(ctx, func(by *caller) error {
		defer close(finished)
		_, err := retry(ctx, w, again, func() (struct{}, fate, error) {
			turn, err := w.circuit.enter()
			if err != nil {
				for _, i := range todo {
					replies[i].err = err
				}
				return struct{}{}, refused, err
			}
			pipe := w.pipe()
			cmds := make([]single, len(todo))
			for at, i := range todo {
				replies[i].cmd = build(i)
				cmds[at] = single{replies[i].cmd, by}
				_ = pipe.Process(ctx, &cmds[at]) // Only queues it.
			}
			sendAll(ctx, pipe)
			first := &replies[todo[0]]
			failed, f, v, err := settle(ctx, w, again, replies, todo)
			todo = failed
			w.circuit.leave(turn, v, first.err)
			w.refresh(ctx, f)
			return struct{}{}, f, err
		})
		return err
	})
	select {
	case <-finished:
		return replies, nil
	default:
		return nil, err
	}
}

// settle reads the errors of the commands todo, and returns those that the
// rule lets be sent again, with the fate and error of the first of them, and
// what all tell of the server: one that answers some answers.
func settle[C redis.Cmder](ctx context.Context, w *way, again []fate, replies []reply[C], todo []int) ([]int, fate, evidence, error) {
	var failed []int
	var first error
	firstFate, v := refused, nothing
	for _, i := range todo {
		r := &replies[i]
		f, err := w.classify(ctx, notNil(r.cmd.Err()))
		v = max(v, judge(ctx, f, err))
		if r.err = err; err == nil {
			continue
		}
		r.fate = max(r.fate, f) // Once lost, it may have been executed.
		if slices.Contains(again, f) {
			if len(failed) == 0 {
				firstFate, first = f, err
			}
			failed = append(failed, i)
		}
	}
	return failed, firstFate, v, first
}
