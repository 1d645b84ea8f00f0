package kv

import (
	"errors"
	"fmt"

	"github.com/ngraf/kv/internal/fault"
)

// The kinds of failure. Errors of this package are [*Error] values that match
// one of these with errors.Is, or the error of the context that ended the
// call, or neither if the cause speaks for itself.
var (
	// ErrNotFound: there is no document with this id.
	ErrNotFound = fault.ErrNotFound // "not found"
	// ErrClosed: the store or its factory has been closed.
	ErrClosed = fault.ErrClosed // "store is closed"
	// ErrUnavailable: the backend cannot serve now; the same call may succeed
	// later.
	ErrUnavailable = fault.ErrUnavailable // "backend unavailable"
	// ErrCorrupt: what is stored is not what this package or its Python
	// original would have stored. Nothing was changed.
	ErrCorrupt = fault.ErrCorrupt // "corrupt data"
	// ErrInvalid: the input or the configuration breaks a rule. Nothing was
	// written.
	ErrInvalid = fault.ErrInvalid // "invalid"
	// ErrLocked: another process, or another factory of this one, has the
	// namespace open.
	ErrLocked = fault.ErrLocked // "locked"
	// ErrOutcomeUnknown: the write may or may not have been applied, and
	// repeating it may give another answer.
	ErrOutcomeUnknown = fault.ErrOutcomeUnknown // "outcome unknown"
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

// public makes the types of this package of what an engine reports; nil stays
// nil.
func public(err error) error {
	p := (*fault.Partial)(nil)
	if !errors.As(err, &p) {
		return err
	}
	if errors.Is(err, ErrOutcomeUnknown) && !errors.Is(p.Err, ErrOutcomeUnknown) {
		return fault.Unknown((*BatchError)(p))
	}
	return (*BatchError)(p)
}
