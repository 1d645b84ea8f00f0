package strangers

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What a read may return after each history, and what is wrong with all else.
func TestLedger(t *testing.T) {
	for name, tc := range map[string]struct {
		history func(l *Ledger)
		right   []Version
		older   []Version
	}{
		"nothing yet": {func(*Ledger) {}, []Version{Absent}, nil},
		"acknowledged": {func(l *Ledger) {
			l.Acknowledge(l.Issue())
			l.Acknowledge(l.Issue())
		}, []Version{2}, []Version{Absent, 1}},
		"refused": {func(l *Ledger) {
			l.Acknowledge(l.Issue())
			l.Issue()
		}, []Version{1}, []Version{Absent, 2}},
		"cut short": {func(l *Ledger) {
			l.Acknowledge(l.Issue())
			l.Doubt(l.Issue())
		}, []Version{1, 2}, []Version{Absent}},
		"cut short, on the wire while a newer one was acknowledged": {func(l *Ledger) {
			l.Acknowledge(l.Issue())
			l.Doubt(l.Issue())
			l.Acknowledge(l.Issue())
		}, []Version{2, 3}, []Version{Absent, 1}},
		"removed": {func(l *Ledger) {
			l.Acknowledge(l.Issue())
			l.Acknowledge(Absent)
		}, []Version{Absent}, []Version{1}},
		"a removal cut short": {func(l *Ledger) {
			l.Acknowledge(l.Issue())
			l.Doubt(Absent)
			l.Acknowledge(l.Issue())
		}, []Version{Absent, 2}, []Version{1}},
		"computed, given up, and there is a document": {func(l *Ledger) {
			l.DoubtComputed(l.Issue())
			l.Acknowledge(l.Issue())
		}, []Version{2}, []Version{Absent, 1}},
		"computed, given up, and removed": {func(l *Ledger) {
			l.DoubtComputed(l.Issue())
			l.Acknowledge(l.Issue())
			l.Acknowledge(Absent)
		}, []Version{Absent, 1}, []Version{2}},
		"computed, given up, and perhaps removed": {func(l *Ledger) {
			l.DoubtComputed(l.Issue())
			l.Acknowledge(l.Issue())
			l.Doubt(Absent)
		}, []Version{Absent, 1, 2}, nil},
		"settled": {func(l *Ledger) {
			l.Doubt(l.Issue())
			l.Doubt(Absent)
			l.DoubtComputed(l.Issue())
			l.Settle(l.Issue())
		}, []Version{3}, []Version{Absent, 1, 2}},
		"computed before the last Settle, removed since": {func(l *Ledger) {
			l.DoubtComputed(l.Issue())
			l.Settle(l.Issue())
			l.Acknowledge(Absent)
		}, []Version{Absent, 1}, []Version{2}},
		"computed before two": {func(l *Ledger) {
			l.DoubtComputed(l.Issue())
			l.Settle(l.Issue())
			l.Settle(l.Issue())
			l.Acknowledge(Absent)
		}, []Version{Absent}, []Version{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			var l Ledger
			tc.history(&l)
			for _, v := range tc.right {
				require.NoError(t, l.Check(v), "version %d", v)
			}
			for _, v := range tc.older {
				require.ErrorIs(t, l.Check(v), ErrOlder, "version %d", v)
			}
			require.Len(t, tc.right, int(l.issued)+1-len(tc.older), "each version is one or the other")
			require.ErrorIs(t, l.Check(l.issued+1), ErrWrong)
			require.ErrorIs(t, l.Check(-1), ErrWrong)
		})
	}
}
