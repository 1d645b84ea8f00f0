package kv_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/leaktest"
	"github.com/ngraf/kv/kvtest"
)

// Errors are *Error: their text holds no id, no value and no secret. No log
// line does either, at any level. monitoring/leaks has the same on Redis, and
// looks into spans and metrics, too, but cannot move the clock.
func TestNothingLeaksJSON(t *testing.T) {
	t.Parallel()
	w := leaktest.New("no password on files")
	kvtest.Run(t, func(t *testing.T) kvtest.Harness {
		return jsonHarness(t, tight, func(s kv.Store) kv.Store { return w.Wrap(s, nil) }, kv.WithLogger(w.Logger()))
	})
	pieces, texts := w.Seen()
	t.Logf("%d pieces were looked for in %d texts", pieces, texts)
	require.Greater(t, pieces, 10_000)
	require.Greater(t, texts, 100)
	require.Empty(t, w.Leaks())
}

// The search finds an id in a log line, and a value in an error.
func TestLeaksAreFound(t *testing.T) {
	const id, value = "chunk-0123456789abcdef", `{"content":"It was the best of times"}`
	for name, leak := range map[string]func(w *leaktest.Watch){
		"log":   func(w *leaktest.Watch) { w.Logger().Debug("kv: read", "id", id) },
		"error": func(w *leaktest.Watch) { w.Say(fmt.Errorf("bad value %.30s", value).Error()) },
	} {
		w := leaktest.New("no password on files")
		w.HideItems(map[string]json.RawMessage{id: json.RawMessage(value)})
		w.Logger().Debug("kv: read", "namespace", "full_docs")
		require.Empty(t, w.Leaks(), name)
		leak(w)
		require.Len(t, w.Leaks(), 1, name)
	}
}
