package kvembed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvembed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg kv.Config) kv.Store {
	t.Helper()
	s, err := kv.Open(t.Context(), cfg, "embeddings", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func openFiles(t *testing.T) kv.Store { return open(t, kv.Config{WorkingDir: t.TempDir()}) }

// vectorOf is the vector of a text, of whatever dimensions.
func vectorOf(text string, dims int) []float32 {
	v := make([]float32, dims)
	for i := range v {
		v[i] = float32(len(text)) + float32(i)/3
	}
	if dims > 0 && len(text) > 0 {
		v[0] = float32(text[0])
	}
	return v
}

// A provider notes what it is asked.
type provider struct {
	dims  int
	mu    sync.Mutex
	calls [][]string
}

func (p *provider) embed(_ context.Context, texts []string) ([][]float32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, slices.Clone(texts))
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		vectors[i] = vectorOf(text, p.dims)
	}
	return vectors, nil
}

func wanted(texts []string, dims int) [][]float32 {
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		vectors[i] = vectorOf(text, dims)
	}
	return vectors
}

// Order is kept, a text that is there twice is asked for once, and what is
// missing goes into one call. Each result is the caller's to change.
func TestCached(t *testing.T) {
	s := openFiles(t)
	p := &provider{dims: 3}
	embed := kvembed.Cached(s, "m", 3, p.embed)
	for _, texts := range [][]string{{"b", "a", "b", ""}, {"a", "c", "b", "d", "c"}, {"d", "c"}, {}} {
		got, err := embed(t.Context(), texts)
		require.NoError(t, err)
		require.Equal(t, wanted(texts, 3), got)
		for _, v := range got {
			v[0] = -1
		}
	}
	require.Equal(t, [][]string{{"b", "a", ""}, {"c", "d"}}, p.calls)

	other := &provider{dims: 2} // Model and dimensions are part of the id.
	for _, embed := range []kvembed.Func{kvembed.Cached(s, "m", 2, other.embed), kvembed.Cached(s, "other", 2, other.embed)} {
		got, err := embed(t.Context(), []string{"a"})
		require.NoError(t, err)
		require.Equal(t, wanted([]string{"a"}, 2), got)
	}
	require.Len(t, other.calls, 2)
	require.NotEqual(t, kvembed.ID("a", 1, "1,x"), kvembed.ID("a,1", 1, "x"))
}

// Values are JSON, bit-exact, and of 8.2 KB for 1,536 dimensions; so they are
// after a document file was written and read again.
func TestBits(t *testing.T) {
	dir := t.TempDir()
	want := make([]float32, 1536)
	for i := range want {
		want[i] = float32(i) / 7
	}
	copy(want, []float32{float32(math.Copysign(0, -1)), math.Float32frombits(0x7fc0beef), float32(math.Inf(-1)), math.SmallestNonzeroFloat32, math.MaxFloat32})
	f := func(context.Context, []string) ([][]float32, error) { return [][]float32{want}, nil }
	never := func(context.Context, []string) ([][]float32, error) { return nil, errors.New("asked twice") }
	for _, f := range []kvembed.Func{f, never, never} {
		s, err := kv.Open(t.Context(), kv.Config{WorkingDir: dir}, "embeddings")
		require.NoError(t, err)
		got, err := kvembed.Cached(s, `a "model"`, 1536, f)(t.Context(), []string{"text"})
		require.NoError(t, err)
		for i := range want {
			require.Equal(t, math.Float32bits(want[i]), math.Float32bits(got[0][i]))
		}
		value, err := s.Get(t.Context(), kvembed.ID(`a "model"`, 1536, "text"))
		require.NoError(t, err)
		require.True(t, json.Valid(value))
		require.Less(t, len(value), 8300)
		require.NoError(t, s.Close())
	}
}

// Batches are bounded. What a failing provider returned is kept, and so are
// the batches before; the next call asks for the rest.
func TestPartialFailure(t *testing.T) {
	s := openFiles(t)
	p := &provider{dims: 2}
	broken := errors.New("the rate limit")
	fail := true
	embed := kvembed.Options{Batch: 4}.Cached(s, "m", 2, func(ctx context.Context, texts []string) ([][]float32, error) {
		vectors, _ := p.embed(ctx, texts)
		if fail && len(p.calls) == 2 {
			vectors[1] = nil
			return vectors[:3], broken
		}
		return vectors, nil
	})
	texts := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	got, err := embed(t.Context(), texts)
	require.Same(t, broken, err)
	want := wanted(texts, 2)
	for _, at := range []int{5, 7, 8, 9} {
		want[at] = nil
	}
	require.Equal(t, want, got)
	require.Equal(t, [][]string{{"a", "b", "c", "d"}, {"e", "f", "g", "h"}}, p.calls)
	fail = false
	got, err = embed(t.Context(), texts)
	require.NoError(t, err)
	require.Equal(t, wanted(texts, 2), got)
	require.Equal(t, []string{"f", "h", "i", "j"}, p.calls[2])
	require.Len(t, p.calls, 3)
}

