// Package fault has the errors that the packages below kv have in common. kv
// documents those that a caller meets, and makes its own types of the others.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ngraf/kv/internal/jsonscan"
)

// The kinds of failure. They are documented where callers meet them, in kv.
var (
	ErrNotFound       = errors.New("not found")
	ErrClosed         = errors.New("store is closed")
	ErrUnavailable    = errors.New("backend unavailable")
	ErrCorrupt        = errors.New("corrupt data")
	ErrInvalid        = errors.New("invalid")
	ErrLocked         = errors.New("locked")
	ErrOutcomeUnknown = errors.New("outcome unknown")
)

// An IDError names the document that an error concerns. Its text is the error's.
type IDError struct {
	ID  string
	Err error
}

// WithID says which document err concerns.
func WithID(id string, err error) error { return &IDError{id, err} }

func (e *IDError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *IDError) Unwrap() error { return e.Err }

// A Partial says what became of the items of a write that failed in part.
// Each id of the call is in exactly one of the lists.
type Partial struct {
	Applied    []string // stored
	NotApplied []string // not stored
	Unknown    []string // sent, but no answer came, or not that of enough replicas
	Err        error    // the first cause
}

func (e *Partial) Error() string {
	return fmt.Sprintf("%d applied, %d not applied, %d unknown: %v",
		len(e.Applied), len(e.NotApplied), len(e.Unknown), e.Err)
}

// Unwrap returns the first cause.
func (e *Partial) Unwrap() error { return e.Err }

// A veiled error has a text of its own in place of its cause's, which may
// hold documents, ids or secrets. The cause stays reachable.
type veiled struct {
	text  string
	cause error
}

// Veil gives an error another text.
func Veil(text string, cause error) error { return &veiled{text, cause} }

func (e *veiled) Error() string    { return e.text }
func (e *veiled) GoString() string { return fmt.Sprintf("kv.veiled{%q}", e.text) }
func (e *veiled) Unwrap() error    { return e.cause }

// Invalidf returns an error that matches ErrInvalid.
func Invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Unavailablef returns an error that matches ErrUnavailable, and what %w names.
func Unavailablef(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrUnavailable}, args...)...)
}

// Unavailable makes err one that matches ErrUnavailable; nil stays nil.
func Unavailable(err error) error {
	if err == nil {
		return nil
	}
	return Unavailablef("%w", err)
}

// Unknown makes err one that matches ErrOutcomeUnknown.
func Unknown(err error) error { return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err) }

// NotJSON says under the sentinel why and where a value is not JSON.
func NotJSON(sentinel, err error) error {
	var syntax *jsonscan.Error
	if errors.As(err, &syntax) {
		return &notJSONError{sentinel, syntax}
	}
	return err
}

type notJSONError struct {
	sentinel error
	cause    *jsonscan.Error
}

func (e *notJSONError) Error() string {
	return e.sentinel.Error() + ": a value is not JSON: " + e.cause.Error()
}
func (e *notJSONError) Unwrap() []error { return []error{e.sentinel, e.cause} }

// ContextError returns ctx.Err(), also in the moment when the socket has
// noticed the deadline and the context's own timer has not.
func ContextError(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}
