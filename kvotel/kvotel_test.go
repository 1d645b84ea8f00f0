package kvotel_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvotel"
)

// A pool of go-redis that could not dial tries again in a goroutine, which ends
// up to a second after the pool was closed.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// recording returns options that keep spans and metrics.
func recording(t *testing.T) (*tracetest.SpanRecorder, *metric.ManualReader, []kvotel.Option) {
	spans, reader := tracetest.NewSpanRecorder(), metric.NewManualReader()
	traces := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	meters := metric.NewMeterProvider(metric.WithReader(reader))
	t.Cleanup(func() {
		_ = traces.Shutdown(context.Background())
		_ = meters.Shutdown(context.Background())
	})
	return spans, reader, []kvotel.Option{kvotel.WithTracerProvider(traces), kvotel.WithMeterProvider(meters)}
}

// describe is a span in a line.
func describe(s trace.ReadOnlySpan) string {
	set := attribute.NewSet(s.Attributes()...)
	text := fmt.Sprintf("%s [%s] %s", s.Name(), s.SpanKind(), set.Encoded(attribute.DefaultEncoder()))
	if s.Status().Code == codes.Error {
		text += ": " + s.Status().Description
	}
	return text
}

var one = map[string]json.RawMessage{"a": json.RawMessage(`1`)}

// durations returns how many calls the histogram has counted, by attributes.
func durations(t *testing.T, reader *metric.ManualReader) map[string]uint64 {
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &all))
	require.Len(t, all.ScopeMetrics, 1)
	m := all.ScopeMetrics[0].Metrics[0]
	assert.Equal(t, []string{"db.client.operation.duration", "s"}, []string{m.Name, m.Unit})
	counts := make(map[string]uint64)
	for _, p := range m.Data.(metricdata.Histogram[float64]).DataPoints {
		counts[p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Count
	}
	return counts
}

// Each call is a span with what the semantic conventions ask for, and a value
// of the histogram of durations. That a document is absent is no failure.
func TestSpans(t *testing.T) {
	ctx := t.Context()
	inner, err := kv.Open(ctx, kv.Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	spans, reader, opts := recording(t)
	s := kvotel.Wrap(inner, opts...)
	in, ok := kv.As[kv.Inserter](s)
	require.True(t, ok)
	ex, ok := kv.As[kv.Expirer](s)
	require.True(t, ok)

	require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"a": json.RawMessage(`1`), "b": json.RawMessage(`2`)}))
	_, _ = s.Get(ctx, "a")
	_, _ = s.Get(ctx, "absent")
	_, _ = s.Get(ctx, "\xff")
	_, _ = s.GetMany(ctx, []string{"a", "b", "c"})
	_, _ = s.Missing(ctx, []string{"c"})
	for range s.Keys(ctx) {
		break
	}
	_, _ = in.Insert(ctx, one)
	_, _ = ex.TTL(ctx, "a")
	_ = ex.UpsertTTL(ctx, one, time.Hour)
	_, _ = s.Delete(ctx, "a", "b")
	require.NoError(t, s.Flush(ctx))
	require.NoError(t, s.Drop(ctx))
	require.NoError(t, s.Close())
	_, err = s.Get(ctx, "a")
	require.ErrorIs(t, err, kv.ErrClosed)

	const db = "db.collection.name=docs,db.operation."
	var got []string
	for _, span := range spans.Ended() {
		got = append(got, describe(span))
	}
	assert.Equal(t, []string{
		"upsert docs [internal] " + db + "batch.size=2,db.operation.name=upsert,db.system.name=kv.json",
		"get docs [internal] " + db + "name=get,db.system.name=kv.json,kv.hit=true",
		"get docs [internal] " + db + "name=get,db.system.name=kv.json,kv.hit=false",
		"get docs [internal] " + db + "name=get,db.system.name=kv.json,error.type=invalid: kv: get docs: invalid: an id is not valid UTF-8",
		"getmany docs [internal] " + db + "batch.size=3,db.operation.name=getmany,db.response.returned_rows=2,db.system.name=kv.json",
		"missing docs [internal] " + db + "name=missing,db.response.returned_rows=1,db.system.name=kv.json",
		"keys docs [internal] " + db + "name=keys,db.response.returned_rows=1,db.system.name=kv.json",
		"insert docs [internal] " + db + "name=insert,db.system.name=kv.json",
		"ttl docs [internal] " + db + "name=ttl,db.system.name=kv.json",
		"upsertttl docs [internal] " + db + "name=upsertttl,db.system.name=kv.json",
		"delete docs [internal] " + db + "batch.size=2,db.operation.name=delete,db.system.name=kv.json",
		"flush docs [internal] " + db + "name=flush,db.system.name=kv.json",
		"drop docs [internal] " + db + "name=drop,db.system.name=kv.json",
		"get docs [internal] " + db + "name=get,db.system.name=kv.json,error.type=closed: kv: get docs: store is closed",
	}, got)

	counts := durations(t, reader)
	assert.Equal(t, uint64(2), counts[db+"name=get,db.system.name=kv.json"])
	assert.Equal(t, uint64(1), counts[db+"name=get,db.system.name=kv.json,error.type=invalid"])
	assert.Len(t, counts, 13)
}

