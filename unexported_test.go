package kv

import (
	"log/slog"
	"maps"
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
	redis := map[string]string{"STORAGE_KV_BACKEND": "redis"}
	with := func(vars map[string]string, name, value string) map[string]string {
		more := map[string]string{name: value}
		maps.Copy(more, vars)
		return more
	}
	for _, tt := range []struct {
		vars      map[string]string
		namespace string
		want      time.Duration
		warnings  []string
	}{
		{nil, "llm_response_cache", 0, nil},
		{redis, "llm_response_cache", 12 * time.Hour, nil},
		{redis, "community_reports", 0, nil},
		{redis, "full_docs", 0, nil},
		{with(redis, "REDIS_TTL_LLM_RESPONSE_CACHE", "0"), "llm_response_cache", 0, nil},
		{with(redis, "STORAGE_TTL_LLM_RESPONSE_CACHE", "0"), "llm_response_cache", 0, nil},
		{with(redis, "REDIS_TTL_LLM_RESPONSE_CACHE", ""), "llm_response_cache", 12 * time.Hour, nil},
		{with(redis, "REDIS_TTL_LLM_RESPONSE_CACHE", " # default"), "llm_response_cache", 12 * time.Hour, nil},
		{with(nil, "REDIS_TTL_FULL_DOCS", "-5"), "full_docs", 0, []string{"REDIS_TTL_FULL_DOCS"}},
		{with(nil, "STORAGE_TTL_COMMUNITY_REPORTS", "-1"), "community_reports", 0, []string{"STORAGE_TTL_COMMUNITY_REPORTS"}},
		{with(nil, "REDIS_TTL_FULL_DOCS", "12h"), "full_docs", 12 * time.Hour, nil},
		{with(nil, "STORAGE_TTL_FULL_DOCS", "12h"), "full_docs", 12 * time.Hour, nil},
		{with(redis, "STORAGE_TTL_FULL_DOCS", "7d"), "full_docs", 7 * 24 * time.Hour, nil},
		{with(nil, "REDIS_TTL_FULL_DOCS", "1.5"), "full_docs", 1500 * time.Millisecond, nil},
		{with(nil, "REDIS_TTL_FULL_DOCS", "0.0001"), "full_docs", time.Millisecond, nil},
		{with(nil, "REDIS_TTL_FULL_DOCS", " 60 # a minute"), "full_docs", time.Minute, nil},
		{with(nil, "REDIS_TTL_MY_NS", "7"), "my-ns", 7 * time.Second, nil},
		{with(nil, "STORAGE_TTL_MY_NS", "7"), "my.ns", 7 * time.Second, nil},
		{with(nil, "REDIS_TTL_MY_NS", "7"), "My_NS", 7 * time.Second, nil},
		{with(nil, "REDIS_TTL_my-ns", "7"), "my-ns", 0, []string{"REDIS_TTL_my-ns"}},
		{with(redis, "REDIS_TTL_LLM_CACHE", "7"), "llm_response_cache", 12 * time.Hour, []string{"REDIS_TTL_LLM_RESPONSE_CACHE"}},
		{with(nil, "REDIS_TTL_CHUNKS", "7"), "text_chunks", 0, []string{"REDIS_TTL_TEXT_CHUNKS"}},
		{with(nil, "STORAGE_TTL_DOCS", "7"), "full_docs", 0, []string{"STORAGE_TTL_FULL_DOCS"}},
		{with(with(nil, "STORAGE_TTL_FULL_DOCS", "7"), "REDIS_TTL_FULL_DOCS", "7"), "full_docs", 7 * time.Second, nil},
		{
			with(with(nil, "STORAGE_TTL_FULL_DOCS", "7"), "REDIS_TTL_FULL_DOCS", "8"), "full_docs", 7 * time.Second,
			[]string{"STORAGE_TTL_FULL_DOCS: 7s, and REDIS_TTL_FULL_DOCS says 8s; the first counts"},
		},
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

// A variable that looks like one of ours is a warning that names ours.
func TestMisspeltVariables(t *testing.T) {
	for name, right := range map[string]string{
		"REDIS_MAX_CONECTIONS": "REDIS_MAX_CONNECTIONS", "STORAGE_KV_MIGRATION": "STORAGE_KV_MIGRATE",
		"REDIS_HOST": "REDIS_URL", "REDIS_DB": "REDIS_URL", "REDIS_URI": "REDIS_URL", "REDIS_PORT": "REDIS_URL",
		"STORAGE_WORKINGDIR": "STORAGE_WORKING_DIR", "REDIS_CONNECT_TIMEOUT": "REDIS_CONNECTION_TIMEOUT",
	} {
		cfg, err := fromMap(map[string]string{name: "secret-1"})
		require.NoError(t, err)
		require.Equal(t, []string{name + ": no variable of kv, ignored; did you mean " + right + "?"}, cfg.Warnings)
	}
	for name, value := range map[string]string{
		"REDIS_PORT": "tcp://10.0.0.11:6379", "REDIS_SERVICE_HOST": "10.0.0.11", "REDIS_PORT_6379_TCP": "tcp://10.0.0.11:6379",
		"REDIS_TLS_URL": "rediss://h", "REDISCLI_AUTH": "x", "STORAGE_BUCKET": "b", "REDIS_KEY_FILE": "",
	} {
		cfg, err := fromMap(map[string]string{name: value})
		require.NoError(t, err)
		require.Empty(t, cfg.Warnings, name)
	}
}

// Switches, sizes and times have one spelling everywhere, and backends any case.
func TestOneSpelling(t *testing.T) {
	for text, want := range map[string]bool{"on": true, "TRUE": true, "yes": true, "1": true, "off": false, "False": false, "no": false, "0": false} {
		cfg, err := fromMap(map[string]string{"STORAGE_KV_MIGRATE": text, "REDIS_SAVE_ON_FLUSH": text})
		require.NoError(t, err)
		require.Equal(t, want, !cfg.NoMigrate)
		require.Equal(t, want, cfg.Redis.SaveOnFlush)
	}
	cfg, err := fromMap(map[string]string{
		"STORAGE_KV_BACKEND": "Redis", "STORAGE_MAX_VALUE_BYTES": "64MB", "REDIS_CLIENT_CACHE": "1 GiB", "REDIS_SOCKET_TIMEOUT": "500ms",
	})
	require.NoError(t, err)
	require.Equal(t, "redis", cfg.backend())
	require.Equal(t, int64(64<<20), cfg.MaxValueBytes)
	require.Equal(t, int64(1<<30), cfg.Redis.ClientCache)
	for name, text := range map[string]string{
		"STORAGE_KV_MIGRATE": "perhaps", "STORAGE_MAX_VALUE_BYTES": "0mb", "REDIS_CLIENT_CACHE": "-1", "STORAGE_KV_BACKEND": "rediss",
	} {
		_, err := fromMap(map[string]string{name: text})
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, name)
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

// The flights of stores that are not built in go with the last view of them.
func TestForeignFlightsGo(t *testing.T) {
	type wrapper struct{ Store }
	of := func(s Store) bool {
		foreign.Lock()
		defer foreign.Unlock()
		_, ok := foreign.flights[s]
		return ok
	}
	s := wrapper{&store{}}
	view := For[string](s)
	require.Same(t, view.flights, For[int](wrapper{s.Store}).flights)
	require.NotSame(t, view.flights, For[string](wrapper{&store{}}).flights)
	runtime.GC()
	require.True(t, of(s), "there is a view")
	runtime.KeepAlive(view)
	require.NoError(t, testkit.Await(func() bool { runtime.GC(); return !of(s) }))
	For[string](nil)
	For[string](struct {
		Store
		f func()
	}{}) // It cannot be compared.
}
