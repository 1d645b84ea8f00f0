package kv_test

import (
	"context"
	"testing"
	"time"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// unknownOutcomes is how many calls ended so.
func unknownOutcomes(s kv.Stats) (n int64) {
	for _, c := range s.Calls {
		n += c.Results["unknown_outcome"]
	}
	return n
}

// operations are all methods that talk to the server.
var operations = map[string]func(ctx context.Context, s builtin) error{
	"get":     func(ctx context.Context, s builtin) error { _, err := s.Get(ctx, "a"); return err },
	"getmany": func(ctx context.Context, s builtin) error { _, err := s.GetMany(ctx, []string{"a", "b"}); return err },
	"missing": func(ctx context.Context, s builtin) error { _, err := s.Missing(ctx, []string{"a", "b"}); return err },
	"keys": func(ctx context.Context, s builtin) (err error) {
		for _, err = range s.Keys(ctx) {
		}
		return err
	},
	"upsert":    func(ctx context.Context, s builtin) error { return s.Upsert(ctx, testkit.OneDoc) },
	"upsertttl": func(ctx context.Context, s builtin) error { return s.UpsertTTL(ctx, testkit.OneDoc, time.Hour) },
	"insert":    func(ctx context.Context, s builtin) error { _, err := s.Insert(ctx, testkit.OneDoc); return err },
	"delete":    func(ctx context.Context, s builtin) error { _, err := s.Delete(ctx, "a"); return err },
	"drop":      func(ctx context.Context, s builtin) error { return s.Drop(ctx) },
	"flush":     func(ctx context.Context, s builtin) error { return s.Flush(ctx) },
	"ping":      func(ctx context.Context, s builtin) error { return s.Ping(ctx) },
	"ttl":       func(ctx context.Context, s builtin) error { _, err := s.TTL(ctx, "a"); return err },
}
