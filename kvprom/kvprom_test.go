package kvprom

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
)

// Close has ended what WithInspect started.
// A pool of go-redis that could not dial tries again in a goroutine, which ends
// up to a second after the pool was closed.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

var quiet = kv.WithLogger(slog.New(slog.DiscardHandler))

func newFactory(t *testing.T, cfg kv.Config) *kv.Factory {
	t.Helper()
	if cfg.WorkingDir == "" {
		cfg.WorkingDir = t.TempDir()
	}
	f, err := kv.NewFactory(cfg, quiet)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func open(t *testing.T, f *kv.Factory, namespace string) kv.Store {
	t.Helper()
	s, err := f.Open(t.Context(), namespace)
	require.NoError(t, err)
	return s
}

// use calls some methods, with success and without.
func use(t *testing.T, s kv.Store) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"a": json.RawMessage(`1`), "b": json.RawMessage(`2`)}))
	_, err := s.Get(ctx, "a")
	require.NoError(t, err)
	_, err = s.GetMany(ctx, []string{"a", "absent"})
	require.NoError(t, err)
	_, err = s.Get(ctx, "\xff")
	require.ErrorIs(t, err, kv.ErrInvalid)
	require.NoError(t, s.Flush(ctx))
}

// gather returns the families by name, as a registry that checks everything
// has them.
func gather(t *testing.T, collectors ...prometheus.Collector) map[string]*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	for _, c := range collectors {
		require.NoError(t, r.Register(c))
	}
	families, err := r.Gather()
	require.NoError(t, err)
	problems, err := testutil.GatherAndLint(r)
	require.NoError(t, err)
	require.Empty(t, problems)
	byName := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// value returns that of the metric with these labels, as name=value.
