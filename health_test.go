package kv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/health"
	"github.com/ngraf/kv/internal/testkit"
)

// planted stands in ids, values and passwords, and must not be in a finding.
const planted = "GEHEIM"

// found checks a store, and each finding by the rules for all of them. It
// returns the codes.
func found(t *testing.T, s kv.Store) []string {
	t.Helper()
	return sound(t, kv.Check(t.Context(), s))
}

func sound(t *testing.T, list []kv.Finding) []string {
	t.Helper()
	codes := []string{}
	last := kv.SeverityDanger
	for _, f := range list {
		codes = append(codes, f.Code)
		i := slices.IndexFunc(health.Table[:], func(a health.About) bool { return a.Name == f.Code })
		require.GreaterOrEqual(t, i, 0, f.Code)
		require.Equal(t, kv.Severity(health.Table[i].Severity), f.Severity, f.Code)
		require.Equal(t, health.Table[i].Namespace, f.Namespace != "", f.Code)
		require.Regexp(t, `^[A-Z][^\n]*[^.]\.$`, f.Text)
		require.Regexp(t, `^[A-Z][^\n]*[^.]\.$`, f.Remedy)
		require.NotContains(t, fmt.Sprintf("%+v", f), planted)
		require.LessOrEqual(t, f.Severity, last, "the gravest come first")
		last = f.Severity
	}
	return codes
}

// A Severity is its word wherever it is printed.
func TestSeverity(t *testing.T) {
	text, err := json.Marshal([]kv.Severity{kv.SeverityInfo, kv.SeverityWarning, kv.SeverityDanger})
	require.NoError(t, err)
	require.Equal(t, `["info","warning","danger"]`, string(text))
	require.Equal(t, "Severity(9)", kv.Severity(9).String())
}

type checkedStore struct {
	kv.Store
	findings []kv.Finding
}

func (s checkedStore) Check(context.Context) []kv.Finding { return slices.Clone(s.findings) }

type pingedStore struct {
	kv.Store
	err error
}

func (s pingedStore) Ping(context.Context) error { return s.err }

type wrappedStore struct{ kv.Store }

func (w wrappedStore) Unwrap() kv.Store { return w.Store }

// Check finds a Checker through wrappers, sorts what it says, makes do with a
// Pinger, and has nothing to say of other stores.
func TestCheckOfOtherStores(t *testing.T) {
	a := kv.Finding{Code: "a", Severity: kv.SeverityInfo}
	b := kv.Finding{Code: "b", Severity: kv.SeverityDanger, Where: "2"}
	c := kv.Finding{Code: "b", Severity: kv.SeverityDanger, Where: "1"}
	s := checkedStore{findings: []kv.Finding{a, b, c}}
	require.Equal(t, []kv.Finding{c, b, a}, kv.Check(t.Context(), wrappedStore{wrappedStore{s}}))
	require.Equal(t, []kv.Finding{a, b, c}, s.findings)
	require.Empty(t, kv.Check(t.Context(), wrappedStore{nil}))

	require.Empty(t, found(t, wrappedStore{pingedStore{}}))
	down := kv.Check(t.Context(), wrappedStore{pingedStore{err: errors.New("no route for " + planted)}})
	require.Equal(t, []string{"unavailable"}, sound(t, down))
	down = kv.Check(t.Context(), pingedStore{err: &kv.Error{Op: "ping", ID: planted, Err: fault.Unavailablef("the disk is away")}})
	require.Equal(t, []string{"unavailable"}, sound(t, down))
	require.Contains(t, down[0].Text, "the disk is away")
}

// That nothing could be looked at is a finding: it is no sign of health.
func TestCheckCutShort(t *testing.T) {
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, []string{"check-cut-short"}, sound(t, kv.Check(ctx, s)))
	require.NoError(t, s.Close())
	closed := kv.Check(t.Context(), s)
	require.Equal(t, []string{"check-cut-short"}, sound(t, closed))
	require.Contains(t, closed[0].Text, "closed")
}

// Documents that nothing makes again and that expire are a warning, on both
// backends, and are said when the namespace is opened (interop.md, fault 22).
func TestCheckDocumentsExpire(t *testing.T) {
	for _, tt := range []struct {
		namespace string
		ttl       map[string]time.Duration
		want      bool
	}{
		{"community_reports", nil, false},
		{"community_reports", map[string]time.Duration{"community_reports": 24 * time.Hour}, true},
		{"community_reports", map[string]time.Duration{"community_reports": 0}, false},
		{"full_docs", nil, false},
		{"full_docs", map[string]time.Duration{"full_docs": time.Hour}, true},
		{"llm_response_cache", nil, false},
	} {
		book := new(testkit.LogBook)
		f, err := kv.NewFactory(kv.Config{WorkingDir: t.TempDir(), TTL: tt.ttl}, kv.WithLogger(book.Logger()))
		require.NoError(t, err)
		for range 2 {
			s, err := f.Open(t.Context(), tt.namespace)
			require.NoError(t, err)
			require.Equal(t, tt.want, slices.Contains(found(t, s), "documents-expire"), tt)
			require.NoError(t, s.Close())
		}
		want := 0
		if tt.want {
			want = 1
		}
		require.Equal(t, want, strings.Count(book.Text(), "level=WARN"), book.Text())
		require.Equal(t, want, strings.Count(book.Text(), "code=documents-expire severity=warning"), book.Text())
		require.NoError(t, f.Close())
	}
}

// What is a namespace's own is said for each.
func TestOpenSaysForEachNamespace(t *testing.T) {
	book := new(testkit.LogBook)
	f, err := kv.NewFactory(kv.Config{WorkingDir: t.TempDir(), TTL: map[string]time.Duration{"full_docs": time.Hour, "community_reports": time.Hour}}, kv.WithLogger(book.Logger()))
	require.NoError(t, err)
	defer f.Close()
	for _, namespace := range []string{"full_docs", "community_reports"} {
		_, err := f.Open(t.Context(), namespace)
		require.NoError(t, err)
	}
	require.Len(t, book.Warnings(), 2, book.Text())
}
