//go:build race

package testkit

// The race detector makes the proofs take ten times as long, and they have no
// races to find: of what they try one by one, only every eighth is tried.
const Stride = 8
