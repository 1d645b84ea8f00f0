package base

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv/internal/digest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A mark tells values apart, and moments of expiry, and "never" from each of
// them; the flags do not take part.
func TestMarks(t *testing.T) {
	h := func(text string) digest.Hash { return sha256.Sum256([]byte(text)) }
	a := MarkOf(h("a"), 0)
	require.True(t, a.Same(a|Open|Brief))
	require.True(t, a.SameValue(MarkOf(h("a"), 17)))
	require.False(t, a.Same(MarkOf(h("a"), 17)))
	require.False(t, a.SameValue(MarkOf(h("b"), 0)))
	require.False(t, a.Has(Open) || a.Has(Brief))
	now := time.Now().UnixMilli()
	for i := range int64(2000) { // Over 231 days, and where the seconds begin anew.
		at := now + i*10_000_000
		m := MarkOf(h("a"), at)
		require.Zero(t, m&flagBits)
		require.NotZero(t, m&lifeBits)
		require.True(t, m.SameValue(a))
		require.False(t, m.Same(a) || a.Same(m), "some time is not never")
		require.True(t, m.Same(MarkOf(h("a"), at+1999)) && MarkOf(h("a"), at+1999).Same(m))
		require.False(t, m.Same(MarkOf(h("a"), at+3000)) || MarkOf(h("a"), at+3000).Same(m))
	}
}

// A base comes back from its chunks as it was, whatever its size, at 16 bytes
// a document; what is no chunk is refused.
func TestChunks(t *testing.T) {
	for _, n := range []int{0, 1, perChunk, perChunk + 1, 3*perChunk - 1} {
		entries := make([]Entry, n)
		for i := range entries {
			entries[i] = Entry{rand.Uint64(), Mark(rand.Uint64())}
		}
		b := Sorted(entries)
		var back Base
		size, chunks := 0, 0
		for chunk := range b.Chunks() {
			var err error
			back, err = back.Add(chunk)
			require.NoError(t, err)
			size, chunks = size+len(chunk), chunks+1
			require.LessOrEqual(t, len(chunk), 1<<20)
		}
		require.Equal(t, 16*n, size)
		require.Positive(t, chunks)
		require.Len(t, back, n)
		for i, e := range b {
			require.Equal(t, e, back[i])
			at, ok := back.Find(e.ID)
			require.True(t, ok)
			require.Equal(t, i, at)
		}
		_, err := back.Add([]byte("0123456789abcde"))
		require.Error(t, err)
		if n > 0 {
			_, err = back.Add(make([]byte, 16))
			require.Error(t, err, "out of order")
		}
	}
	require.Equal(t, Base{{1, 5}, {2, 4}}, Sorted([]Entry{{2, 3}, {1, 5}, {2, 4}}))
}

// A header comes back as it was, remembers thousands of contents and places,
// and of a record of version 1 what it knows.
func TestHeaders(t *testing.T) {
	h := Header{Generation: "g", Chunks: 2, Count: 7, Time: time.Now().UTC().Round(0), Newest: time.Unix(5, 6).UTC(), Host: "h"}
	h.See(1, 2, 1)
	h.Put(10, 1)
	h.Put(11, 1)
	h.Put(10, 2)
	back, err := ReadHeader(h.Encode())
	require.NoError(t, err)
	h.Version = Version
	require.Equal(t, h, back)
	require.True(t, back.Exists())
	require.True(t, back.HasSeen(2) && !back.HasSeen(3))
	require.True(t, back.Knows(10, 2) && back.Knows(11, 1) && !back.Knows(10, 1))
	require.Equal(t, []string{"g:0", "g:1"}, back.Names())
	for i := range uint64(mostContents + 10) {
		h.See(i)
		h.Put(i, i)
	}
	require.Len(t, h.Contents, mostContents)
	require.Len(t, h.Places, mostPlaces)
	require.True(t, h.HasSeen(mostContents+9) && !h.HasSeen(0))
	require.Less(t, len(h.Encode()), 100<<10)

	old, err := ReadHeader([]byte(`{"version":1,"imports":[{"state":"abc","digest":"00"}]}`))
	require.NoError(t, err)
	require.False(t, old.Exists())
	require.True(t, old.Imported("abc") && !old.Imported(""))
	newer, err := ReadHeader([]byte(`{"version":3,"chunks":"?"}`))
	require.NoError(t, err)
	require.Equal(t, 3, newer.Version)
	for _, bad := range []string{"", "{", `{"version":0}`, `{"version":"x"}`, `{"version":2}`, fmt.Sprintf(`{"version":2,"generation":"g","chunks":1,"places":%q}`, "AAAAAAAAAAA=")} {
		_, err := ReadHeader([]byte(bad))
		require.ErrorIs(t, err, ErrNoHeader, bad)
	}
}
