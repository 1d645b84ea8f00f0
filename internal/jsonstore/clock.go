package jsonstore

import (
	"context"
	"time"
)

type clockKey struct{}

// WithClock is for tests: what is opened with such a context has this time.
// No setting of kv leads here, and nobody outside of the module can.
func WithClock(ctx context.Context, now func() time.Time) context.Context {
	return context.WithValue(ctx, clockKey{}, now)
}

func clockIn(ctx context.Context) func() time.Time {
	if now, ok := ctx.Value(clockKey{}).(func() time.Time); ok {
		return now
	}
	return time.Now
}
