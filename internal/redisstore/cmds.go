package redisstore

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// The commands of a pipeline, in one piece of memory. A command of go-redis
// keeps its arguments to itself, and so has to be made one by one; these have
// arguments of their own, which is what go-redis writes and shows. Only a
// Cluster's client looks at the others, to find the slot of a key.

// An intCmd is a command that is answered with a number.
type intCmd interface {
	redis.Cmder
	Val() int64
}

type keyCmd struct {
	redis.IntCmd
	args [2]any
}

func (c *keyCmd) Args() []any      { return c.args[:] }
func (c *keyCmd) Name() string     { return c.args[0].(string) }
func (c *keyCmd) FullName() string { return c.Name() }

// onKeys makes a command for each key.
func (w *way) onKeys(ctx context.Context, name string, keys []string) func(i int) intCmd {
	if w.cluster() != nil {
		return func(i int) intCmd { return redis.NewIntCmd(ctx, name, &keys[i]) }
	}
	cmds, first := make([]keyCmd, len(keys)), any(name)
	return func(i int) intCmd {
		cmd := &cmds[i]
		cmd.args = [...]any{first, &keys[i]}
		cmd.SetErr(nil) // That of an attempt before.
		return cmd
	}
}

type setCmd struct {
	redis.StatusCmd
	args []any
}

func (c *setCmd) Args() []any      { return c.args }
func (c *setCmd) Name() string     { return "set" }
func (c *setCmd) FullName() string { return c.Name() }

// sets makes n commands of SET, with these arguments.
func (w *way) sets(ctx context.Context, n int, args func(i int) []any) func(i int) redis.Cmder {
	if w.cluster() != nil {
		return func(i int) redis.Cmder { return redis.NewStatusCmd(ctx, args(i)...) }
	}
	cmds := make([]setCmd, n)
	return func(i int) redis.Cmder {
		cmd := &cmds[i]
		cmd.args = args(i)
		cmd.SetErr(nil) // That of an attempt before.
		return cmd
	}
}

// sendAll sends what is in a pipeline. Each command has its own error then.
//
// go-redis gives them none when a server refuses a login or another part of
// the greeting of a new connection: it takes what the server says there for
// the reply to one of them. They have not been sent.
func sendAll(ctx context.Context, pipe sender) {
	cmds, err := pipe.Exec(ctx)
	has := func(cmd redis.Cmder) bool { return cmd.Err() != nil }
	if err == nil || slices.ContainsFunc(cmds, has) {
		return
	}
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
}
