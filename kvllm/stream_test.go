package kvllm_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/internal/testkit"
	"github.com/ngraf/kv/kvllm"
)

// streams are the wires that are streams.
func streams(t *testing.T, do func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store)) {
	each(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		if !w.isStream() {
			t.Skip("is no stream")
		}
		do(t, w, p, s)
	})
}

// begin returns a response whose body is to be read.
func begin(t *testing.T, ctx context.Context, c *http.Client, url, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := c.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// read reads until a text has come so often, or the end.
func read(t *testing.T, from io.Reader, until string, times int) string {
	t.Helper()
	var all strings.Builder
	part := make([]byte, 7)
	for strings.Count(all.String(), until) < times {
		n, err := from.Read(part)
		all.Write(part[:n])
		if err == io.EOF {
			return all.String()
		}
		require.NoError(t, err)
	}
	return all.String()
}

// The caller sees each event at once; so do those who come later, who see all
// that was before too. One pays.
func TestStreamIsLive(t *testing.T) {
	streams(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		p.Gate = make(chan struct{})
		c := client(t, s)
		end := "\n\n"
		if strings.HasPrefix(w.operation, "ollama") {
			end = "\n"
		}
		events := strings.Count(p.Body(w.path, w.body), end)
		go func() { p.Gate <- struct{}{} }()
		first := begin(t, t.Context(), c, p.URL+w.path, w.body)
		seen := read(t, first.Body, end, 1) // The provider has said no more.
		second := begin(t, t.Context(), c, p.URL+w.path, w.body)
		also := read(t, second.Body, end, 1)
		require.Equal(t, seen, also)
		require.Equal(t, []string{"miss", "hit"}, []string{first.Header.Get(kvllm.HeaderCache), second.Header.Get(kvllm.HeaderCache)})
		for range events - 1 {
			require.Empty(t, ids(t, s), "it is stored only after its end")
			p.Gate <- struct{}{}
			seen += read(t, first.Body, end, 1)
			also += read(t, second.Body, end, 1)
			require.Equal(t, seen, also)
		}
		for _, body := range []io.Reader{first.Body, second.Body} {
			n, err := body.Read(make([]byte, 1))
			require.Equal(t, []any{0, io.EOF}, []any{n, err})
		}
		require.Equal(t, p.Body(w.path, w.body), seen)
		require.Equal(t, seen, ask(t, c, p.URL+w.path, w.body).body)
		require.Equal(t, 1, p.Calls())
	})
}

// A connection that is cut at any byte: nothing is stored, and the caller gets
// what came and the error that it would get anyway. Where a cut cannot be seen,
// the end marker is missed.
func TestStreamCutAnywhere(t *testing.T) {
	streams(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		all := p.Body(w.path, w.body)
		plain := &http.Client{Transport: &http.Transport{}}
		defer plain.CloseIdleConnections()
		c := client(t, s)
		for _, quiet := range []bool{false, true} {
			p.Quiet = quiet
			for cut := 1; cut < len(all); cut++ {
				if p.Cut = cut; cut%testkit.Stride() != 0 && cut != len(all)-1 {
					continue
				}
				want := post(t, plain, p.URL+w.path, w.body)
				g := post(t, c, p.URL+w.path, w.body)
				require.Equal(t, all[:cut], g.body)
				require.Equal(t, want.err, g.err)
				require.Equal(t, !quiet, g.err != nil)
				require.Empty(t, ids(t, s), cut)
			}
		}
		p.Quiet, p.Cut = true, 0
		require.Equal(t, all, ask(t, c, p.URL+w.path, w.body).body)
		awaitStored(t, s, 1)
	})
}

// An answer in one piece whose connection is cut is not stored either.
func TestWholeCutAnywhere(t *testing.T) {
	each(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		if w.isStream() {
			t.Skip("is a stream")
		}
		all := strings.TrimRight(p.Body(w.path, w.body), "\n")
		c := client(t, s)
		p.Quiet = true
		for cut := 1; cut < len(all); cut++ {
			p.Cut = cut
			g := ask(t, c, p.URL+w.path, w.body)
			require.Equal(t, all[:cut], g.body)
			require.Equal(t, "refused", g.cache)
		}
		require.Empty(t, ids(t, s))
		p.Quiet, p.Cut = false, 10
		require.ErrorIs(t, post(t, c, p.URL+w.path, w.body).err, io.ErrUnexpectedEOF)
		require.Empty(t, ids(t, s))
	})
}

// A slow consumer holds up nobody, and gets everything.
func TestSlowConsumer(t *testing.T) {
	p, s := llmtest.New(t), open(t)
	w := wires[9]
	p.Size = 4 << 20
	c := client(t, s)
	slow := begin(t, t.Context(), c, p.URL+w.path, w.body)
	read(t, slow.Body, "\n\n", 1)
	want := p.Body(w.path, w.body)
	require.Equal(t, want, ask(t, c, p.URL+w.path, w.body).body)
	awaitStored(t, s, 1)
	rest, err := io.ReadAll(slow.Body)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(want, string(rest)))
}

// A reader who leaves early does not stop the recording if others follow.
func TestReaderLeaves(t *testing.T) {
	streams(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		p.Gate = make(chan struct{})
		c := client(t, s)
		go func() { p.Gate <- struct{}{} }()
		ctx, cancel := context.WithCancel(t.Context())
		first := begin(t, ctx, c, p.URL+w.path, w.body)
		second := begin(t, t.Context(), c, p.URL+w.path, w.body)
		third := begin(t, t.Context(), c, p.URL+w.path, w.body)
		cancel()
		_, err := io.ReadAll(first.Body)
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, third.Body.Close())
		_, err = third.Body.Read(make([]byte, 1))
		require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
		close(p.Gate)
		text, err := io.ReadAll(second.Body)
		require.NoError(t, err)
		require.Equal(t, p.Body(w.path, w.body), string(text))
		awaitStored(t, s, 1)
		require.Zero(t, p.Gone())
	})
}

