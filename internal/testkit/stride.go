package testkit

import "testing"

// Stride is which of the cases that a proof tries one by one it tries: every
// one, or in a short run, and under the race detector, every eighth. That makes
// a proof take ten times as long, and a proof has no races to find.
func Stride() int {
	if Race || testing.Short() {
		return 8
	}
	return 1
}