type bare struct{ kv.Store }

type inserts struct {
	kv.Store
	kv.Inserter
}

type expires struct {
	kv.Store
	kv.Expirer
}

// The wrapper has what the wrapped store has, and no more: a program that asks
// for an Inserter must not get one that cannot insert.
func TestOptionalInterfaces(t *testing.T) {
	full, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	defer full.Close()
	for name, tt := range map[string]struct {
		s                         kv.Store
		insert, expire, ping, own bool
	}{
		"built in":   {full, true, true, true, true},
		"bare":       {bare{full}, false, false, false, false},
		"an insert":  {inserts{full, full.(kv.Inserter)}, true, false, false, false},
		"an expirer": {expires{full, full.(kv.Expirer)}, false, true, false, false},
	} {
		w := kvotel.Wrap(tt.s)
		_, insert := kv.As[kv.Inserter](w)
		_, expire := kv.As[kv.Expirer](w)
		_, ping := kv.As[kv.Pinger](w)
		_, stats := kv.As[kv.Statser](w)
		assert.Equal(t, []bool{tt.insert, tt.expire, tt.ping, tt.own}, []bool{insert, expire, ping, stats}, name)
		_, itself := w.(kv.Inserter)
		assert.Equal(t, tt.insert, itself, name)
		require.NoError(t, w.Upsert(t.Context(), one), name)
	}
}

// A store that does not say what it is has spans without a namespace, and an
// error of another's making is told by its class alone.
func TestSpansOfOtherStores(t *testing.T) {
	spans, _, opts := recording(t)
	_, err := kvotel.Wrap(failing{}, opts...).Get(t.Context(), "secret")
	require.Error(t, err)
	assert.Equal(t, "get [client] db.operation.name=get,db.system.name=kv,error.type=error: error", describe(spans.Ended()[0]))
}

type failing struct{ kv.Store }

func (failing) Get(_ context.Context, id string) (json.RawMessage, error) {
	return nil, fmt.Errorf("no %s", id)
}

// The Redis client's own instrumentation is attached in one line, and its
// spans are children of the calls'.
func TestRedisotel(t *testing.T) {
	ctx := t.Context()
	server := redistest.Start(t)
	spans, traces := tracetest.NewSpanRecorder(), trace.NewTracerProvider()
	traces.RegisterSpanProcessor(spans)
	client := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true, MaxRetries: -1})
	defer client.Close()
	require.NoError(t, redisotel.InstrumentTracing(client, redisotel.WithDBStatement(false), redisotel.WithTracerProvider(traces)))
	inner, err := kv.Open(ctx, kv.Config{Backend: "redis", NoMigrate: true}, "docs",
		kv.WithRedisClient(client), kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer inner.Close()
	s := kvotel.Wrap(inner, kvotel.WithTracerProvider(traces))
	_, err = s.Get(ctx, "absent")
	require.ErrorIs(t, err, kv.ErrNotFound)
	require.NoError(t, s.Upsert(ctx, map[string]json.RawMessage{"a": json.RawMessage(`1`), "b": json.RawMessage(`2`)}))

	parents := make(map[oteltrace.SpanID]string)
	for _, span := range spans.Ended() {
		if span.InstrumentationScope().Name == "github.com/ngraf/kv/kvotel" {
			require.Equal(t, oteltrace.SpanKindClient, span.SpanKind())
			parents[span.SpanContext().SpanID()] = span.Name()
		}
	}
	var children []string
	for _, span := range spans.Ended() {
		if parent := parents[span.Parent().SpanID()]; parent != "" {
			children = append(children, parent+" > "+span.Name())
		}
	}
	assert.Subset(t, children, []string{"get docs > get", "upsert docs > mset"})
}
