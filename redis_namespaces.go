package kv

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// redisNamespaces lists, sorted, the namespaces that have a key under a prefix:
// what stands between its colon and the next, since no namespace has one. Keys
// of others are passed over.
func redisNamespaces(ctx context.Context, client *redisClient, keyPrefix string, logger *slog.Logger) ([]string, error) {
	all := &redisEngine{client: client, prefix: keyPrefix + ":", logger: logger} // All that a scan asks of it.
	found := make(map[string]struct{})
	err := all.scan(ctx, func(keys []string) error {
		for _, key := range keys {
			namespace, _, ok := strings.Cut(key[len(all.prefix):], ":")
			if !ok || checkNamespace(namespace) != nil {
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
