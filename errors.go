package kv

import (
	"errors"
	"fmt"
)

// The kinds of failure. Errors of this package are [*Error] values that match
// one of these with errors.Is, or the error of the context that ended the
// call, or neither if the cause speaks for itself.
var (
	// ErrNotFound: there is no document with this id.
	ErrNotFound = errors.New("not found")
	// ErrClosed: the store or its factory has been closed.
	ErrClosed = errors.New("store is closed")
	// ErrUnavailable: the backend cannot serve now; the same call may succeed
	// later.
	ErrUnavailable = errors.New("backend unavailable")
	// ErrCorrupt: what is stored is not what this package or its Python
	// original would have stored. Nothing was changed.
	ErrCorrupt = errors.New("corrupt data")
	// ErrInvalid: the input or the configuration breaks a rule. Nothing was
	// written.
	ErrInvalid = errors.New("invalid")
	// ErrLocked: another process, or another factory of this one, has the
	// namespace open.
	ErrLocked = errors.New("locked")
	// ErrOutcomeUnknown: the write may or may not have been applied, and
	// repeating it may give another answer.
	ErrOutcomeUnknown = errors.New("outcome unknown")
)

// An Error says which call failed, on which namespace, and why. Its text
// names neither ids nor values nor secrets, so that it can be logged.
type Error struct {
	Op        string // the method, in lower case: "get", "upsert", "open", ...
	Namespace string // empty where no namespace is concerned
	ID        string // the document concerned, if it is one; not in the text
	Err       error  // never nil
}

func (e *Error) Error() string {
	if e.Namespace == "" {
		return "kv: " + e.Op + ": " + e.Err.Error()
	}
	return "kv: " + e.Op + " " + e.Namespace + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// opError makes an *Error of err, unless it is one already, which says more.
func opError(op, namespace string, err error) error {
	if e := (*Error)(nil); err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Op: op, Namespace: namespace, Err: err}
}

// GoString keeps the id out of %#v, too.
func (e *Error) GoString() string {
	return fmt.Sprintf("&kv.Error{Op:%q, Namespace:%q, Err:%q}", e.Op, e.Namespace, e.Err.Error())
}

// A BatchError says what became of the items of a write that failed in part.
// Each id of the call is in exactly one of the lists.
type BatchError struct {
	Applied    []string // stored
	NotApplied []string // not stored
	Unknown    []string // sent, but no answer came, or not that of enough replicas
	Err        error    // the first cause
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("%d applied, %d not applied, %d unknown: %v",
		len(e.Applied), len(e.NotApplied), len(e.Unknown), e.Err)
}

func (e *BatchError) Unwrap() error { return e.Err }

// GoString keeps the ids out of %#v, too.
func (e *BatchError) GoString() string { return fmt.Sprintf("&kv.BatchError{%q}", e.Error()) }

// invalidf is an error that matches ErrInvalid.
func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// A veiled error has a text of its own in place of its cause's, which may
// hold documents, ids or secrets. The cause stays reachable.
type veiled struct {
	text  string
	cause error
}

func (e *veiled) Error() string    { return e.text }
func (e *veiled) GoString() string { return fmt.Sprintf("kv.veiled{%q}", e.text) }
func (e *veiled) Unwrap() error    { return e.cause }

// withID names the document that an error concerns. Its text is the error's.
type withID struct {
	id string
	error
}

func (e *withID) Unwrap() error { return e.error }
