package kvtest_test

import (
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvtest"
)

func TestGoodStorePasses(t *testing.T) {
	kvtest.Run(t, func(*testing.T) kvtest.Harness {
		return newArea().harness(func(m *mem) kv.Store { return m })
	})
}

// A backend with the nine methods alone and a harness with the one field that
// is required passes too: what it lacks is skipped.
func TestBareStorePasses(t *testing.T) {
	skipped := 0
	for _, c := range kvtest.Cases() {
		full := newArea().harness(func(m *mem) kv.Store { return struct{ kv.Store }{m} })
		r := runCase(t, c, kvtest.Harness{Open: full.Open, MaxValueBytes: maxValue, Advance: full.Advance})
		assert.Empty(t, r.failures, "%s/%s", c.Group, c.Name)
		if r.skip != "" {
			skipped++
		}
	}
	assert.NotZero(t, skipped)
	assert.Less(t, skipped, len(kvtest.Cases())/2)
}

// Without a clock that can be moved the suite waits in real time, and with the
// usual limit of values it tries large ones.
func TestWrapperPasses(t *testing.T) {
	kvtest.Run(t, func(*testing.T) kvtest.Harness {
		a := newArea()
		a.now, a.max = time.Time{}, 64<<20
		return a.harness(func(m *mem) kv.Store { return wrapper{m} })
	})
}

// A wrapper hides all but the nine methods, save from kv.As.
type wrapper struct{ kv.Store }

func (w wrapper) Unwrap() kv.Store { return w.Store }

func TestCaseNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range kvtest.Cases() {
		name := c.Group + "/" + c.Name
		assert.False(t, seen[name], name)
		assert.NotContains(t, c.Name, "/", name)
		seen[name] = true
	}
	t.Logf("%d cases", len(seen))
}

// unchecked are the sentences of the contract that no case can check from
// outside, or that only define a word.
func unchecked() []string {
	return []string{
		"These rules hold for every method:",
		"A write that was cut short this way may have been applied, or be applied later if it was on the wire by then, but not otherwise.",
		"The suite in the package kvtest checks each sentence of this contract.",
		"Memory is bounded by a page of ids, except for what it takes to suppress repeats on a backend that has them.",
		"An error that concerns only part of the items carries a *BatchError.",
		"If a reply is lost on the way, the count is unknown and the error matches ErrOutcomeUnknown; no document was replaced in any case.",
		"It costs a few loads, and no input or output.",
	}
}

// Every sentence that a case quotes stands in the documentation of kv, and
// every sentence there has a case.
func TestSentences(t *testing.T) {
	contract := map[string]bool{}
	for _, s := range sentences(t, "../kv.go", "Store", "Pinger", "Inserter", "Expirer", "Statser") {
		contract[s] = true
	}
	for _, s := range unchecked() {
		assert.Contains(t, contract, s, "a sentence listed as unchecked is not in the documentation")
		delete(contract, s)
	}
	checked := map[string]bool{}
	for _, c := range kvtest.Cases() {
		checked[c.Sentence] = true
	}
	for s := range contract {
		assert.Contains(t, checked, s, "a sentence of the contract has no case")
	}
	for _, s := range sentences(t, "../errors.go") {
		contract[s] = true
	}
	for s := range checked {
		assert.Contains(t, contract, s, "a case quotes a sentence that is not in the documentation")
	}
}

// sentences returns those in the comments of a file: on the methods of the
// named interfaces, and on the Store itself; all of them if none is named.
func sentences(t *testing.T, file string, interfaces ...string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	require.NoError(t, err)
	var texts []string
	if len(interfaces) == 0 {
		for _, c := range f.Comments {
			texts = append(texts, c.Text())
		}
	}
	for _, name := range interfaces {
		spec := f.Scope.Lookup(name).Decl.(*ast.TypeSpec)
		for _, m := range spec.Type.(*ast.InterfaceType).Methods.List {
			texts = append(texts, m.Doc.Text())
		}
	}
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && len(interfaces) > 0 && len(g.Specs) == 1 {
			if s, ok := g.Specs[0].(*ast.TypeSpec); ok && s.Name.Name == "Store" {
				texts = append(texts, g.Doc.Text())
			}
		}
	}
	var all []string
	for _, text := range texts {
		var p comment.Parser
		p.LookupSym = func(string, string) bool { return true }
		printed := string((&comment.Printer{TextWidth: -1}).Text(p.Parse(text)))
		for _, block := range strings.Split(printed, "\n") {
			block = strings.TrimPrefix(strings.TrimSpace(block), "- ")
			for _, s := range strings.SplitAfter(block, ". ") {
				if s = strings.TrimSpace(s); s != "" {
					all = append(all, s)
				}
			}
		}
	}
	return all
}

// A recorder notes what a case reports in place of failing the test.
type recorder struct {
	testing.TB // for what is not overridden
	mu         sync.Mutex
	failures   []string
	skip       string
	panicked   any
	cleanups   []func()
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.skip = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// runCase runs a case in a goroutine of its own, as package testing does.
func runCase(t *testing.T, c kvtest.Case, h kvtest.Harness) *recorder {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { r.panicked = recover() }()
		c.Run(r, h)
	}()
	<-done
	for len(r.cleanups) > 0 {
		f := r.cleanups[len(r.cleanups)-1]
		r.cleanups = r.cleanups[:len(r.cleanups)-1]
		f()
	}
	return r
}
