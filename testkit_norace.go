//go:build !race

package kv

const stride = 1