// What does not fit is an error, and nothing of it is stored.
func TestRefused(t *testing.T) {
	s := openFiles(t)
	for name, vectors := range map[string][][]float32{
		"too few": {{1, 2}}, "too many": {{1, 2}, {1, 2}, {1, 2}}, "dimensions": {{1, 2}, {1, 2, 3}}, "none": {{1, 2}, nil},
	} {
		f := func(context.Context, []string) ([][]float32, error) { return vectors, nil }
		got, err := kvembed.Cached(s, "m", 2, f)(t.Context(), []string{"a", "b"})
		require.ErrorContains(t, err, "kvembed: the function returned", name)
		require.Equal(t, [][]float32{nil, nil}, got)
		missing, err := s.Missing(t.Context(), []string{kvembed.ID("m", 2, "a")})
		require.NoError(t, err)
		require.Len(t, missing, 1, name)
	}
	p := &provider{dims: 2}
	for _, embed := range []kvembed.Func{
		kvembed.Cached(s, "", 2, p.embed), kvembed.Cached(s, "m", 0, p.embed), kvembed.Options{Batch: -1}.Cached(s, "m", 2, p.embed),
	} {
		_, err := embed(t.Context(), []string{"a"})
		require.ErrorIs(t, err, kv.ErrInvalid)
	}
	for _, value := range []string{`1`, `{}`, `{"vector":"AAAA"}`, `{"vector":"AAAAAAAAA!=="}`, `{"vector":["AAAAAAAAAAA="]}`} {
		require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{kvembed.ID("m", 2, "a"): json.RawMessage(value)}))
		_, err := kvembed.Cached(s, "m", 2, p.embed)(t.Context(), []string{"a"})
		require.ErrorIs(t, err, kv.ErrCorrupt, value)
	}
	foreign := `{ "vector" : "AACAP\/\u002fAAEA=", "by": "another" }`
	require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{kvembed.ID("m", 2, "a"): json.RawMessage(foreign)}))
	got, err := kvembed.Cached(s, "m", 2, p.embed)(t.Context(), []string{"a"})
	require.NoError(t, err, "another spelling of the same")
	require.EqualValues(t, 1, got[0][0])
	require.Empty(t, p.calls)
}

// Of processes that ask for overlapping texts at once, each text is asked for
// by one.
func TestProcessesPayOnce(t *testing.T) {
	server := redistest.Start(t)
	cfg := kv.Config{Backend: "redis", WorkingDir: t.TempDir(), Redis: kv.RedisConfig{URL: kv.RedisURL(server.URL())}}
	texts := make([]string, 600)
	for i := range texts {
		texts[i] = fmt.Sprint("text ", i)
	}
	p := &provider{dims: 8}
	var running sync.WaitGroup
	for worker := range 4 {
		s := open(t, cfg)
		running.Go(func() {
			mine := append(slices.Clone(texts[worker*100:]), texts[:worker*100]...)
			embed := kvembed.Options{Batch: 200}.Cached(s, "m", 8, func(ctx context.Context, texts []string) ([][]float32, error) {
				time.Sleep(20 * time.Millisecond)
				return p.embed(ctx, texts)
			})
			got, err := embed(t.Context(), mine)
			assert.NoError(t, err)
			assert.Equal(t, wanted(mine, 8), got)
		})
	}
	running.Wait()
	asked := slices.Concat(p.calls...)
	slices.Sort(asked)
	require.Len(t, slices.Compact(asked), len(texts))
	require.Equal(t, len(texts), len(slices.Concat(p.calls...)))
}

// Beside the vectors memory is bounded by the batch, however many texts there
// are.
func TestMemory(t *testing.T) {
	const dims, batch = 1536, 100
	n := 8000
	if testing.Short() {
		n = 2000
	}
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint("text ", i)
	}
	s := openFiles(t)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var done, most atomic.Int64
	base := heap()
	embed := kvembed.Options{Batch: batch}.Cached(s, "m", dims, func(_ context.Context, texts []string) ([][]float32, error) {
		if done.Load()%(10*batch) == 0 {
			most.Store(max(most.Load(), int64(heap())-int64(base)-done.Load()*dims*4))
		}
		done.Add(int64(len(texts)))
		return wanted(texts, dims), nil
	})
	vectors, err := embed(t.Context(), texts)
	require.NoError(t, err)
	t.Logf("%d texts: at most %d KiB beside the vectors", n, most.Load()>>10)
	require.Less(t, most.Load(), int64(4*batch*dims*4+n*1000), "a few batches, and the store's index")
	runtime.KeepAlive(vectors)
}

// The reader for Python in the documentation gets the same numbers.
func TestPython(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3")
	}
	doc, err := os.ReadFile(filepath.Join("..", "docs", "python.md"))
	require.NoError(t, err)
	m := regexp.MustCompile("(?s)```python\n(# kvembed.*?)```").FindSubmatch(doc)
	require.NotNil(t, m)
	dir := t.TempDir()
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: dir}, "embeddings")
	require.NoError(t, err)
	text := "It was the \"best\" of times — ü\x00."
	want := []float32{1.5, -0.1, 3e-39, 1e38}
	_, err = kvembed.Cached(s, "modèle", 4, func(context.Context, []string) ([][]float32, error) { return [][]float32{want}, nil })(t.Context(), []string{text})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	script := string(m[1]) + `
import json, sys
text, path = sys.stdin.read().replace("<0>", "\0"), sys.argv[1]
values = json.load(open(path, encoding="utf-8"))
print([x.hex() for x in vector(json.dumps(values[embedding_id("modèle", 4, text)]))])
value = json.loads(embedding_value("modèle", vector(json.dumps(values[embedding_id("modèle", 4, text)]))))
print(value == values[embedding_id("modèle", 4, text)])
`
	cmd := exec.CommandContext(t.Context(), "python3", "-c", script, filepath.Join(dir, "kv_store_embeddings.json"))
	cmd.Env = append(os.Environ(), "PYTHONUTF8=1")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(text, "\x00", "<0>"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var hex []string
	for _, x := range want {
		bits := math.Float64bits(float64(x))
		sign := ""
		if x < 0 {
			sign = "-"
		}
		hex = append(hex, fmt.Sprintf("'%s0x1.%013xp%+d'", sign, bits&(1<<52-1), int(bits>>52&0x7ff)-1023))
	}
	require.Equal(t, "["+strings.Join(hex, ", ")+"]", lines[0])
	require.Equal(t, "True", lines[1], "what Python writes is the same")
}
