package move

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A time to live that has run out since it was read counts as expired, and of
// the others what has passed is taken off, to no less than a millisecond.
func TestMigrateExpired(t *testing.T) {
	t.Parallel()
	var m migration
	page := PageOf{At: time.Now().Add(-10 * time.Second)}
	for _, ttl := range []time.Duration{0, time.Second, 20 * time.Second} {
		page.Docs = append(page.Docs, Moved{Item: engine.Item{ID: "a", Value: json.RawMessage("1"), TTL: ttl}})
	}
	page.Docs = append(page.Docs, Moved{Item: engine.Item{ID: "b"}, Err: fault.ErrNotFound})
	docs := m.sound(page)
	require.Equal(t, 2, m.Report.Expired)
	require.Len(t, docs, 2)
	require.Zero(t, docs[0].TTL)
	require.InDelta(t, 10*time.Second, docs[1].TTL, float64(5*time.Second))
	require.Equal(t, time.Millisecond, Moved{Item: engine.Item{TTL: time.Millisecond}}.After(time.Microsecond).TTL)
}

// What lives practically for ever has no other time to live than what lives
// practically for ever, too, however long ago it was copied.
func TestVerifyLongLives(t *testing.T) {
	const year = 365 * 24 * time.Hour
	require.True(t, sameTTL(math.MaxInt64, math.MaxInt64-50*year, 0))
	require.True(t, sameTTL(math.MaxInt64-50*year, math.MaxInt64, 0))
	require.True(t, sameTTL(0, math.MaxInt64-50*year, math.MaxInt64))
	require.True(t, sameTTL(0, time.Hour, math.MaxInt64))
	require.False(t, sameTTL(math.MaxInt64, 100*year, 0))
	require.False(t, sameTTL(math.MaxInt64, 0, 0))
	require.False(t, sameTTL(0, math.MaxInt64, 0))
}

// Pages have a bound in bytes: exact where the sizes are known, and learnt
// from the pages before where not.
func TestReadIsBounded(t *testing.T) {
	t.Parallel()
	e, err := jsonstore.Open(t.Context(), jsonstore.Options{Dir: t.TempDir(), Namespace: "docs", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	s := sideStore{enginetest.Wrap(e)}
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	items := make(map[string]json.RawMessage)
	for i := range 8 {
		items[fmt.Sprintf("big-%02d", i)] = json.RawMessage(`"` + strings.Repeat("x", 2<<20) + `"`)
		items[fmt.Sprintf("small-%02d", i)] = json.RawMessage("1")
	}
	require.NoError(t, s.UpsertTTL(t.Context(), items, 0))
	sized := &Side{
		Store: s, Expirer: s, Engine: e,
		Begin: func(context.Context, bool) error { return nil },
		Fail:  func(_ string, err error) error { return err },
		Cause: error.Error,
	}
	for name, side := range map[string]*Side{"sized": sized, "plain": {Store: s, Cause: error.Error}} {
		n := 0
		for p, err := range readAhead(t.Context(), side, side.Pages(t.Context())) {
			require.NoError(t, err)
			bytes := 0
			for _, d := range p.Docs {
				bytes += len(d.Value)
			}
			require.LessOrEqual(t, bytes, BulkBytes+1<<20, name)
			n += len(p.Docs)
		}
		require.Equal(t, 16, n, name)
	}
}

// A sideStore is a store over an engine as those of kv are.
type sideStore struct{ *enginetest.Store }

func (s sideStore) GetMany(ctx context.Context, ids []string, _ ...string) ([]json.RawMessage, error) {
	return s.Store.GetMany(ctx, ids)
}

// Newer chunks have ids of document and content.
func TestPythonIDs(t *testing.T) {
	for _, c := range []struct{ namespace, value, id string }{
		{"full_docs", `{"content":"x"}`, "doc-9dd4e461268c8034f5c8564e155c67a6"},
		{"full_docs", `{"content":"\u0078"}`, "doc-9dd4e461268c8034f5c8564e155c67a6"},
		{"text_chunks", `{"content":"x","doc_id":"d"}`, "chunk-" + md5Hex("d::x")},
		{"text_chunks", `{"content":"x","full_doc_id":"d"}`, "chunk-9dd4e461268c8034f5c8564e155c67a6"},
		{"community_reports", `{"title":"Cluster 12"}`, "12"},
		{"community_reports", `{"title":"Cluster 012"}`, ""},
		{"community_reports", `{"title":"Cluster -1"}`, ""},
		{"community_reports", `{"title":"Cluster 1 and more"}`, ""},
		{"community_reports", `{"title":"Something else"}`, ""},
		{"full_docs", `{"text":"x"}`, ""},
		{"full_docs", `[1]`, ""},
		{"llm_response_cache", `{"return":"x","model":"m"}`, ""},
	} {
		id, ok := pythonID(c.namespace, json.RawMessage(c.value))
		assert.Equal(t, c.id != "", ok, c.value)
		if ok {
			assert.Equal(t, c.id, id, c.value)
		}
	}
}

// The digest does not depend on order, layout and escapes, and does on ids,
// values and how often a document comes.
func TestDigestOfDocuments(t *testing.T) {
	t.Parallel()
	list := map[string]string{}
	for i := range 50 {
		list[fmt.Sprint(i)] = fmt.Sprintf(`{"n": %d}`, i)
	}
	sum := func(ids []string, change func(id, value string) (string, string)) Contents {
		var d digest.Set
		var s digest.Spelling
		for _, id := range ids {
			id, value := change(id, list[id])
			d.Add(s.Hash(id, []byte(value)))
		}
		return contentsOf(&d)
	}
	same := func(id, value string) (string, string) { return id, value }
	ids := slices.Sorted(maps.Keys(list))
	want := sum(ids, same)
	require.Len(t, want.Digest, 64)
	require.Equal(t, 50, want.Documents)
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	require.Equal(t, want, sum(ids, same))
	require.Equal(t, want, sum(ids, func(id, value string) (string, string) { return id, "{ \"\\u006e\" :" + value[5:] }))
	require.NotEqual(t, want.Digest, sum(ids, func(id, value string) (string, string) { return id + "x", value }).Digest)
	require.NotEqual(t, want.Digest, sum(append(ids, "1", "1"), same).Digest)
	swapped := func(id, value string) (string, string) {
		switch id {
		case "1":
			return "2", value
		case "2":
			return "1", value
		}
		return id, value
	}
	require.NotEqual(t, want.Digest, sum(ids, swapped).Digest)
	require.Equal(t, Contents{Digest: fmt.Sprintf("%064d", 0)}, sum(nil, same))
}
