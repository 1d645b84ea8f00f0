//go:build !race

package testkit

// Race says that the race detector watches, and memory is not what it is.
const Race = false
