package redisstore

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
)

const (
	retryAttempts = 4
	retryFirst    = 10 * time.Millisecond
	retryMost     = 500 * time.Millisecond
)

// retry repeats call, with growing and jittered pauses, while it fails with a
// fate that is among those given, for a few attempts within the context, and
// not while the circuit is open.
func retry[T any](ctx context.Context, w *way, again []fate, call func() (T, fate, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		result, f, err := call()
		if err == nil || !w.onceMore(ctx, again, attempt, f, &err) {
			return result, err
		}
	}
}

// onceMore waits after a failed attempt, and reports whether there is to be
// another. If ctx ends the wait, err becomes its error.
func (w *way) onceMore(ctx context.Context, again []fate, attempt int, f fate, err *error) bool {
	if attempt == retryAttempts || !slices.Contains(again, f) || fault.ContextError(ctx) != nil || w.circuit.open() {
		return false
	}
	if ended := pause(ctx, attempt); ended != nil {
		*err = ended
		return false
	}
	w.calls.repeated.Add(1)
	return true
}

// pause waits after a failed attempt, the first being 1.
func pause(ctx context.Context, attempt int) error {
	most := min(retryFirst<<(2*attempt-2), retryMost)
	return engine.Pause(ctx, most/2+rand.N(most/2))
}