func value(t *testing.T, f *dto.MetricFamily, labels ...string) float64 {
	t.Helper()
	for _, m := range f.GetMetric() {
		var has []string
		for _, l := range m.Label {
			has = append(has, l.GetName()+"="+l.GetValue())
		}
		if strings.Join(has, ",") == strings.Join(labels, ",") {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Errorf("%s has no %v", f.GetName(), labels)
	return -1
}

// docs/monitoring.md has every metric, in the words of the code, and no other;
// Describe says the same.
func TestDocumentedMetrics(t *testing.T) {
	c := NewCollector(newFactory(t, kv.Config{}))
	rows := "| metric | type | labels | meaning |\n|---|---|---|---|\n"
	descs := make(chan *prometheus.Desc, metricCount)
	c.Describe(descs)
	close(descs)
	i := 0
	for d := range descs {
		m := metrics[i]
		names := m.labels
		if m.scope == ofNamespace {
			names = append([]string{"backend", "namespace"}, names...)
		}
		assert.Equal(t, fmt.Sprintf("Desc{fqName: %q, help: %q, unit: \"\", constLabels: {}, variableLabels: {%s}}",
			m.name, m.help, strings.Join(names, ",")), d.String())
		assert.Regexp(t, `^[A-Z1].*\.$`, m.help, m.name)
		rows += fmt.Sprintf("| `%s` | %s | %s | %s |\n", m.name, m.kind, strings.Join(names, ", "), m.help)
		i++
	}
	assert.Equal(t, int(metricCount), i)
	text, err := os.ReadFile("../docs/monitoring.md")
	require.NoError(t, err)
	assert.Contains(t, string(text), rows+"\n")
	assert.Equal(t, int(metricCount), strings.Count(string(text), "\n| `kv_"))
}

// Fixed figures make a fixed text: each metric with its labels and values.
func TestGoldenText(t *testing.T) {
	h := kv.Histogram{Count: 5, Sum: 0.25, Buckets: map[int]uint64{zeroBucket: 1, -40: 2, -39: 1, 120: 1}}
	stats := kv.Stats{
		Backend: "redis", Namespace: "full_docs",
		Gets: 9, Hits: 5, Misses: 3, Upserts: 7, Deletes: 2, BytesRead: 1000, BytesWritten: 2000,
		Calls: map[string]kv.CallStats{
			"getmany": {Results: map[string]int64{"ok": 3, "timeout": 2}, Latency: h, Batch: kv.Histogram{Count: 2, Sum: 17, Buckets: map[int]uint64{0: 1, 16: 1}}},
		},
		LastFlush: kv.FlushStats{At: time.UnixMilli(1_700_000_000_500), Err: kv.ErrUnavailable},
		Compute:   kv.ComputeStats{Hits: 1, Misses: 2, Waits: 3, Computes: 4, LeaseLosses: 5, TimeSaved: 6 * time.Second},
		JSON:      &kv.JSONStats{Documents: 1, SnapshotBytes: 2, JournalBytes: 3, Compactions: 4},
		Redis: &kv.RedisStats{Connections: 5, IdleConnections: 2, ConnectionLimit: 50, PoolTimeouts: 1, PoolWaits: 2, PoolWaited: 1500 * time.Millisecond,
			StaleConnections: 4, Retries: 3, Circuit: "open", CacheLimit: 1 << 20, CacheHits: 1, CacheMisses: 2, CacheEntries: 3, CacheBytes: 4,
			CacheEvictions: 5, CacheInvalidations: 6},
	}
	other := stats
	other.Namespace = "text_chunks"
	other.Calls = nil
	past := kv.Stats{Backend: "redis", Namespace: "closed", Redis: stats.Redis, JSON: stats.JSON, LastFlush: stats.LastFlush}
	c := &Collector{
		stats: func(ctx context.Context) ([]kv.Stats, error) { return []kv.Stats{past, stats, other}, nil },
		stores: func() map[string]kv.Store {
			return map[string]kv.Store{"full_docs": pinged{}, "text_chunks": pinged{err: kv.ErrUnavailable}}
		},
	}
	c.start(nil, nil)
	c.inspector.found = map[string]finding{"full_docs": {at: time.Unix(1_700_000_000, 0), Inspection: kv.Inspection{
		Documents: 100, Sampled: 10, Bytes: 5000, TTL: kv.Histogram{Count: 2, Sum: 7200, Buckets: map[int]uint64{48: 2}}, Biggest: []kv.Big{{ID: "x", Bytes: 99}}, Corrupt: 1,
	}}}
	const golden = "testdata/metrics.txt"
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(c))
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, prometheus.WriteToTextfile(golden, r))
	}
	want, err := os.Open(golden)
	require.NoError(t, err)
	defer want.Close()
	require.NoError(t, testutil.GatherAndCompare(r, want))
	problems, err := testutil.GatherAndLint(r)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// A pinged store can do nothing else.
type pinged struct {
	kv.Store
	err error
}

func (p pinged) Ping(context.Context) error { return p.err }

// What both backends report passes the checks of a pedantic registry and of
// promlint.
func TestFactoryJSON(t *testing.T) {
	f := newFactory(t, kv.Config{})
	c := NewCollector(f)
	docs, chunks := open(t, f, "full_docs"), open(t, f, "text_chunks")
	use(t, docs)
	m := gather(t, c)
	assert.Equal(t, 1.0, value(t, m["kv_operations_total"], "backend=json", "namespace=full_docs", "op=get", "result=invalid"))
	assert.Equal(t, 0.0, value(t, m["kv_operations_total"], "backend=json", "namespace=full_docs", "op=get", "result=timeout"))
	assert.Equal(t, 2.0, value(t, m["kv_hits_total"], "backend=json", "namespace=full_docs"))
	assert.Equal(t, 1.0, value(t, m["kv_misses_total"], "backend=json", "namespace=full_docs"))
	assert.Equal(t, 2.0, value(t, m["kv_json_documents"], "backend=json", "namespace=full_docs"))
	assert.Equal(t, 1.0, value(t, m["kv_up"], "backend=json", "namespace=text_chunks"))
	assert.Equal(t, 0.0, value(t, m["kv_last_flush_failed"], "backend=json", "namespace=full_docs"))
	assert.InDelta(t, float64(time.Now().Unix()), value(t, m["kv_last_flush_timestamp_seconds"], "backend=json", "namespace=full_docs"), 60)
	assert.Len(t, m["kv_last_flush_timestamp_seconds"].Metric, 1, "only one was flushed")
	assert.NotContains(t, m, "kv_pool_connections")
	assert.NotContains(t, m, "kv_namespace_documents")

	require.NoError(t, docs.Close())
	m = gather(t, c)
	assert.Equal(t, 2.0, value(t, m["kv_hits_total"], "backend=json", "namespace=full_docs"), "counters stay")
	assert.Len(t, m["kv_up"].Metric, 1)
	assert.Len(t, m["kv_json_documents"].Metric, 1)
	require.NoError(t, chunks.Close())
}

