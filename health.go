package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/health"
)

// A Severity says how much a [Finding] matters.
type Severity int

const (
	SeverityInfo    Severity = iota // worth knowing
	SeverityWarning                 // will hurt some day, or has hurt already
	SeverityDanger                  // documents are being lost, or calls fail
)

// String returns info, warning or danger.
func (s Severity) String() string {
	switch s {
	case SeverityInfo:
		return "info"
	case SeverityWarning:
		return "warning"
	case SeverityDanger:
		return "danger"
	}
	return fmt.Sprintf("Severity(%d)", int(s))
}

// MarshalText makes a Severity its word in JSON and in logs.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Finding is something that [Check] has to say about where documents are
// kept. It holds no id, no value and no secret, so that it can be logged.
type Finding struct {
	Code      string // which it is, for programs, as in "redis-evicts-documents"; it never changes
	Severity  Severity
	Where     string // the server, as host:port, or the path; empty where it is the settings
	Namespace string // empty if it is not about one namespace
	Text      string // a sentence that says what was found
	Remedy    string // a sentence that says what to do
}

// A Checker looks after its own health. Both built-in backends are one.
type Checker interface {
	// Check returns what it found, in any order. That something could not be
	// looked at is a finding, too. Nothing is changed.
	Check(ctx context.Context) []Finding
}

// Healthy returns nil if s can serve, or why it cannot: the answer to a
// readiness probe. It asks as little as it can, and waits as long as ctx lets
// it: a [Pinger] is pinged, and another store is asked for an id. On Redis it
// also fails where every write would, on a replica, unless the factory is
// read-only. The json backend says whether it had to stop writing, without
// input or output. The error holds no id, no value and no secret.
func Healthy(ctx context.Context, s Store) error {
	p, ok := As[Pinger](s)
	if !ok {
		_, err := s.Missing(ctx, []string{"kv-healthy"})
		return err
	}
	if err := p.Ping(ctx); err != nil {
		return err
	}
	own, ok := p.(*store)
	if !ok || own.readonly {
		return nil
	}
	if e, ok := own.engine.(engine.Writable); ok {
		return own.fail("ping", e.Writable(ctx))
	}
	return nil
}

// Check looks at the health of what is behind s, and returns what it found,
// the gravest first: settings of a server that lose documents, a disk that is
// about to be full, values that are not JSON. Nothing is changed. It takes
// some round trips, or a look at some files, and is nothing to do before
// every call. docs/health.md lists the findings.
//
// That something could not be looked at is a finding of its own. A store that
// is no [Checker] is asked whether it answers, if it is a [Pinger].
func Check(ctx context.Context, s Store) []Finding {
	var findings []Finding
	if c, ok := As[Checker](s); ok {
		findings = c.Check(ctx)
	} else if p, ok := As[Pinger](s); ok {
		r := new(health.Report)
		r.Reach(ctx, toldOf(p.Ping(ctx)))
		findings = findingsOf(r)
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), strings.Compare(a.Code, b.Code),
			strings.Compare(a.Where, b.Where), strings.Compare(a.Namespace, b.Namespace))
	})
	return findings
}

// toldOf is err, without a text unless it is one of ours: that of another may
// hold anything.
func toldOf(err error) error {
	ours := (*Error)(nil)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ours):
		return fault.Veil(ours.Err.Error(), err)
	}
	return fault.Veil("", err)
}

// documentsExpiring notes what the configuration alone says.
func documentsExpiring(r *health.Report) {
	if r.TTL > 0 && slices.Contains([]string{"community_reports", "full_docs", "text_chunks"}, r.Namespace) {
		r.Add(health.DocumentsExpire, "Documents of %s are gone %v after they were written, and nothing makes them again", r.Namespace, r.TTL)
	}
}

// findingsOf are those of a report.
func findingsOf(r *health.Report) []Finding {
	var list []Finding
	for _, f := range r.Findings() {
		list = append(list, Finding{
			Code:      f.Code,
			Severity:  Severity(f.Severity),
			Where:     f.Where,
			Namespace: f.Namespace,
			Text:      f.Text,
			Remedy:    f.Remedy,
		})
	}
	return list
}

// Check implements [Checker].
func (s *store) Check(ctx context.Context) []Finding {
	r := &health.Report{Namespace: s.namespace, TTL: s.ttl, Now: time.Now}
	err := s.begin(ctx)
	if err == nil {
		documentsExpiring(r)
		s.engine.Check(ctx, r)
		err = s.begin(ctx)
	}
	if err != nil && !r.Has(health.CheckCutShort) {
		r.CutShort(err)
	}
	return findingsOf(r)
}

// sayFindings logs what must not wait until somebody asks: what is dangerous,
// and documents that expire. What a server or a directory is at fault for is
// said once for a factory, whichever namespace it was found with.
func (f *Factory) sayFindings(ctx context.Context, e engine.Engine, namespace string) {
	if f.opts.readonly {
		return // A tool that looks has Check.
	}
	r := &health.Report{Namespace: namespace, TTL: f.cfg.ttlFor(namespace), Now: time.Now, Opening: true}
	documentsExpiring(r)
	e.Check(ctx, r)
	for _, finding := range findingsOf(r) {
		expire := finding.Code == health.DocumentsExpire.About().Name
		if finding.Severity < SeverityDanger && !expire || !f.firstToSay(finding) {
			continue
		}
		level := slog.LevelError
		if finding.Severity < SeverityDanger {
			level = slog.LevelWarn
		}
		f.opts.logger.Log(ctx, level, "kv: "+finding.Text, "code", finding.Code, "severity", finding.Severity.String(),
			"where", finding.Where, "namespace", finding.Namespace, "remedy", finding.Remedy)
	}
}

func (f *Factory) firstToSay(finding Finding) bool {
	key := [3]string{finding.Code, finding.Where}
	if finding.Where == "" {
		key[2] = finding.Namespace
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.said[key] {
		return false
	}
	f.said[key] = true
	return true
}
