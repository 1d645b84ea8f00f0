package kv

import (
	"context"
	"time"
)

// pauseFor waits, and returns why it ended before its time: ctx's error.
func pauseFor(ctx context.Context, d time.Duration) error { return pauseUnless(ctx, d, nil) }

// pauseUnless is pauseFor that a token from wake ends early, without an error.
func pauseUnless(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
