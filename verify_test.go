package kv

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/digest"
	"github.com/ngraf/kv/internal/move"
	"github.com/ngraf/kv/internal/redistest"
)

// Verify lists each kind of difference once, and sums up both sides.
func TestVerify(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	a, b := openFiles(t, t.TempDir(), "docs"), openRedisStore(t, redisCfg(server.URL()), "docs")
	have(t, a, docs{"same": `{"a": "\u00e9"}`, "mine": "1", "value": "1.0", "ttl": "1", "list": "1"})
	have(t, b, docs{"same": `{"a":"é"}`, "yours": "1", "value": "1", "nan": "1"})
	one := map[string]json.RawMessage{"ttl": json.RawMessage("1")}
	require.NoError(t, b.UpsertTTL(ctx, one, time.Hour))
	require.NoError(t, server.Client().LPush(ctx, "nano_graphrag:docs:list", "x").Err())
	require.NoError(t, server.Client().Set(ctx, "nano_graphrag:docs:nan", "NaN", 0).Err())
	r, err := Verify(ctx, a, b)
	require.NoError(t, err)
	require.ElementsMatch(t, []Difference{
		{"mine", OnlyInA}, {"yours", OnlyInB}, {"value", OtherValue}, {"ttl", OtherTTL}, {"list", Unreadable}, {"nan", Unreadable},
	}, r.Differences)
	require.Equal(t, 5, r.A.Documents)
	require.Equal(t, 4, r.B.Documents)
	require.NotEqual(t, r.A.Digest, r.B.Digest)

	// The other way round, what is only on one side changes its side.
	r, err = Verify(ctx, b, a)
	require.NoError(t, err)
	require.Contains(t, r.Differences, Difference{"yours", OnlyInA})
	require.Len(t, r.Differences, 6)

	// A store without times to live has no other ones.
	r, err = Verify(ctx, newPlain(docs{"ttl": "1"}), newPlain(docs{"ttl": "1"}))
	require.NoError(t, err)
	require.Empty(t, r.Differences)
	require.Equal(t, r.A, r.B)

	require.NoError(t, b.Close())
	_, err = Verify(ctx, a, b)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorContains(t, err, "kv: verify docs: the second store: ")
}

// The digest does not depend on order, layout and escapes, and does on ids,
// values and how often a document comes.
func TestDigestOfDocuments(t *testing.T) {
	t.Parallel()
	list := docs{}
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
		return Contents(move.ContentsOf(&d))
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
