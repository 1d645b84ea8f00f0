// Package benchmarks measures kv against the peers named in
// docs/performance.md. It is a module of its own, so that the peers stay out
// of the library's go.mod.
//
//	make json redis             all of it, into docs/performance.md
//	go test -bench 'JSON|Redis' the same as plain benchmarks, for benchstat
package benchmarks
