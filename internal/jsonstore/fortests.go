package jsonstore

import (
	"context"
	"time"
)

// What tests that stand outside of this package put into the context of Open.
// No setting of kv leads here, and nobody outside of the module can.
type (
	clockKey     struct{}
	compactAtKey struct{}
)

// WithClock is for tests: what is opened with such a context has this time.
func WithClock(ctx context.Context, now func() time.Time) context.Context {
	return context.WithValue(ctx, clockKey{}, now)
}

// WithCompactAt is for tests: what is opened with such a context compacts its
// files by itself after so many bytes of journal.
func WithCompactAt(ctx context.Context, bytes int64) context.Context {
	return context.WithValue(ctx, compactAtKey{}, bytes)
}

// forTests are the options with what they leave to the context.
func (o Options) forTests(ctx context.Context) Options {
	if now, ok := ctx.Value(clockKey{}).(func() time.Time); ok && o.Now == nil {
		o.Now = now
	}
	if at, ok := ctx.Value(compactAtKey{}).(int64); ok && o.CompactAt == 0 {
		o.CompactAt = at
	}
	return o
}
