// Package quietlog keeps a log from being filled by one line.
package quietlog

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// repeatAfter is how long a warning is not repeated.
const repeatAfter = 10 * time.Second

// A repeatHandler lets the same message about the same namespace through once
// in a while, so that an outage does not fill the disk with what everybody
// knows. The next that is let through says as "repeated" how many were not.
// What is of level Info is news each time, and passes. The clock is that of
// the records.
type repeatHandler struct {
	slog.Handler
	namespace string
	*repeats
}

// repeats are what the loggers of a factory have said.
type repeats struct {
	mu   sync.Mutex
	said map[messageKey]*lastSaid
}

type messageKey struct{ namespace, message string }

type lastSaid struct {
	at       time.Time
	repeated int // since then
}

// WithoutRepeats returns a logger that does not repeat itself.
func WithoutRepeats(l *slog.Logger) *slog.Logger {
	return slog.New(&repeatHandler{l.Handler(), "", &repeats{said: make(map[messageKey]*lastSaid)}})
}

// WithRepeats returns the logger that WithoutRepeats was given: for what tells
// of a state, of which the last line has to be the last word.
func WithRepeats(l *slog.Logger) *slog.Logger {
	if h, ok := l.Handler().(*repeatHandler); ok {
		return slog.New(h.Handler)
	}
	return l
}

func (h *repeatHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelInfo {
		return h.Handler.Handle(ctx, r)
	}
	repeated, ok := h.say(messageKey{h.namespace, r.Message}, r.Time)
	if !ok {
		return nil
	}
	if repeated > 0 {
		r = r.Clone()
		r.Add("repeated", repeated)
	}
	return h.Handler.Handle(ctx, r)
}

// say reports whether it is time for a message, and how often it was not.
func (r *repeats) say(key messageKey, now time.Time) (repeated int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.said[key]
	if last != nil && now.Sub(last.at) < repeatAfter {
		last.repeated++
		return 0, false
	}
	if last == nil {
		r.forget(now)
		last = new(lastSaid)
		r.said[key] = last
	}
	repeated, *last = last.repeated, lastSaid{at: now}
	return repeated, true
}

// forget drops what was said long ago and not repeated, so that messages with
// a text of their own do not add up.
func (r *repeats) forget(now time.Time) {
	for key, last := range r.said {
		if last.repeated == 0 && now.Sub(last.at) >= repeatAfter {
			delete(r.said, key)
		}
	}
}

func (h *repeatHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	namespace := h.namespace
	for _, attr := range attrs {
		if attr.Key == "namespace" {
			namespace = attr.Value.String()
		}
	}
	return &repeatHandler{h.Handler.WithAttrs(attrs), namespace, h.repeats}
}

func (h *repeatHandler) WithGroup(name string) slog.Handler {
	return &repeatHandler{h.Handler.WithGroup(name), h.namespace, h.repeats}
}
