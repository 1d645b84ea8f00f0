// Package kvmove moves documents between stores of any kind, and to files and
// back: [Migrate] and [Verify] have two stores, [Export] and [Import] a stream.
//
// Stores of the built-in backends are read and written in pages, with times to
// live and in one step where they can. Of any other, the methods of [kv.Store]
// are enough, and a [kv.Expirer] keeps times to live; a wrapper counts as
// another, so that whatever it does is done.
//
// An error is a [*kv.Error] with the Op "migrate", "verify", "export" or
// "import", and matches what its cause matches.
package kvmove

import (
	"cmp"
	"errors"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/move"
)

// sideOf is s for those who move documents; nil for none.
func sideOf(s kv.Store) *move.Side {
	d := move.SideOf(s)
	if d != nil {
		d.Cause = causeOf
	}
	return d
}

// causeOf is the text of an error without the call that failed.
func causeOf(err error) string {
	if e, ok := err.(*kv.Error); ok { //nolint:errorlint // Only the outermost is left out.
		return e.Err.Error()
	}
	return err.Error()
}

// failed makes one *kv.Error of what calls of stores returned; nil stays nil.
func failed(op, namespace string, err error) error {
	if err == nil {
		return nil
	}
	e := &kv.Error{Op: op, Namespace: namespace, Err: err}
	var inner *kv.Error
	var named *fault.IDError
	switch {
	case errors.As(err, &inner):
		e.ID = inner.ID
	case errors.As(err, &named):
		e.ID = named.ID
	}
	return e
}

// failedStream is failed for calls that have one store at a time, whose name
// of the call and the namespace need not be said twice.
func failedStream(op, namespace string, err error) error {
	if err == nil {
		return nil
	}
	return failed(op, namespace, fault.Veil(causeOf(err), err))
}

// both joins two errors, if there are two.
func both(a, b error) error {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	return errors.Join(a, b)
}
