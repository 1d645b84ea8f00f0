package kv

import "time"

// WithClock lets the tests of the contract move the time of the json backend.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }
