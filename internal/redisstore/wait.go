package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/fault"
)

// A confirmer executes writes and waits until enough replicas have them. WAIT
// counts for the connection that it is sent on, so it goes behind the writes
// in the same pipeline, to each master of a Cluster.
type confirmer struct {
	want int // allReplicas: every one

	mu   sync.Mutex
	most map[string]int // replicas that the master at an address was seen to have
}

// confirmed is the way for writes: the same, or one that waits for replicas.
func (w *way) confirmed(o Options) (*way, error) {
	if o.WaitReplicas == 0 || o.ReadOnly {
		return w, nil
	}
	switch w.to.(type) {
	case *redis.Client, *redis.ClusterClient:
	default:
		return nil, fault.Invalidf("REDIS_WAIT_REPLICAS: the given client is neither a *redis.Client nor a *redis.ClusterClient")
	}
	c := &way{pool: w.pool, to: w.to, circuit: w.circuit}
	c.confirm = &confirmer{want: o.WaitReplicas, most: make(map[string]int)}
	if !o.Unshared {
		c.share(c.executeConfirmed, nil)
	}
	return c, nil
}

// unlessConfirmed is the rule for a write that changes nothing when it is
// executed again: since Redis 7.2 WAIT then has nothing to wait for, so that
// the second attempt says nothing of the first.
func (w *way) unlessConfirmed() []fate {
	if w.confirm != nil {
		return once
	}
	return repeatable
}

// do sends one command.
func (w *way) do(ctx context.Context, cmd redis.Cmder) error {
	if w.confirm == nil {
		_ = w.to.Process(ctx, cmd) // The command has it.
	} else {
		w.confirm.send(ctx, w, []redis.Cmder{cmd})
	}
	return cmd.Err()
}

// executeConfirmed sends the commands of a group, with one WAIT for all.
func (w *way) executeConfirmed(ctx context.Context, cmds []single) {
	list := make([]redis.Cmder, len(cmds))
	for i := range cmds {
		list[i] = &cmds[i]
	}
	w.confirm.send(ctx, w, list)
}

// A sender is what is used of a redis.Pipeliner.
type sender interface {
	Process(ctx context.Context, cmd redis.Cmder) error
	Exec(ctx context.Context) ([]redis.Cmder, error)
}

func (w *way) pipe() sender {
	if w.confirm == nil {
		return w.to.Pipeline()
	}
	return &confirmedPipe{way: w}
}

type confirmedPipe struct {
	way  *way
	cmds []redis.Cmder
}

func (p *confirmedPipe) Process(_ context.Context, cmd redis.Cmder) error {
	p.cmds = append(p.cmds, cmd)
	return nil
}

func (p *confirmedPipe) Exec(ctx context.Context) ([]redis.Cmder, error) {
	p.way.confirm.send(ctx, p.way, p.cmds)
	return p.cmds, nil
}

// mostHops bounds how often a command follows a slot that moves.
const mostHops = 3

// A target is a server that executes commands.
type target struct {
	node   *redis.Client
	asking bool // the slot is on its way there
}

// send executes commands. Each has its own error then, which is that of the
// WAIT behind it if it has none itself. Redirections are followed here: a
// ClusterClient would follow them on another connection than that of the WAIT.
func (w *confirmer) send(ctx context.Context, by *way, cmds []redis.Cmder) {
	cluster := by.cluster()
	if cluster == nil {
		w.execute(ctx, target{node: by.to.(*redis.Client)}, cmds)
		return
	}
	var masters map[string]*redis.Client // by address; needed for redirections
	for hop := 0; len(cmds) > 0 && hop <= mostHops; hop++ {
		parts := make(map[target][]redis.Cmder)
		for _, cmd := range cmds {
			to, err := route(ctx, cluster, masters, cmd)
			if err != nil {
				cmd.SetErr(err)
				continue
			}
			parts[to] = append(parts[to], cmd)
		}
		var running sync.WaitGroup
		for to, part := range parts {
			running.Go(func() { w.execute(ctx, to, part) })
		}
		running.Wait()
		if cmds = redirected(cmds); len(cmds) > 0 {
			masters = by.addresses(ctx)
		}
	}
}

// route returns the server for a command: that of its key, or the one that it
// was redirected to.
func route(ctx context.Context, cluster *redis.ClusterClient, masters map[string]*redis.Client, cmd redis.Cmder) (target, error) {
	if addr, ask := redis.IsAskError(cmd.Err()); ask && masters[addr] != nil {
		return target{masters[addr], true}, nil
	}
	if addr, moved := redis.IsMovedError(cmd.Err()); moved && masters[addr] != nil {
		return target{node: masters[addr]}, nil
	}
	node, err := cluster.MasterForKey(ctx, keyOf(cmd))
	return target{node: node}, err
}

// keyOf returns the first key of a command that the engine writes with.
func keyOf(cmd redis.Cmder) string {
	at := 1
	if cmd.Name() == "eval" || cmd.Name() == "evalsha" {
		at = 3 // Behind the script and the number of keys.
	}
	args := cmd.Args()
	if at >= len(args) { // Its caller has gone.
		return ""
	}
	switch key := args[at].(type) {
	case string:
		return key
	case *string:
		return *key
	}
	return ""
}

// redirected returns the commands that another server wants.
func redirected(cmds []redis.Cmder) []redis.Cmder {
	var list []redis.Cmder
	for _, cmd := range cmds {
		_, moved := redis.IsMovedError(cmd.Err())
		_, ask := redis.IsAskError(cmd.Err())
		if moved || ask {
			list = append(list, cmd)
		}
	}
	return list
}

