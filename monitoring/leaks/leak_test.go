// Package leaks_test looks for ids, values and secrets in all that there is to
// see of a store: log lines, errors, spans and metrics.
package leaks_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/goleak"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/leaktest"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvotel"
	"github.com/ngraf/kv/kvprom"
	"github.com/ngraf/kv/kvtest"
)

// A pool of go-redis that could not dial tries again in a goroutine, which ends
// up to a second after the pool was closed.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// password stands in the configuration, and must be seen nowhere.
const password = "GEHEIM-und-lang"

// telling is all instrumentation that there is, with a watch at its ends.
type telling struct {
	*leaktest.Watch
	spans  *trace.TracerProvider
	meters *metric.MeterProvider
	reader *metric.ManualReader
}

func newTelling(t *testing.T) *telling {
	o := &telling{Watch: leaktest.New(password), reader: metric.NewManualReader()}
	o.spans = trace.NewTracerProvider(trace.WithSpanProcessor(o))
	o.meters = metric.NewMeterProvider(metric.WithReader(o.reader))
	t.Cleanup(func() {
		_ = o.spans.Shutdown(context.Background())
		_ = o.meters.Shutdown(context.Background())
	})
	return o
}

// The methods of a span processor.
func (o *telling) OnStart(context.Context, trace.ReadWriteSpan) {}
func (o *telling) Shutdown(context.Context) error               { return nil }
func (o *telling) ForceFlush(context.Context) error             { return nil }

func (o *telling) OnEnd(s trace.ReadOnlySpan) {
	o.Say(s.Name())
	o.Say(s.Status().Description)
	o.sayAll(s.Attributes())
	for _, e := range s.Events() {
		o.Say(e.Name)
		o.sayAll(e.Attributes)
	}
}

func (o *telling) sayAll(attrs []attribute.KeyValue) {
	for _, a := range attrs {
		o.Say(string(a.Key) + "=" + a.Value.String())
	}
}

// wrap puts the tracing between the watch and the store, and has the metrics
// looked at while there are some.
func (o *telling) wrap(t *testing.T, s kv.Store) kv.Store {
	c, err := kvprom.NewStoreCollector(s)
	require.NoError(t, err)
	traced := kvotel.Wrap(s, kvotel.WithTracerProvider(o.spans), kvotel.WithMeterProvider(o.meters))
	return o.Wrap(traced, func() { o.scrape(c) })
}

func (o *telling) scrape(c prometheus.Collector) {
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				o.Say(f.GetName() + " " + l.GetName() + "=" + l.GetValue())
			}
		}
	}
}

// finish looks at the last metrics and reports every leak.
func (o *telling) finish(t *testing.T) {
	var all metricdata.ResourceMetrics
	require.NoError(t, o.reader.Collect(context.Background(), &all))
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			for _, p := range m.Data.(metricdata.Histogram[float64]).DataPoints {
				o.sayAll(p.Attributes.ToSlice())
			}
		}
	}
	pieces, texts := o.Seen()
	t.Logf("%d pieces were looked for in %d texts", pieces, texts)
	require.Greater(t, pieces, 10_000)
	require.Greater(t, texts, 100)
	require.Empty(t, o.Leaks())
}

// Errors are *Error: their text holds no id, no value and no secret. No log
// line does either, at any level, nor a span, nor a metric. This is the run of
// the contract on the store that kvotel wraps, too.
func TestNothingLeaksJSON(t *testing.T) {
	t.Parallel()
	o := newTelling(t)
	kvtest.Run(t, func(t *testing.T) kvtest.Harness {
		dir := t.TempDir()
		var ahead atomic.Int64
		ctx := jsonstore.WithClock(t.Context(), func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
		h := harnessOf(ctx, t, o, kv.Config{WorkingDir: dir})
		h.Advance = func(d time.Duration) { ahead.Add(int64(d)) }
		h.Plant = func(namespace string, raw map[string][]byte) error { return plantFile(dir, namespace, raw) }
		return h
	})
	o.finish(t)
}

// The same on Redis, on a server that has a password and goes away: by kv's
// own client, and by one with instrumentation of its own in turn.
func TestNothingLeaksRedis(t *testing.T) {
	t.Parallel()
	o := newTelling(t)
	own := false
	kvtest.Run(t, func(t *testing.T) kvtest.Harness {
		server := redistest.Start(t, redistest.AppendFsyncAlways(), redistest.Password(password))
		var opts []kv.Option
		if own = !own; !own {
			client := redis.NewClient(&redis.Options{Addr: server.Addr, Password: password, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
			t.Cleanup(func() { _ = client.Close() })
			require.NoError(t, redisotel.InstrumentTracing(client, redisotel.WithDBStatement(false), redisotel.WithTracerProvider(o.spans)))
			opts = append(opts, kv.WithRedisClient(client))
		}
		h := harnessOf(t.Context(), t, o, kv.Config{Backend: "redis", Redis: kv.RedisConfig{URL: kv.RedisURL(server.URL())}}, opts...)
		h.Plant = func(namespace string, raw map[string][]byte) error { return plantKeys(t, server, namespace, raw) }
		h.Away = func() error { server.Kill(); return nil }
		h.Back = func() error { server.Restart(); return nil }
		return h
	})
	o.finish(t)
}

// The search finds an id in a log line, a value in an error, the password in a
// span, and a label of a metric that is an id.
func TestLeaksAreFound(t *testing.T) {
	const id, value = "chunk-0123456789abcdef", `{"content":"It was the best of times"}`
	for name, leak := range map[string]func(o *telling){
		"log":   func(o *telling) { o.Logger().Debug("kv: read", "id", id) },
		"error": func(o *telling) { o.Say(fmt.Errorf("bad value %.30s", value).Error()) },
		"span":  func(o *telling) { _, s := o.spans.Tracer("").Start(t.Context(), "AUTH "+password); s.End() },
		"attr":  func(o *telling) { o.sayAll([]attribute.KeyValue{attribute.String("db.query.text", "GET kv:"+id)}) },
		"metric": func(o *telling) {
			c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reads"}, []string{"id"})
			c.WithLabelValues(id).Inc()
			o.scrape(c)
		},
	} {
		o := newTelling(t)
		o.HideItems(map[string]json.RawMessage{id: json.RawMessage(value)})
		o.Logger().Debug("kv: read", "namespace", "full_docs")
		require.Empty(t, o.Leaks(), name)
		leak(o)
		require.Len(t, o.Leaks(), 1, name)
	}
}