// A stream that nobody reads any more is broken off, and not stored; who comes
// next asks anew.
func TestAllReadersLeave(t *testing.T) {
	streams(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		p.Gate = make(chan struct{})
		c := client(t, s)
		go func() { p.Gate <- struct{}{} }()
		for _, resp := range []*http.Response{begin(t, t.Context(), c, p.URL+w.path, w.body), begin(t, t.Context(), c, p.URL+w.path, w.body)} {
			require.NoError(t, resp.Body.Close())
		}
		require.NoError(t, testkit.Await(func() bool { return p.Gone() == 1 }))
		require.Empty(t, ids(t, s))
		close(p.Gate)
		require.Equal(t, p.Body(w.path, w.body), ask(t, c, p.URL+w.path, w.body).body)
		require.Equal(t, 2, p.Calls())
	})
}

// An answer in one piece that has been asked for is kept, though its caller has
// gone; a caller who asks again meanwhile gets it.
func TestCallerOfWholeLeaves(t *testing.T) {
	each(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		if w.isStream() {
			t.Skip("is a stream")
		}
		p.Gate = make(chan struct{})
		c := client(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		left := testkit.InBackground(func() error {
			_, err := send(ctx, c, p.URL+w.path, w.body)
			return err
		})
		require.NoError(t, testkit.Await(func() bool { return p.Calls() == 1 }))
		cancel()
		require.ErrorIs(t, <-left, context.Canceled)
		again := testkit.InBackground(func() error {
			g, err := send(t.Context(), c, p.URL+w.path, w.body)
			return errors.Join(err, g.err)
		})
		close(p.Gate)
		require.NoError(t, <-again)
		awaitStored(t, s, 1)
		require.Equal(t, 1, p.Calls())
		require.Zero(t, p.Gone())
	})
}

// An SDK closes the body at the end marker, whether or not the provider has
// closed the connection. The answer is stored.
func TestClosedAtTheMarker(t *testing.T) {
	p, s := llmtest.New(t), open(t)
	p.Linger = make(chan struct{})
	defer close(p.Linger)
	c := client(t, s)
	w := wires[9]
	resp := begin(t, t.Context(), c, p.URL+w.path, w.body)
	read(t, resp.Body, "[DONE]\n\n", 1)
	require.NoError(t, resp.Body.Close())
	awaitStored(t, s, 1)
	require.Equal(t, p.Body(w.path, w.body), ask(t, c, p.URL+w.path, w.body).body)
}

// A replay is at once, or at the pace of the original if that is asked for.
func TestPaced(t *testing.T) {
	streams(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		p.Between = 30 * time.Millisecond
		first := ask(t, client(t, s), p.URL+w.path, w.body)
		awaitStored(t, s, 1)
		a := answers(t, s)[0]
		var waits time.Duration
		bytes := 0
		for i := 0; i < len(a.Pace); i += 2 {
			bytes += a.Pace[i]
			waits += time.Duration(a.Pace[i+1]) * time.Millisecond
		}
		require.Equal(t, len(first.body), bytes)
		require.Greater(t, waits, p.Between, "two events at least have come apart")

		began := time.Now()
		paced := client(t, s, kvllm.Options{Paced: true})
		require.Equal(t, first.body, ask(t, paced, p.URL+w.path, w.body).body)
		require.GreaterOrEqual(t, time.Since(began), waits)

		ctx, cancel := context.WithCancel(t.Context())
		resp := begin(t, ctx, paced, p.URL+w.path, w.body)
		cancel()
		_, err := io.ReadAll(resp.Body)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// Many who ask for many streams at once: each is paid for once, and all get the
// same.
func TestManyReaders(t *testing.T) {
	each(t, func(t *testing.T, w wire, p *llmtest.Provider, s kv.Store) {
		bill := new(kvllm.Bill)
		c := client(t, s, kvllm.Options{Bill: bill, Price: func(_ string, u kvllm.Usage) float64 { return float64(u.InputTokens) }})
		const callers, prompts = 16, 20
		var mu sync.Mutex
		seen := make(map[string]bool)
		testkit.Together(t, callers, func(int) {
			for i := range prompts {
				body := strings.Replace(w.body, "It's", "It's "+strings.Repeat("x", i), 1)
				g, err := send(t.Context(), c, p.URL+w.path, body)
				if err != nil || g.err != nil || g.status != 200 {
					t.Error(err, g)
				}
				mu.Lock()
				seen[g.body] = true
				mu.Unlock()
			}
		})
		require.Equal(t, prompts, p.Calls())
		require.LessOrEqual(t, len(seen), prompts)
		for body := range seen {
			require.NotEmpty(t, body)
		}
		require.NoError(t, testkit.Await(func() bool { return bill.Total().Requests == callers*prompts }))
		sum := bill.Total()
		require.EqualValues(t, prompts, sum.Misses)
		require.Empty(t, sum.Refused)
		require.Equal(t, float64(sum.Spent.InputTokens), sum.Spent.Money)
		require.Equal(t, sum.Spent.InputTokens*(callers-1), sum.Saved.InputTokens)
	})
}
