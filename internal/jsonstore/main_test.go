package jsonstore

import (
	"os"
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"
)

// The proofs make much garbage and keep little: half of their time went into
// collecting it.
func TestMain(m *testing.M) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(800)
	}
	goleak.VerifyTestMain(m)
}
