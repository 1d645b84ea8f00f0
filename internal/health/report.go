// Package health has what a check of a backend can find, and the report that
// collects it. docs/health.md has the table of findings.
package health

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ngraf/kv/internal/fault"
)

// A Finding is something that a check has to say. kv documents the fields.
type Finding struct {
	Code      string
	Severity  Severity
	Where     string
	Namespace string
	Text      string
	Remedy    string
}

// A Report collects the findings of one namespace.
type Report struct {
	Namespace string
	TTL       time.Duration // of new documents
	Opening   bool          // only what takes a glance: somebody waits for Open
	Now       func() time.Time
	Where     string // the server or file that Add speaks of

	findings []Finding
}

// Findings returns what was found so far.
func (r *Report) Findings() []Finding { return r.findings }

// At returns a report on a part of the whole, to be joined later.
func (r *Report) At(where string) *Report {
	part := *r
	part.Where, part.findings = where, nil
	return &part
}

// Join adds what a report on a part has found.
func (r *Report) Join(part *Report) { r.findings = append(r.findings, part.findings...) }

// Add notes a finding. The text has no full stop yet.
func (r *Report) Add(code Code, format string, args ...any) {
	about := code.About()
	f := Finding{
		Code:     about.Name,
		Severity: about.Severity,
		Where:    r.Where,
		Text:     fmt.Sprintf(format, args...) + ".",
		Remedy:   about.Remedy,
	}
	if about.Namespace {
		f.Namespace = r.Namespace
	}
	r.findings = append(r.findings, f)
}

// Has reports whether there is a finding of this code.
func (r *Report) Has(code Code) bool {
	for _, f := range r.findings {
		if f.Code == code.About().Name {
			return true
		}
	}
	return false
}

// Reach notes why a backend or a part of it could not be looked at, if err is
// not nil. The text of an error that is not ours may hold anything, so who
// passes one on veils it with none.
func (r *Report) Reach(ctx context.Context, err error) {
	switch {
	case err == nil:
	case fault.ContextError(ctx) != nil, errors.Is(err, fault.ErrClosed):
		r.CutShort(err)
	case err.Error() == "":
		r.Add(Unavailable, "The backend does not answer")
	default:
		r.Add(Unavailable, "The backend does not answer: %v", err)
	}
}

// CutShort notes that the check ended early.
func (r *Report) CutShort(err error) {
	why := "the context was done"
	if errors.Is(err, fault.ErrClosed) {
		why = "the store is closed"
	}
	r.Add(CheckCutShort, "Not everything was looked at, because %s", why)
}
