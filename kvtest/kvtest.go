// Package kvtest checks that a backend keeps the contract of [kv.Store] and of
// the optional interfaces beside it. A backend plugs in with one call:
//
//	func TestContract(t *testing.T) {
//		kvtest.Run(t, func(t *testing.T) kvtest.Harness {
//			dir := t.TempDir()
//			return kvtest.Harness{
//				Persistent: true,
//				Open: func(namespace string, ttl time.Duration) (kv.Store, error) {
//					return mystore.Open(t.Context(), dir, namespace, ttl)
//				},
//			}
//		})
//	}
//
// Each case has a harness of its own and checks one sentence of the contract;
// a failure quotes that sentence. Cases that need an optional interface, or a
// field of [Harness] that is not set, are skipped with a sentence that says so.
package kvtest

import (
	"context"
	"testing"
	"time"

	"github.com/ngraf/kv"
)

// A Harness is the private area of a backend in which one case runs. It holds
// no document when the case begins. Only Open is required.
type Harness struct {
	// Open opens a namespace of the area, with ttl as its default time to
	// live (0: for ever). Called again with the same name, it opens the same
	// documents, whether the first store is still open or not; a backend that
	// allows one open store at a time answers with kv.ErrLocked. The suite
	// closes what it opens, and always gives one namespace the same ttl.
	Open func(namespace string, ttl time.Duration) (kv.Store, error)

	// Persistent says that documents outlive Close of the last store that
	// has their namespace open.
	Persistent bool

	// MaxValueBytes is the limit that the stores were opened with; 0 stands
	// for 64 MiB. The limit itself is tested when it is at most 1 MiB.
	MaxValueBytes int64

	// Plant stores raw bytes under ids as a foreign program would, without a
	// check. It is called once, before the namespace is opened. It returns an
	// error that matches errors.ErrUnsupported if such bytes cannot stand in
	// the backend at all.
	Plant func(namespace string, raw map[string][]byte) error

	// Advance moves the clock by which documents expire. Without it the suite
	// uses times to live of less than a second and waits.
	Advance func(d time.Duration)

	// Away makes the backend unreachable for the open stores, Back makes it
	// reachable again with its documents. Set both or neither.
	Away, Back func() error

	// Patience is how long the suite waits for a call that should return
	// soon before it takes it for hung; 0 stands for 30 s.
	Patience time.Duration
}

// A Case checks one sentence of the contract.
type Case struct {
	Group    string // the method or the rule concerned, such as "Get"
	Name     string // what is checked, such as "absent id is ErrNotFound"
	Sentence string // the sentence of the contract, as the documentation of kv has it

	check func(e *env)
}

// Run runs the case. Like [testing.T.FailNow] it may end the goroutine.
func (c Case) Run(t testing.TB, h Harness) {
	t.Helper()
	if h.Open == nil {
		t.Fatalf("kvtest: the harness has no Open")
	}
	if (h.Away == nil) != (h.Back == nil) {
		t.Fatalf("kvtest: the harness has one of Away and Back; set both or neither")
	}
	if h.Patience == 0 {
		h.Patience = 30 * time.Second
	}
	if h.MaxValueBytes == 0 {
		h.MaxValueBytes = 64 << 20
	}
	// Not t.Context: it is done before the clean-up that closes the stores.
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	c.check(&env{TB: t, ctx: ctx, h: h, c: c})
}

// Cases returns every case of the suite, grouped.
func Cases() []Case {
	var all []Case
	for _, group := range []struct {
		name  string
		cases []Case
	}{
		{"Get", getCases()},
		{"GetMany", append(getManyCases(), fieldsCases()...)},
		{"Missing", missingCases()},
		{"Keys", keysCases()},
		{"Upsert", append(upsertCases(), batchCases()...)},
		{"Delete", deleteCases()},
		{"Drop", dropCases()},
		{"Flush", flushCases()},
		{"Close", closeCases()},
		{"IDs", idCases()},
		{"Values", valueCases()},
		{"Limits", limitCases()},
		{"Namespaces", namespaceCases()},
		{"Memory", memoryCases()},
		{"Context", contextCases()},
		{"Empty", emptyCases()},
		{"Errors", errorCases()},
		{"Concurrency", concurrencyCases()},
		{"Persistence", append(persistenceCases(), persistedCases()...)},
		{"Corrupt", append(corruptCases(), presentCases()...)},
		{"Away", awayCases()},
		{"Insert", append(insertCases(), insertRuleCases()...)},
		{"TTL", ttlCases()},
		{"UpsertTTL", append(upsertTTLCases(), upsertTTLRuleCases()...)},
		{"Expiry", expiryCases()},
		{"Ping", pingCases()},
		{"Stats", statsCases()},
	} {
		for _, c := range group.cases {
			c.Group = group.name
			all = append(all, c)
		}
	}
	return all
}

// Run runs every case as a subtest of t, named Group/Name, each with a fresh
// harness from newHarness, which gets the subtest's t: it may clean up with
// t.Cleanup, skip with t.Skip, and call t.Parallel.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	var groups [][]Case
	for _, c := range Cases() {
		if n := len(groups); n > 0 && groups[n-1][0].Group == c.Group {
			groups[n-1] = append(groups[n-1], c)
		} else {
			groups = append(groups, []Case{c})
		}
	}
	for _, cases := range groups {
		t.Run(cases[0].Group, func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.Name, func(t *testing.T) { c.Run(t, newHarness(t)) })
			}
		})
	}
}
