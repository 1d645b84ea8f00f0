package kvmove_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvmove"
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
	r, err := kvmove.Verify(ctx, a, b)
	require.NoError(t, err)
	require.ElementsMatch(t, []kvmove.Difference{
		{"mine", kvmove.OnlyInA}, {"yours", kvmove.OnlyInB}, {"value", kvmove.OtherValue}, {"ttl", kvmove.OtherTTL}, {"list", kvmove.Unreadable}, {"nan", kvmove.Unreadable},
	}, r.Differences)
	require.Equal(t, 5, r.A.Documents)
	require.Equal(t, 4, r.B.Documents)
	require.NotEqual(t, r.A.Digest, r.B.Digest)

	// The other way round, what is only on one side changes its side.
	r, err = kvmove.Verify(ctx, b, a)
	require.NoError(t, err)
	require.Contains(t, r.Differences, kvmove.Difference{"yours", kvmove.OnlyInA})
	require.Len(t, r.Differences, 6)

	// A store without times to live has no other ones.
	r, err = kvmove.Verify(ctx, newPlain(docs{"ttl": "1"}), newPlain(docs{"ttl": "1"}))
	require.NoError(t, err)
	require.Empty(t, r.Differences)
	require.Equal(t, r.A, r.B)

	require.NoError(t, b.Close())
	_, err = kvmove.Verify(ctx, a, b)
	require.ErrorIs(t, err, kv.ErrClosed)
	require.ErrorContains(t, err, "kv: verify docs: the second store: ")
}
