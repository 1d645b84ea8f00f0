package kv

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
)

// Namespaces lists the namespaces that have something stored, sorted: on
// files those that have a document file or a journal, on Redis those that
// have a key. A directory that is missing has none. Nothing is opened, locked
// or imported; on Redis all keys under the prefix are listed, which takes as
// long as [Store].Keys of every namespace together.
//
// The error matches [ErrInvalid] for a registered backend, which cannot be
// asked, and otherwise [ErrUnavailable], [ErrClosed] or that of ctx.
func (f *Factory) Namespaces(ctx context.Context) ([]string, error) {
	f.mu.Lock()
	closed := f.closed
	f.mu.Unlock()
	if closed {
		return nil, &Error{Op: "namespaces", Err: ErrClosed}
	}
	var found map[string]struct{}
	var err error
	switch backend := f.cfg.backend(); backend {
	case "json":
		found, err = namespacesOfFiles(f.cfg.workingDir())
	case "redis":
		found, err = f.namespacesOfRedis(ctx)
	default:
		err = invalidf("the backend %q cannot list its namespaces", backend)
	}
	if err != nil {
		return nil, opError("namespaces", "", err)
	}
	return sortedKeys(found), nil
}

func namespacesOfFiles(dir string) (map[string]struct{}, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := make(map[string]struct{})
	for _, entry := range entries {
		if namespace, ok := namespaceOfFile(entry.Name()); ok && entry.Type().IsRegular() {
			found[namespace] = struct{}{}
		}
	}
	return found, nil
}

// namespaceOfFile reads the name of a document file or a journal.
func namespaceOfFile(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "kv_store_")
	if !ok {
		return "", false
	}
	if namespace, ok := strings.CutSuffix(rest, ".json"); ok {
		return namespace, checkNamespace(namespace) == nil
	}
	at := strings.LastIndex(rest, ".journal.")
	if at < 0 || checkNamespace(rest[:at]) != nil {
		return "", false
	}
	return rest[:at], len(jsonNames(rest[:at]).journals([]string{name})) == 1
}

// namespacesOfRedis reads keys: what stands between the colon of the prefix
// and the next, since no namespace has one. Keys of others are passed over.
func (f *Factory) namespacesOfRedis(ctx context.Context) (found map[string]struct{}, err error) {
	client, err := f.client.acquire(ctx, func(ctx context.Context) (*redisClient, error) {
		return connectRedis(ctx, f.cfg.Redis, f.opts)
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.client.release()) }()
	all := newRedisEngine(client, f.cfg, "", f.opts.logger, nil)
	all.prefix = strings.TrimSuffix(all.prefix, ":") // Of the empty namespace.
	found = make(map[string]struct{})
	return found, all.scan(ctx, func(keys []string) error {
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
}
