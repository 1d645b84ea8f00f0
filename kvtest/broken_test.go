package kvtest_test

import (
	"context"
	"encoding/json"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvtest"
)

// A broken store breaks the contract in one way.
type broken struct {
	name string
	wrap func(m *mem) kv.Store
	// large are the beginnings of the names of those cases that take long, or
	// depend on chance, that are run all the same.
	large string
	// max is the limit of values, if it is not maxValue.
	max int
}

// breakage joins the brokens of all files.
func breakage() []broken {
	return slices.Concat(brokenReads(), brokenMissing(), brokenFields(), brokenFieldValues(), brokenKeys(), brokenIDs(), brokenValues(), brokenWrites(),
		brokenDeletes(), brokenDrops(), brokenLives(), brokenCloses(), brokenRules(), brokenErrors(), brokenInserts(), brokenRest())
}

// isLarge reports whether a case takes long or depends on chance.
func isLarge(name string) bool {
	for _, s := range []string{"10,000", "the limit", "100000", "long member", "whatever else", "left early", "leave early",
		"ends the sequence", "16 MiB", "goroutine", "Concurrency"} {
		if strings.Contains(name, s) {
			return true
		}
	}
	return false
}

// expectations is the file that lists, for each broken store, the cases that
// must fail on it. KVTEST_UPDATE=1 writes it anew; read the difference.
const expectations = "testdata/broken.txt"

// Each broken store fails exactly the cases that are about what it breaks, and
// each case fails on some broken store: there is none that cannot fail.
func TestBrokenStores(t *testing.T) {
	want := readExpectations(t)
	var mu sync.Mutex
	got := map[string][]string{}
	t.Run("stores", func(t *testing.T) {
		for _, b := range breakage() {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel()
				failed := b.run(t)
				assert.NotEmpty(t, failed)
				if os.Getenv("KVTEST_UPDATE") == "" {
					assert.Equal(t, want[b.name], failed)
				}
				mu.Lock()
				defer mu.Unlock()
				got[b.name] = failed
			})
		}
	})
	if os.Getenv("KVTEST_UPDATE") != "" {
		writeExpectations(t, got)
	}
	caught := map[string]bool{}
	for _, failed := range got {
		for _, name := range failed {
			caught[name] = true
		}
	}
	for _, c := range kvtest.Cases() {
		name := c.Group + "/" + c.Name
		assert.True(t, caught[name], "no broken store fails %s", name)
	}
	assert.Len(t, want, len(got), "the file of expectations lists other stores")
}

// run returns the names of the cases that fail.
func (b broken) run(t *testing.T) (failed []string) {
	for _, c := range kvtest.Cases() {
		name := c.Group + "/" + c.Name
		wanted := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if isLarge(name) && (b.large == "" || !slices.ContainsFunc(strings.Split(b.large, "; "), wanted)) {
			continue
		}
		a := newArea()
		if b.max != 0 {
			a.max = b.max
		}
		r := runCase(t, c, a.harness(b.wrap))
		assert.Nil(t, r.panicked, name)
		if len(r.failures) == 0 {
			continue
		}
		failed = append(failed, name)
		assert.True(t, strings.HasPrefix(r.failures[0], "contract: "+c.Sentence+"\n     got: "), r.failures[0])
	}
	return failed
}

func readExpectations(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(expectations)
	require.NoError(t, err)
	want := map[string][]string{}
	store := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "\t"); ok {
			want[store] = append(want[store], name)
		} else {
			store = line
		}
	}
	return want
}

func writeExpectations(t *testing.T, got map[string][]string) {
	t.Helper()
	var text strings.Builder
	for _, b := range breakage() {
		text.WriteString(b.name + "\n")
		for _, name := range got[b.name] {
			text.WriteString("\t" + name + "\n")
		}
	}
	require.NoError(t, os.WriteFile(expectations, []byte(text.String()), 0o600))
}

// An override is a good store but for the methods that are set.
type override struct {
	*mem
	get       func(ctx context.Context, id string) (json.RawMessage, error)
	getMany   func(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error)
	missing   func(ctx context.Context, ids []string) ([]string, error)
	keys      func(ctx context.Context) iter.Seq2[string, error]
	upsert    func(ctx context.Context, items map[string]json.RawMessage) error
	remove    func(ctx context.Context, ids ...string) (int, error)
	drop      func(ctx context.Context) error
	flush     func(ctx context.Context) error
	close     func() error
	insert    func(ctx context.Context, items map[string]json.RawMessage) (int, error)
	ttlOf     func(ctx context.Context, id string) (time.Duration, error)
	upsertTTL func(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error
	statsOf   func(ctx context.Context) (kv.Stats, error)
	ping      func(ctx context.Context) error
}

func (o *override) Get(ctx context.Context, id string) (json.RawMessage, error) {
	if o.get != nil {
		return o.get(ctx, id)
	}
	return o.mem.Get(ctx, id)
}

func (o *override) GetMany(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
	if o.getMany != nil {
		return o.getMany(ctx, ids, fields...)
	}
	return o.mem.GetMany(ctx, ids, fields...)
}

func (o *override) Missing(ctx context.Context, ids []string) ([]string, error) {
	if o.missing != nil {
		return o.missing(ctx, ids)
	}
	return o.mem.Missing(ctx, ids)
}

func (o *override) Keys(ctx context.Context) iter.Seq2[string, error] {
	if o.keys != nil {
		return o.keys(ctx)
	}
	return o.mem.Keys(ctx)
}

func (o *override) Upsert(ctx context.Context, items map[string]json.RawMessage) error {
	if o.upsert != nil {
		return o.upsert(ctx, items)
	}
	return o.mem.Upsert(ctx, items)
}

func (o *override) Delete(ctx context.Context, ids ...string) (int, error) {
	if o.remove != nil {
		return o.remove(ctx, ids...)
	}
	return o.mem.Delete(ctx, ids...)
}

func (o *override) Drop(ctx context.Context) error {
	if o.drop != nil {
		return o.drop(ctx)
	}
	return o.mem.Drop(ctx)
}

func (o *override) Flush(ctx context.Context) error {
	if o.flush != nil {
		return o.flush(ctx)
	}
	return o.mem.Flush(ctx)
}

func (o *override) Close() error {
	if o.close != nil {
		return o.close()
	}
	return o.mem.Close()
}

func (o *override) Insert(ctx context.Context, items map[string]json.RawMessage) (int, error) {
	if o.insert != nil {
		return o.insert(ctx, items)
	}
	return o.mem.Insert(ctx, items)
}

func (o *override) TTL(ctx context.Context, id string) (time.Duration, error) {
	if o.ttlOf != nil {
		return o.ttlOf(ctx, id)
	}
	return o.mem.TTL(ctx, id)
}

func (o *override) UpsertTTL(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
	if o.upsertTTL != nil {
		return o.upsertTTL(ctx, items, ttl)
	}
	return o.mem.UpsertTTL(ctx, items, ttl)
}

func (o *override) Stats(ctx context.Context) (kv.Stats, error) {
	if o.statsOf != nil {
		return o.statsOf(ctx)
	}
	return o.mem.Stats(ctx)
}

func (o *override) Ping(ctx context.Context) error {
	if o.ping != nil {
		return o.ping(ctx)
	}
	return o.mem.Ping(ctx)
}
