package redisstore

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/ngraf/kv/internal/engine"
)

// Namespaces lists, sorted, the namespaces that have a key under a prefix:
// what stands between its colon and the next, since no namespace has one. Keys
// of others are passed over.
func Namespaces(ctx context.Context, client *Client, o Options) ([]string, error) {
	all := &keyspace{way: client.reads, prefix: o.KeyPrefix + ":", logger: o.Logger}
	found := make(map[string]struct{})
	err := all.scan(ctx, func(keys []string) error {
		for _, key := range keys {
			namespace, _, ok := strings.Cut(key[len(all.prefix):], ":")
			if !ok || engine.CheckNamespace(namespace) != nil {
				continue
			}
			if _, again := found[namespace]; !again {
				found[strings.Clone(namespace)] = struct{}{}
			}
		}
		return nil
	})
	return slices.Sorted(maps.Keys(found)), err
}
