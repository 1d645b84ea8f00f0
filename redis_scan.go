package kv

import (
	"context"
	"iter"
	"strings"

	"github.com/redis/go-redis/v9"
)

// keys suppresses the repeats that SCAN is allowed, which takes a set of all
// ids seen.
func (e *redisEngine) keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		seen := make(map[string]struct{})
		for page, err := range e.scan(ctx) {
			if err != nil {
				yield("", err)
				return
			}
			for _, key := range page.keys {
				id := key[len(e.prefix):]
				if _, again := seen[id]; again {
					continue
				}
				seen[id] = struct{}{}
				if !yield(id, nil) {
					return
				}
			}
		}
	}
}

// A page is one reply of SCAN: keys with our prefix, on one server.
type page struct {
	node redis.UniversalClient
	keys []string
}

// scan lists the keys of the namespace on every server that holds some.
func (e *redisEngine) scan(ctx context.Context) iter.Seq2[page, error] {
	pattern := escapeGlob(e.prefix) + "*"
	return func(yield func(page, error) bool) {
		nodes, err := e.client.masters(ctx)
		if err != nil {
			yield(page{}, err)
			return
		}
		for _, node := range nodes {
			for cursor := uint64(0); ; {
				cmd, _, err := run(ctx, e.client.on(node), repeatable, func() *redis.ScanCmd {
					return redis.NewScanCmd(ctx, nil, "scan", cursor, "match", pattern, "count", scanCount)
				})
				if err != nil {
					yield(page{}, err)
					return
				}
				var keys []string
				keys, cursor = cmd.Val()
				if !yield(page{node, e.ours(keys)}, nil) {
					return
				}
				if cursor == 0 {
					break
				}
			}
		}
	}
}

// ours keeps the keys that have the exact prefix, whatever the server made of
// the pattern.
func (e *redisEngine) ours(keys []string) []string {
	mine := keys[:0]
	for _, key := range keys {
		if strings.HasPrefix(key, e.prefix) {
			mine = append(mine, key)
		}
	}
	return mine
}

// escapeGlob makes a pattern match text itself.
func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}

func (e *redisEngine) drop(ctx context.Context) error {
	for page, err := range e.scan(ctx) {
		if err != nil {
			return err
		}
		for _, part := range chunks(page.keys, nil) {
			p, err := pipeline(ctx, e.client.on(page.node), repeatable, len(part), func(i int) *redis.IntCmd {
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
	}
	return nil
}
