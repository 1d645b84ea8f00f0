package engine

import (
	"context"
	"time"
)

// Pause waits, and returns why it ended before its time: ctx's error.
func Pause(ctx context.Context, d time.Duration) error { return PauseUnless(ctx, d, nil) }

// PauseUnless is Pause that a token from wake ends early, without an error.
func PauseUnless(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
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
