//go:build !race

package testkit

const Stride = 1
