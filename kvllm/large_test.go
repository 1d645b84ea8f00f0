package kvllm

import (
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/testkit"
)

// endless is a body of n bytes that takes no memory.
func endless(n int64) io.ReadCloser {
	return io.NopCloser(io.MultiReader(strings.NewReader(`{"a":"`), io.LimitReader(letters{}, n)))
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// limited is a transport that records so many bytes, and what it counts.
func limited(t *testing.T, most int64, contentType string, size int64) (*transport, *Bill, kv.Store) {
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, "docs", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	bill := new(Bill)
	next := roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}, Body: endless(size), ContentLength: -1}, nil
	})
	rt := Transport(s, next, Options{Bill: bill}).(*transport)
	rt.most = most
	return rt, bill, s
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func question1(t *testing.T, stream string) *http.Request {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://p/v1/chat/completions", strings.NewReader(`{"model":"m","messages":[],"stream":`+stream+`}`))
	require.NoError(t, err)
	return r
}

// A body over the limit passes, is not kept, and takes no more memory than the
// limit and a window, though one reader is slow; each of those who read gets all
// of it.
func TestTooLargePasses(t *testing.T) {
	const most, size = 4 << 20, 200 << 20
	for stream, contentType := range map[string]string{"true": "text/event-stream", "false": "application/json"} {
		rt, bill, s := limited(t, most, contentType, size)
		var before, during runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		first, err := rt.RoundTrip(question1(t, stream))
		require.NoError(t, err)
		n, err := io.CopyN(io.Discard, first.Body, size/2)
		require.NoError(t, err)
		runtime.GC()
		runtime.ReadMemStats(&during)
		require.Less(t, int64(during.HeapAlloc)-int64(before.HeapAlloc), int64(3*most))
		rest, err := io.Copy(io.Discard, first.Body)
		require.NoError(t, err)
		require.EqualValues(t, size+6, n+rest)
		require.NoError(t, first.Body.Close())
		require.Equal(t, map[string]int64{"too large": 1}, bill.Total().Refused)
		for _, err := range s.Keys(t.Context()) {
			t.Fatal("it is stored", err)
		}
	}
}

// Who joins before the limit is met gets all; who leaves lets the others go on;
// when all have left, no more is read.
func TestTooLargeWithSlowReaders(t *testing.T) {
	const most, size = 1 << 20, 20 << 20
	rt, _, _ := limited(t, most, "text/event-stream", size)
	var all []*http.Response
	for range 3 {
		resp, err := rt.RoundTrip(question1(t, "true"))
		require.NoError(t, err)
		all = append(all, resp)
	}
	first, err := io.CopyN(io.Discard, all[0].Body, 512<<10)
	require.NoError(t, err)
	require.NoError(t, all[1].Body.Close())
	testkit.Together(t, 2, func(i int) {
		n, err := io.Copy(io.Discard, all[2*i].Body)
		if i == 0 {
			n += first
		}
		if err != nil || n != size+6 {
			t.Error(i, n, err)
		}
		_ = all[2*i].Body.Close()
	})
	resp, err := rt.RoundTrip(question1(t, "true"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
}

// A request that is too long passes as it is.
func TestLongRequestPasses(t *testing.T) {
	rt, _, _ := limited(t, 1<<20, "application/json", 1)
	var got int64
	rt.next = roundTripper(func(r *http.Request) (*http.Response, error) {
		got, _ = io.Copy(io.Discard, r.Body)
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}, r.Body.Close()
	})
	for _, announced := range []int64{-1, maxBody + 7} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://p/v1/chat/completions", endless(maxBody+1))
		require.NoError(t, err)
		r.ContentLength = announced
		resp, err := rt.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.EqualValues(t, maxBody+7, got)
	}
}