// The pool and the cache are the factory's, and there once. A server that is
// away is down, which is said in time.
func TestFactoryRedis(t *testing.T) {
	server := redistest.Start(t)
	f := newFactory(t, kv.Config{Backend: "redis", Redis: kv.RedisConfig{
		URL: kv.RedisURL(server.URL()), ClientCache: 1 << 20, MaxConnections: 7, CircuitFailures: 1}})
	c := NewCollector(f, WithPing(200*time.Millisecond))
	docs := open(t, f, "full_docs")
	open(t, f, "text_chunks")
	use(t, docs)
	m := gather(t, c)
	assert.Equal(t, 7.0, value(t, m["kv_pool_max_connections"]))
	assert.Positive(t, value(t, m["kv_pool_connections"], "state=idle"))
	assert.Equal(t, 0.0, value(t, m["kv_pool_timeouts_total"]))
	assert.Equal(t, 1048576.0, value(t, m["kv_cache_max_bytes"]))
	assert.Positive(t, value(t, m["kv_cache_misses_total"]))
	assert.Equal(t, 0.0, value(t, m["kv_redis_circuit_open"]))
	for _, namespace := range []string{"full_docs", "text_chunks"} {
		assert.Equal(t, 1.0, value(t, m["kv_up"], "backend=redis", "namespace="+namespace))
	}
	server.Kill()
	_, err := docs.Missing(t.Context(), []string{"a"})
	require.ErrorIs(t, err, kv.ErrUnavailable)
	m = gather(t, c)
	assert.Equal(t, 1.0, value(t, m["kv_redis_circuit_open"]))
	for _, namespace := range []string{"full_docs", "text_chunks"} {
		assert.Equal(t, 0.0, value(t, m["kv_up"], "backend=redis", "namespace="+namespace))
	}
	assert.NotContains(t, gather(t, NewCollector(f, WithPing(0))), "kv_up")
}

// Stores that were opened by themselves share a registry, each with its own
// labels, and are silent once they are closed.
func TestStoreCollectors(t *testing.T) {
	var collectors []prometheus.Collector
	for _, namespace := range []string{"full_docs", "text_chunks"} {
		s, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, namespace, quiet)
		require.NoError(t, err)
		use(t, s)
		c, err := NewStoreCollector(s)
		require.NoError(t, err)
		collectors = append(collectors, c)
		defer s.Close()
		if namespace == "text_chunks" {
			m := gather(t, collectors...)
			assert.Equal(t, 2.0, value(t, m["kv_documents_stored_total"], "backend=json", "namespace=full_docs"))
			assert.Equal(t, 2.0, value(t, m["kv_documents_stored_total"], "backend=json", "namespace=text_chunks"))
			require.NoError(t, s.Close())
			assert.Len(t, gather(t, collectors...)["kv_documents_stored_total"].Metric, 1)
			_, err = NewStoreCollector(s)
			require.ErrorIs(t, err, kv.ErrClosed)
		}
	}
	_, err := NewStoreCollector(pinged{})
	require.ErrorIs(t, err, kv.ErrInvalid)
}

