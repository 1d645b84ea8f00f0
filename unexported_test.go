package kv

import (
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// A bucket holds what is above the bound of the one before it, up to its own.
func TestHistogramBuckets(t *testing.T) {
	for i := firstBucket + 1; i < firstBucket+bucketCount-1; i++ {
		bound := math.Ldexp(math.Pow(2, float64(i&3)/4), i>>2)
		assert.Equal(t, i, bucketOf(bound)+firstBucket, "the bound of %d", i)
		assert.Equal(t, i, bucketOf(bound*0.9)+firstBucket, "below the bound of %d", i)
		assert.Equal(t, i+1, bucketOf(bound*1.0001)+firstBucket, "above the bound of %d", i)
	}
	for _, v := range []float64{0, -1, 1e-12} {
		assert.Equal(t, 0, bucketOf(v))
	}
	for _, v := range []float64{1e12, math.Inf(1)} {
		assert.Equal(t, bucketCount-1, bucketOf(v))
	}

	var m meter
	for i := 1; i <= 1000; i++ {
		m.time(time.Duration(i) * time.Millisecond)
	}
	h := m.read(1e-9)
	assert.Equal(t, uint64(1000), h.Count)
	assert.InDelta(t, 500.5, h.Sum, 1e-6)
	assert.InDelta(t, 0.5005, h.Mean(), 1e-6)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
		assert.InEpsilon(t, q, h.Quantile(q), 0.2, "quantile %v", q)
	}
	assert.Zero(t, Histogram{}.Quantile(0.5))
	assert.Zero(t, Histogram{}.Mean())
}

// Counting allocates nothing.
func TestCountersDoNotAllocate(t *testing.T) {
	c := new(counters)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		c.end(begun(methodGet), nil)
		c.end(begun(methodUpsert), ErrUnavailable)
		c.methods[methodUpsert].batch.number(3)
	}))
}

// Times to live by namespace come from the environment (design.md).
func TestTTLFromTheEnvironment(t *testing.T) {
	for _, tt := range []struct {
		vars      map[string]string
		namespace string
		want      time.Duration
		warnings  []string
	}{
		{nil, "llm_response_cache", 12 * time.Hour, nil},
		{nil, "community_reports", 24 * time.Hour, nil},
		{nil, "full_docs", 0, nil},
		{map[string]string{"REDIS_TTL_LLM_RESPONSE_CACHE": "0"}, "llm_response_cache", 0, nil},
		{map[string]string{"REDIS_TTL_LLM_RESPONSE_CACHE": ""}, "llm_response_cache", 12 * time.Hour, nil},
		{map[string]string{"REDIS_TTL_LLM_RESPONSE_CACHE": " # default"}, "llm_response_cache", 12 * time.Hour, nil},
		{map[string]string{"REDIS_TTL_FULL_DOCS": "-5"}, "full_docs", 0, []string{"REDIS_TTL_FULL_DOCS"}},
		{map[string]string{"REDIS_TTL_COMMUNITY_REPORTS": "-1"}, "community_reports", 0, []string{"REDIS_TTL_COMMUNITY_REPORTS"}},
		{map[string]string{"REDIS_TTL_FULL_DOCS": "12h"}, "full_docs", 12 * time.Hour, nil},
		{map[string]string{"REDIS_TTL_FULL_DOCS": "1.5"}, "full_docs", 1500 * time.Millisecond, nil},
		{map[string]string{"REDIS_TTL_FULL_DOCS": "0.0001"}, "full_docs", time.Millisecond, nil},
		{map[string]string{"REDIS_TTL_FULL_DOCS": " 60 # a minute"}, "full_docs", time.Minute, nil},
		{map[string]string{"REDIS_TTL_MY_NS": "7"}, "my-ns", 7 * time.Second, nil},
		{map[string]string{"REDIS_TTL_MY_NS": "7"}, "my.ns", 7 * time.Second, nil},
		{map[string]string{"REDIS_TTL_MY_NS": "7"}, "My_NS", 7 * time.Second, nil},
		{map[string]string{"REDIS_TTL_my-ns": "7"}, "my-ns", 0, []string{"REDIS_TTL_my-ns"}},
		{map[string]string{"REDIS_TTL_LLM_CACHE": "7"}, "llm_response_cache", 12 * time.Hour, []string{"REDIS_TTL_LLM_RESPONSE_CACHE"}},
		{map[string]string{"REDIS_TTL_CHUNKS": "7"}, "text_chunks", 0, []string{"REDIS_TTL_TEXT_CHUNKS"}},
		{map[string]string{"REDIS_TTL_DOCS": "7"}, "full_docs", 0, []string{"REDIS_TTL_FULL_DOCS"}},
	} {
		cfg, err := fromMap(tt.vars)
		require.NoError(t, err, "%v", tt.vars)
		require.Equal(t, tt.want, cfg.ttlFor(tt.namespace), "%v %s", tt.vars, tt.namespace)
		require.Len(t, cfg.Warnings, len(tt.warnings), "%v", tt.vars)
		for i, part := range tt.warnings {
			require.Contains(t, cfg.Warnings[i], part)
		}
	}
	for _, text := range []string{"soon", "12 h", "1e400", "NaN", "inf", "99999999999999999999", "1e18", "0x10", "3000000h", "1,5"} {
		_, err := fromMap(map[string]string{"REDIS_TTL_FULL_DOCS": text})
		require.ErrorIs(t, err, ErrInvalid, text)
		require.ErrorContains(t, err, "REDIS_TTL_FULL_DOCS")
	}
}

