package redisstore

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/fault"
)

// scanRestarts is how often a listing begins again, because the servers
// changed below it, until it is given up.
const scanRestarts = 10

// errStopped ends a scan whose caller has seen enough.
var errStopped = errors.New("stopped")

// Keys suppresses the repeats that SCAN is allowed, and those of a scan that
// began again, which takes a set of all ids seen.
func (e *Engine) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		seen := make(map[string]struct{})
		err := e.scan(ctx, func(keys []string) error {
			for _, key := range keys {
				id := key[len(e.prefix):]
				if _, again := seen[id]; again {
					continue
				}
				seen[id] = struct{}{}
				if !yield(id, nil) {
					return errStopped
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield("", err)
		}
	}
}

// Drop unlinks what a scan finds. Those that an old master has acknowledged
// and never told the new one come back with a failover, so the server must be
// the same when the last is done. On a Cluster, scanCluster sees to that.
func (e *Engine) Drop(ctx context.Context) error {
	defer e.forgetAll()
	unlink := func(keys []string) error { return e.unlink(ctx, keys) }
	if e.way.cluster() != nil {
		return e.scanCluster(ctx, unlink)
	}
	for range scanRestarts {
		server, err := e.scanNode(ctx, e.way, unlink)
		if err != nil {
			return err
		}
		info, f, err := run(ctx, e.way, repeatable, func() *redis.StringCmd { return infoServer(ctx) })
		if err != nil && !declined(f, err) {
			return err
		}
		if runID(info) == server {
			return nil
		}
	}
	return incomplete()
}

// unlink removes keys wherever they are by now: on a Cluster each goes by its
// slot, and not to the node that listed it.
func (e *Engine) unlink(ctx context.Context, keys []string) error {
	for _, part := range chunks(keys, nil) {
		p, err := pipeline(ctx, e.writes, e.writes.unlessConfirmed(), len(part), func(i int) *redis.IntCmd {
			return redis.NewIntCmd(ctx, "unlink", part[i])
		})
		if err != nil {
			return err
		}
		for _, r := range p {
			if r.err != nil {
				return r.err
			}
		}
	}
	return nil
}

// A keyspace is what has a prefix: a namespace, or all of them.
type keyspace struct {
	way    *way
	prefix string // with the last colon
	logger *slog.Logger
	warned sync.Once // that a scan cannot be certain
}

// scan calls visit with the keys of the namespace, a page at a time and some
// of them repeatedly. If it returns nil, every key was visited that existed
// from beginning to end.
func (k *keyspace) scan(ctx context.Context, visit func(keys []string) error) error {
	if k.way.cluster() != nil {
		return k.scanCluster(ctx, visit)
	}
	_, err := k.scanNode(ctx, k.way, visit)
	return err
}

// scanNode lists the keys of one server, and returns which that was.
//
// A cursor is a place in the hash table of one process, whose seed is random:
// another process answers it with pages that leave keys out. It survives
// everything else, a resync from another master included, since that fills the
// table anew by the same seed and the server answers LOADING in between. So
// the run id that comes with each page must be that of the first, or the scan
// begins again. A server that does not tell its run id is asked for all pages
// over one connection, before the first is visited.
func (k *keyspace) scanNode(ctx context.Context, node *way, visit func(keys []string) error) (string, error) {
	server, cursor, restarts := "", uint64(0), 0
	for {
		p, err := k.page(ctx, node, cursor)
		switch {
		case err != nil:
			return "", err
		case p.server == "":
			keys, err := k.collect(ctx, node)
			if err != nil {
				return "", err
			}
			return "", visit(keys)
		case cursor != 0 && p.server != server:
			if restarts++; restarts > scanRestarts {
				return "", incomplete()
			}
			cursor = 0
			continue
		}
		server, cursor = p.server, p.next
		if err := visit(p.keys); err != nil || cursor == 0 {
			return server, err
		}
	}
}

func incomplete() error {
	return fault.Unavailablef("the servers changed or slots moved all the while, so some keys may have been missed; call again")
}

// collect lists the keys of one server over one connection, whose peer cannot
// change. Nothing else is asked of the pool meanwhile, so that many of them
// cannot wait for each other.
func (k *keyspace) collect(ctx context.Context, node *way) ([]string, error) {
	var got []string
	err := node.await(ctx, func(by *caller) (err error) {
		got, err = retry(ctx, node, repeatable, func() ([]string, fate, error) {
			var conn interface {
				Process(ctx context.Context, cmd redis.Cmder) error
			} = node.to
			if client, ok := node.to.(*redis.Client); ok { // All but what a caller has made up.
				own := client.Conn()
				defer func() { _ = own.Close() }() // To the pool.
				conn = own
			}
			var all []string
			for cursor := uint64(0); ; {
				scan := k.scanCommand(ctx, cursor)
				f, err := node.attempt(ctx, func() error { return conn.Process(ctx, single{scan, by}) })
				if err != nil {
					return nil, f, err
				}
				var keys []string
				keys, cursor = scan.Val()
				all = append(all, k.ours(keys)...)
				if cursor == 0 {
					return all, refused, nil
				}
			}
		})
		return err
	})
	if err != nil { // The call may still be running, and write to got.
		return nil, err
	}
	return got, nil
}

func (k *keyspace) scanCommand(ctx context.Context, cursor uint64) *redis.ScanCmd {
	return redis.NewScanCmd(ctx, nil, "scan", cursor, "match", escapeGlob(k.prefix)+"*", "count", scanCount)
}

// A page is one reply of SCAN.
type page struct {
	server string // the run id of the process that sent it; "" if it does not say
	next   uint64 // the cursor
	keys   []string
}

// page asks for the keys at a cursor and, in the same pipeline and so on the
// same connection, who answers. No connection is held between two pages: the
// loop over Keys may call the store, and many such loops would wait for each
// other.
func (k *keyspace) page(ctx context.Context, node *way, cursor uint64) (page, error) {
	var got page
	err := node.await(ctx, func(by *caller) (err error) {
		got, err = retry(ctx, node, repeatable, func() (page, fate, error) { return k.tryPage(ctx, by, node, cursor) })
		return err
	})
	if err != nil { // The call may still be running, and write to got.
		return page{}, err
	}
	return got, nil
}

func (k *keyspace) tryPage(ctx context.Context, by *caller, node *way, cursor uint64) (page, fate, error) {
	server := infoServer(ctx)
	role := redis.NewStringCmd(ctx, "info", "replication")
	scan := k.scanCommand(ctx, cursor)
	pipe := node.to.Pipeline()
	_ = pipe.Process(ctx, single{server, by}) // Only queues it.
	if node.sentinel {
		_ = pipe.Process(ctx, single{role, by})
	}
	_ = pipe.Process(ctx, single{scan, by})
	f, err := node.attempt(ctx, func() error {
		sendAll(ctx, pipe)
		return scan.Err()
	})
	if err != nil {
		return page{}, f, err
	}
	// A Sentinel that has not heard of a failover may have sent us to the old
	// master, which has no part in what was written since.
	if node.sentinel && parseInfo(role.Val())["role"] == "slave" {
		return page{}, passing, fault.Unavailablef("the server is a replica; a failover may be under way")
	}
	keys, next := scan.Val()
	return page{server: runID(server), next: next, keys: k.ours(keys)}, refused, nil
}

// declined reports whether the server itself refused a command.
func declined(f fate, err error) bool {
	server := redis.Error(nil)
	return f == refused && errors.As(err, &server)
}

func infoServer(ctx context.Context) *redis.StringCmd {
	return redis.NewStringCmd(ctx, "info", "server")
}

// runID is what tells one process from another, or "" if INFO was refused.
func runID(info *redis.StringCmd) string { return parseInfo(info.Val())["run_id"] }

// ours keeps the keys that have the exact prefix, whatever the server made of
// the pattern.
func (k *keyspace) ours(keys []string) []string {
	mine := keys[:0]
	for _, key := range keys {
		if strings.HasPrefix(key, k.prefix) {
			mine = append(mine, key)
		}
	}
	return mine
}

// escapeGlob makes a pattern match text itself.
func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}
