package strangers

import (
	"errors"
	"slices"
)

// A Version is one state of a document. Its owner counts them.
type Version int

// Absent is that there is no document.
const Absent Version = 0

// What is wrong with a read.
var (
	ErrOlder = errors.New("older than what was acknowledged")
	ErrWrong = errors.New("nobody has written this")
)

// A Ledger is what the owner of a document, who alone writes it and makes one
// call at a time, knows of it, and so which versions a read may return:
//
//  1. The version that was acknowledged last.
//  2. Each that is in doubt: written by a call that was cut short or has
//     failed. Its command may have been on the wire, and run at any time until
//     Settle, however many newer versions have been acknowledged meanwhile.
//  3. Where 1 and 2 allow that there is none, each that was computed by a call
//     that was given up: it goes on, for as long as its lease, and stores its
//     answer only if there is no document then.
//
// Settle ends all doubts: nothing that was given up is on the wire any more,
// and one version has been acknowledged since. Every other one that is read
// afterwards is older, and a write that was acknowledged has been undone.
type Ledger struct {
	issued       Version // the last
	acknowledged Version
	doubted      []Version
	computed     []Version // since the last Settle
	computedOnce []Version // before that
}

// Issue returns the next version.
func (l *Ledger) Issue() Version {
	l.issued++
	return l.issued
}

// Acknowledge notes that the owner was told that v is stored, or that there is
// no document any more.
func (l *Ledger) Acknowledge(v Version) { l.acknowledged = v }

// Doubt notes a write of which it is not known whether it has run.
func (l *Ledger) Doubt(v Version) { l.doubted = note(l.doubted, v) }

// DoubtComputed notes a computation that was given up.
func (l *Ledger) DoubtComputed(v Version) { l.computed = note(l.computed, v) }

func note(list []Version, v Version) []Version {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// Settle ends all doubts with the version that was acknowledged. More time has
// passed since the last Settle than a lease has.
func (l *Ledger) Settle(v Version) {
	l.acknowledged, l.doubted = v, nil
	l.computedOnce, l.computed = l.computed, nil
}

// Check returns nil for a version that a read may return, or what is wrong.
func (l *Ledger) Check(v Version) error {
	switch {
	case v < Absent || v > l.issued:
		return ErrWrong
	case l.allows(v):
		return nil
	case l.allows(Absent) && (slices.Contains(l.computed, v) || slices.Contains(l.computedOnce, v)):
		return nil
	}
	return ErrOlder
}

func (l *Ledger) allows(v Version) bool {
	return v == l.acknowledged || slices.Contains(l.doubted, v)
}
