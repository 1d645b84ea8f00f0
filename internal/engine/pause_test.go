package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A pause lasts its time, unless its context ends, which is an error, or it is
// woken, which is none.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.NoError(t, Pause(t.Context(), time.Minute))
		require.Equal(t, time.Minute, time.Since(began))

		wake := make(chan struct{}, 1)
		wake <- struct{}{}
		require.NoError(t, Wait(t.Context(), time.Minute, wake))
		require.Empty(t, wake)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, Wait(ctx, time.Minute, wake), context.DeadlineExceeded)
		require.Equal(t, time.Minute+time.Second, time.Since(began))
	})
}