// A failed Open leaves nothing behind, and the factory goes on.
func TestRedisFailedOpenLeavesNothing(t *testing.T) {
	server := redistest.Start(t, redistest.Password("right"))
	cfg := Config{Backend: "redis", NoMigrate: true, Redis: RedisConfig{URL: RedisURL("redis://" + server.Addr)}}
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("wrong"), 0o600))
	cfg.Redis.PasswordFile = file
	f, err := NewFactory(cfg)
	require.NoError(t, err)
	for range 3 {
		_, err = f.Open(t.Context(), "docs")
		require.Error(t, err)
		require.Nil(t, f.client.it)
		require.Zero(t, f.client.refs)
	}
	_, err = f.Open(t.Context(), "../docs")
	require.ErrorIs(t, err, ErrInvalid)
	require.Eventually(t, func() bool { return testkit.TCPClients(t, server) == 0 }, 5*time.Second, 5*time.Millisecond)
	require.NoError(t, os.WriteFile(file, []byte("right"), 0o600))
	_, err = f.Open(t.Context(), "docs")
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// Stores of one namespace share its engine, those of others have their own.
func TestStoresShareEngines(t *testing.T) {
	m := miniredis.RunT(t)
	for _, cfg := range []Config{{WorkingDir: t.TempDir()}, {Backend: "redis", NoMigrate: true, Redis: RedisConfig{URL: RedisURL("redis://" + m.Addr())}}} {
		f, err := NewFactory(cfg, WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		engines := make(map[string]engine.Engine)
		for _, namespace := range []string{"a", "b", "a", "b"} {
			s, err := f.Open(t.Context(), namespace)
			require.NoError(t, err)
			e := s.(*store).engine
			if first := engines[namespace]; first != nil {
				require.Same(t, first, e)
			}
			engines[namespace] = e
		}
		require.NotSame(t, engines["a"], engines["b"])
		require.NoError(t, f.Close())
	}
}

// A fullDisk has no room.
type fullDisk struct{ fsys.FS }

func (fullDisk) Free() (int64, error) { return 0, nil }

// A full disk is said when the namespace is opened.
func TestJSONOpenSaysFullDisk(t *testing.T) {
	dir, err := fsys.Open(t.TempDir(), false)
	require.NoError(t, err)
	e, err := jsonstore.Open(t.Context(), jsonstore.Options{Namespace: "t", Files: fullDisk{dir}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	book := new(testkit.LogBook)
	f, err := NewFactory(Config{}, WithLogger(book.Logger()))
	require.NoError(t, err)
	for range 2 {
		f.sayFindings(t.Context(), e, "t")
	}
	require.Equal(t, 1, strings.Count(book.Text(), "level=ERROR"))
	require.Contains(t, book.Text(), "code=json-disk-full")
	free, err := dir.Free()
	if runtime.GOOS == "linux" {
		require.NoError(t, err)
		require.Positive(t, free)
	}
	require.NoError(t, e.Close())
}
