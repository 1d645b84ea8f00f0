//go:build unix

package jsonstore

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Engines with one of their rules taken away by what is done to their state,
// and the proof that finds it.
func TestJSONStateMutantsAreCaught(t *testing.T) {
	t.Parallel()
	unmarked := func(e *Engine) {
		_ = e.alone(func() error {
			e.newest().unmarked = false
			return nil
		})
	}
	for name, proof := range map[string]func(t *testing.T) error{
		"a store that closes gives the token back": func(t *testing.T) error {
			return flushWhileClosing(t, func(c *compactor) {
				e := c.engine
				closing := e.state.Swap(new(life))
				c.yield()
				synctest.Wait()
				select {
				case <-e.compactor: // So that Close can go on.
				default:
				}
				e.state.Store(closing)
			})
		},
		"every compaction begins a journal": func(t *testing.T) error {
			return failingFlushes(t, writesDocument, func(e *Engine) {
				c := <-e.compactor
				require.NoError(t, c.rotate())
				c.yield()
			})
		},
		"a sync that hangs holds nobody up": func(t *testing.T) error {
			return hangingSync(t, func(e *Engine) {
				e.commits.pulse.mu.Lock()
				e.commits.pulse.oldest = time.Now().Add(time.Hour)
				e.commits.pulse.mu.Unlock()
			})
		},
		"a sync leaves no mark, always":   func(t *testing.T) error { return damageBehindSync(t, policyAlways, unmarked) },
		"a sync leaves no mark, everysec": func(t *testing.T) error { return damageBehindSync(t, policyEverySec, unmarked) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				err := proof(t)
				require.Error(t, err, "nothing found it")
				t.Logf("%.300v", err)
			})
		})
	}
}