// addresses asks the Cluster for its masters. Without an answer there are
// none, and commands go on by their keys.
func (w *way) addresses(ctx context.Context) map[string]*redis.Client {
	byAddr := make(map[string]*redis.Client)
	nodes, err := w.masters(ctx)
	if err != nil {
		return nil
	}
	for _, node := range nodes {
		if client, ok := node.(*redis.Client); ok {
			byAddr[client.Options().Addr] = client
		}
	}
	return byAddr
}

// execute sends commands and WAIT in one pipeline, which has one connection.
func (w *confirmer) execute(ctx context.Context, to target, cmds []redis.Cmder) {
	pipe := to.node.Pipeline()
	for _, cmd := range cmds {
		cmd.SetErr(nil) // That of a redirection would hide what happens now.
		if to.asking {
			_ = pipe.Process(ctx, single{redis.NewStatusCmd(ctx, "asking"), nil})
		}
		_ = pipe.Process(ctx, cmd)
	}
	addr, within := to.node.Options().Addr, patience(ctx, to.node)
	need := w.need(addr)
	wait := redis.NewIntCmd(ctx, "wait", need, within.Milliseconds())
	_ = pipe.Process(ctx, single{wait, nil})
	role := redis.NewSliceCmd(ctx, "role")
	if w.want == allReplicas {
		_ = pipe.Process(ctx, single{role, nil})
	}
	sendAll(ctx, pipe)

	err := waited(wait, need, within)
	if err == nil && w.want == allReplicas {
		err = w.learn(addr, role, int(wait.Val()))
	}
	if err == nil {
		return
	}
	for _, cmd := range cmds {
		if cmd.Err() == nil {
			cmd.SetErr(err)
		}
	}
}

// waitMost is how long to wait for replicas where a given client has no socket
// timeout.
const waitMost = 5 * time.Second

// patience is how long to wait for replicas: so long that the answer comes
// before the connection is given up. It is never 0, which would be for ever.
func patience(ctx context.Context, node *redis.Client) time.Duration {
	bound := node.Options().ReadTimeout
	if bound <= 0 {
		bound = waitMost
	}
	if deadline, ok := ctx.Deadline(); ok {
		bound = min(bound, time.Until(deadline))
	}
	return max(bound*4/5, time.Millisecond)
}

// need is how many replicas the master at an address is to wait for.
func (w *confirmer) need(addr string) int {
	if w.want != allReplicas {
		return w.want
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.most[addr], 1)
}

// A waitError is why a write counts as failed that a master has executed.
type waitError struct {
	fate fate
	error
}

func (e *waitError) Unwrap() error { return e.error }

// waited returns nil if WAIT counted as many replicas as it was to.
func waited(wait *redis.IntCmd, need int, within time.Duration) error {
	if err := wait.Err(); err != nil {
		return waitFailed("wait", err)
	}
	if have := int(wait.Val()); have < need {
		return &waitError{alone, fault.Unavailablef("stored on the master, but only %d of %d replicas have confirmed within %v; "+
			"see REDIS_WAIT_REPLICAS", have, need, within)}
	}
	return nil
}

// waitFailed is for an answer other than a number. A master that has become a
// replica meanwhile gives one, and the write is worth another attempt. Errors
// of the connection speak for themselves.
func waitFailed(command string, err error) error {
	server := redis.Error(nil)
	switch {
	case !errors.As(err, &server):
		return err
	case strings.HasPrefix(server.Error(), "NOPERM"):
		return &waitError{alone, fault.Veil("stored on the master, but REDIS_WAIT_REPLICAS needs the permission +"+command, err)}
	}
	return &waitError{lost, fault.Unavailablef("the server is no longer the master: %w", fault.Veil(firstClause(server.Error()), err))}
}

// learn takes note of the replicas that a master has now. One that came while
// WAIT was counting is to have the write, too.
func (w *confirmer) learn(addr string, role *redis.SliceCmd, have int) error {
	if err := role.Err(); err != nil {
		return waitFailed("role", err)
	}
	reply := role.Val()
	if len(reply) < 3 || reply[0] != "master" {
		return &waitError{lost, fault.Unavailablef("the server is no longer the master")}
	}
	online, _ := reply[2].([]any)
	w.mu.Lock()
	w.most[addr] = max(w.most[addr], len(online))
	w.mu.Unlock()
	if need := w.need(addr); have < need {
		return &waitError{lost, fault.Unavailablef("a replica has joined, and only %d of %d are known to have the write", have, need)}
	}
	return nil
}

// probe makes sure at Open that the user may ask, and counts the replicas.
func (w *confirmer) probe(ctx context.Context, by *way) error {
	nodes, err := by.masters(ctx)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		reader := by.on(node).unguarded()
		_, _, err := run(ctx, reader, repeatable, func() *redis.IntCmd { return redis.NewIntCmd(ctx, "wait", 0, 1) })
		if err != nil {
			return fmt.Errorf("REDIS_WAIT_REPLICAS needs WAIT: %w", err)
		}
		if w.want != allReplicas {
			continue
		}
		role, _, err := run(ctx, reader, repeatable, func() *redis.SliceCmd { return redis.NewSliceCmd(ctx, "role") })
		if err != nil {
			return fmt.Errorf("REDIS_WAIT_REPLICAS=all needs ROLE: %w", err)
		}
		if client, ok := node.(*redis.Client); ok { // What is missing is for the writes to say.
			_ = w.learn(client.Options().Addr, role, 0)
		}
	}
	return nil
}
