package engine

import (
	"context"
	"time"
)

// Pause waits. If ctx ends it before its time, it returns ctx's error.
func Pause(ctx context.Context, d time.Duration) error { return Wait(ctx, d, nil) }

// Wait is a Pause that a token from wake ends early, without an error.
func Wait(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
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
