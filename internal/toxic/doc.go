// Package toxic tests the redis backend through Toxiproxy: networks that are
// slow, thin, cut, reset or gone. It is a module of its own, so that
// Toxiproxy and the sixteen modules that it needs stay out of the library's
// go.mod.
package toxic