// Whatever is going on, a histogram's native buckets sum up to its count, its
// classic ones are their sums, and neither goes back. In the end both agree
// with Stats.
func TestHistogramsUnderLoad(t *testing.T) {
	f := newFactory(t, kv.Config{})
	s := open(t, f, "full_docs")
	c := NewCollector(f)
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for i := range 500 {
				_, err := s.Missing(t.Context(), make([]string, 1+i))
				assert.NoError(t, err)
			}
		})
	}
	ended := make(chan struct{})
	go func() { load.Wait(); close(ended) }()
	var before uint64
	for running := true; running; {
		select {
		case <-ended:
			running = false
		default:
		}
		m := gather(t, c)
		for _, name := range []string{"kv_operation_duration_seconds", "kv_batch_size"} {
			for _, one := range m[name].GetMetric() {
				checkBoth(t, one.Histogram)
			}
		}
		for _, one := range m["kv_batch_size"].GetMetric() {
			require.GreaterOrEqual(t, one.Histogram.GetSampleCount(), before)
			before = one.Histogram.GetSampleCount()
		}
	}
	stats, err := f.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(4000), stats[0].Calls["missing"].Latency.Count)
	h := gather(t, c)["kv_batch_size"].Metric[0].Histogram
	require.Equal(t, uint64(4000), h.GetSampleCount())
	require.Equal(t, stats[0].Calls["missing"].Batch.Sum, h.GetSampleSum())
	for _, b := range h.Bucket { // Each goroutine has every size from 1 to 500.
		require.Equal(t, min(uint64(b.GetUpperBound()), 500)*8, b.GetCumulativeCount())
	}
}

// checkBoth compares a histogram's two forms.
func checkBoth(t *testing.T, h *dto.Histogram) {
	t.Helper()
	require.Equal(t, int32(2), h.GetSchema())
	require.Equal(t, 0x1p-26, h.GetZeroThreshold())
	require.Nil(t, h.CreatedTimestamp)
	native := map[int]uint64{-1000: h.GetZeroCount()}
	index, count, delta := 0, int64(0), h.PositiveDelta
	for _, span := range h.PositiveSpan {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += delta[0]
			native[index] = uint64(count)
			index, delta = index+1, delta[1:]
		}
	}
	require.Empty(t, delta)
	total := uint64(0)
	for _, n := range native {
		total += n
	}
	require.Equal(t, h.GetSampleCount(), total)
	for _, b := range h.Bucket {
		sum := uint64(0)
		for i, n := range native {
			if i == -1000 || math.Pow(2, float64(i)/4) <= b.GetUpperBound()*1.0001 {
				sum += n
			}
		}
		require.Equal(t, sum, b.GetCumulativeCount(), "up to %v", b.GetUpperBound())
	}
}

// Inspection says what a namespace holds, counts as nobody's reading, and ends
// with Close.
func TestInspection(t *testing.T) {
	f := newFactory(t, kv.Config{})
	s := open(t, f, "full_docs")
	use(t, s)
	require.NoError(t, s.(kv.Expirer).UpsertTTL(t.Context(), map[string]json.RawMessage{"long": json.RawMessage(`"0123456789"`)}, time.Hour))
	c := NewCollector(f, WithInspect(time.Millisecond, 0))
	defer c.Close()
	require.Eventually(t, func() bool {
		_, ok := c.inspector.last("full_docs")
		return ok
	}, 10*time.Second, time.Millisecond)
	m := gather(t, c)
	assert.Equal(t, 3.0, value(t, m["kv_namespace_documents"], "backend=json", "namespace=full_docs"))
	assert.Equal(t, 1.0, value(t, m["kv_namespace_expiring_documents"], "backend=json", "namespace=full_docs"))
	assert.Equal(t, 16.0, value(t, m["kv_namespace_biggest_value_bytes"], "backend=json", "namespace=full_docs"))
	assert.Equal(t, 20.0, value(t, m["kv_namespace_bytes"], "backend=json", "namespace=full_docs"))
	assert.InEpsilon(t, 3600, m["kv_namespace_ttl_seconds"].Metric[0].Histogram.GetSampleSum(), 0.01)
	assert.Equal(t, 2.0, value(t, m["kv_hits_total"], "backend=json", "namespace=full_docs"))
	require.NoError(t, s.Close())
	assert.NotContains(t, gather(t, c), "kv_namespace_documents")
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
}
