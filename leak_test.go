package kv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
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

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvotel"
	"github.com/ngraf/kv/kvprom"
	"github.com/ngraf/kv/kvtest"
)

// password stands in the configuration, and must be seen nowhere.
const password = "GEHEIM-und-lang"

// What is shorter than least is not looked for, since it would be found in
// words; from piece on an id or value is looked for in pieces of that length,
// so that any excerpt of twice that holds one whole.
const least, piece = 6, 12

// A short piece that is made of letters is a word, which the text of an error may hold.
const letters = "abcdefghijklmnopqrstuvwxyz"

// A watch knows every id and value that went through its stores, and all that
// was said of them: log lines, spans, metrics and errors.
type watch struct {
	mu     sync.Mutex
	secret map[string]bool // pieces
	said   map[string]bool
}

func newWatch() *watch {
	return &watch{secret: map[string]bool{password[:piece]: true}, said: make(map[string]bool)}
}

// hide keeps the pieces of an id or value; of a long one, those it begins with.
// Pieces that repeat one character would be found anywhere.
func (w *watch) hide(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := min(len(text), piece); n >= least && len(w.secret) < 1_000_000; n = piece {
		p := text[:n]
		if same := strings.Count(p, p[:1]) >= n-1; !same && (n == piece || strings.Trim(p, letters) != "") {
			w.secret[strings.Clone(p)] = true
		}
		if text = text[n:]; len(text) < piece {
			break
		}
	}
}

func (w *watch) hideItems(items map[string]json.RawMessage) {
	for id, value := range items {
		w.hide(id)
		w.hide(string(value[:min(len(value), 1<<10)]))
	}
}

func (w *watch) say(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said[text] = true
}

// Write makes a watch what a logger writes to. The time is no secret.
func (w *watch) Write(line []byte) (int, error) {
	_, rest, _ := strings.Cut(string(line), " ")
	w.say(rest)
	return len(line), nil
}

func (w *watch) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// The methods of a span processor.
func (w *watch) OnStart(context.Context, trace.ReadWriteSpan) {}
func (w *watch) Shutdown(context.Context) error               { return nil }
func (w *watch) ForceFlush(context.Context) error             { return nil }

func (w *watch) OnEnd(s trace.ReadOnlySpan) {
	w.say(s.Name())
	w.say(s.Status().Description)
	w.sayAll(s.Attributes())
	for _, e := range s.Events() {
		w.say(e.Name)
		w.sayAll(e.Attributes)
	}
}

func (w *watch) sayAll(attrs []attribute.KeyValue) {
	for _, a := range attrs {
		w.say(string(a.Key) + "=" + a.Value.String())
	}
}

// leaks returns what was said that holds a piece of what was hidden.
func (w *watch) leaks() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []string
	for _, text := range slices.Sorted(maps.Keys(w.said)) {
		if p := w.leak(text); p != "" {
			found = append(found, fmt.Sprintf("%q in %.300q", p, text))
		}
	}
	return found
}

func (w *watch) leak(text string) string {
	for i := range len(text) {
		for n := least; n <= piece && i+n <= len(text); n++ {
			if w.secret[text[i:i+n]] {
				return text[i : i+n]
			}
		}
	}
	return ""
}

// A watched store tells its watch of each id and value, and of each error.
type watched struct {
	kv.Store
	kv.Inserter
	kv.Expirer
	w      *watch
	scrape func()
}

// Close has the metrics looked at while there are some.
func (s watched) Close() error {
	s.scrape()
	return s.failed(s.Store.Close())
}

func (s watched) Unwrap() kv.Store { return s.Store }

func (s watched) failed(err error) error {
	if err != nil {
		s.w.say(err.Error())
		s.w.say(fmt.Sprintf("%+v %#v", err, err))
	}
	return err
}

func (s watched) Get(ctx context.Context, id string) (json.RawMessage, error) {
	s.w.hide(id)
	v, err := s.Store.Get(ctx, id)
	return v, s.failed(err)
}

func (s watched) GetMany(ctx context.Context, ids []string, fields ...string) ([]json.RawMessage, error) {
	for _, id := range ids {
		s.w.hide(id)
	}
	v, err := s.Store.GetMany(ctx, ids, fields...)
	return v, s.failed(err)
}

func (s watched) Missing(ctx context.Context, ids []string) ([]string, error) {
	for _, id := range ids {
		s.w.hide(id)
	}
	v, err := s.Store.Missing(ctx, ids)
	return v, s.failed(err)
}

func (s watched) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for id, err := range s.Store.Keys(ctx) {
			if !yield(id, s.failed(err)) {
				return
			}
		}
	}
}

func (s watched) Upsert(ctx context.Context, items map[string]json.RawMessage) error {
	s.w.hideItems(items)
	return s.failed(s.Store.Upsert(ctx, items))
}

func (s watched) Delete(ctx context.Context, ids ...string) (int, error) {
	for _, id := range ids {
		s.w.hide(id)
	}
	n, err := s.Store.Delete(ctx, ids...)
	return n, s.failed(err)
}

func (s watched) Insert(ctx context.Context, items map[string]json.RawMessage) (int, error) {
	s.w.hideItems(items)
	n, err := s.Inserter.Insert(ctx, items)
	return n, s.failed(err)
}

func (s watched) TTL(ctx context.Context, id string) (time.Duration, error) {
	s.w.hide(id)
	ttl, err := s.Expirer.TTL(ctx, id)
	return ttl, s.failed(err)
}

func (s watched) UpsertTTL(ctx context.Context, items map[string]json.RawMessage, ttl time.Duration) error {
	s.w.hideItems(items)
	return s.failed(s.Expirer.UpsertTTL(ctx, items, ttl))
}

// telling is all instrumentation that there is, with a watch at its ends.
type telling struct {
	*watch
	spans   *trace.TracerProvider
	meters  *metric.MeterProvider
	reader  *metric.ManualReader
	metrics *prometheus.Registry
}

func newTelling(t *testing.T) *telling {
	o := &telling{watch: newWatch(), reader: metric.NewManualReader(), metrics: prometheus.NewPedanticRegistry()}
	o.spans = trace.NewTracerProvider(trace.WithSpanProcessor(o))
	o.meters = metric.NewMeterProvider(metric.WithReader(o.reader))
	t.Cleanup(func() {
		_ = o.spans.Shutdown(context.Background())
		_ = o.meters.Shutdown(context.Background())
	})
	return o
}

// wrap puts the tracing between the watch and the store.
func (o *telling) wrap(t *testing.T, s kv.Store) kv.Store {
	c, err := kvprom.NewStoreCollector(s)
	require.NoError(t, err)
	traced := kvotel.Wrap(s, kvotel.WithTracerProvider(o.spans), kvotel.WithMeterProvider(o.meters))
	return watched{traced, traced.(kv.Inserter), traced.(kv.Expirer), o.watch, func() { o.scrape(c) }}
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
				o.say(f.GetName() + " " + l.GetName() + "=" + l.GetValue())
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
	t.Logf("%d pieces were looked for in %d texts", len(o.secret), len(o.said))
	require.Greater(t, len(o.secret), 10_000)
	require.Greater(t, len(o.said), 100)
	require.Empty(t, o.leaks())
}

// Errors are *Error: their text holds no id, no value and no secret. No log
// line does either, at any level, nor a span, nor a metric. This is the run of
// the contract on the store that kvotel wraps, too.
func TestNothingLeaksJSON(t *testing.T) {
	t.Parallel()
	o := newTelling(t)
	kvtest.Run(t, func(t *testing.T) kvtest.Harness {
		return jsonHarness(t, tight, func(s kv.Store) kv.Store { return o.wrap(t, s) }, kv.WithLogger(o.logger()))
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
		cfg := kv.Config{Backend: "redis", Redis: kv.RedisConfig{URL: kv.RedisURL(server.URL())}, MaxValueBytes: tight}
		opts := []kv.Option{kv.WithLogger(o.logger())}
		if own = !own; !own {
			client := redis.NewClient(&redis.Options{Addr: server.Addr, Password: password, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
			t.Cleanup(func() { _ = client.Close() })
			require.NoError(t, redisotel.InstrumentTracing(client, redisotel.WithDBStatement(false), redisotel.WithTracerProvider(o.spans)))
			opts = append(opts, kv.WithRedisClient(client))
		}
		return harnessOf(t, server, newOpener(t, cfg, func(s kv.Store) kv.Store { return o.wrap(t, s) }, opts...))
	})
	o.finish(t)
}

// The search finds an id in a log line, a value in an error, the password in a
// span, and a label of a metric that is an id.
func TestLeaksAreFound(t *testing.T) {
	const id, value = "chunk-0123456789abcdef", `{"content":"It was the best of times"}`
	for name, leak := range map[string]func(o *telling){
		"log":   func(o *telling) { o.logger().Debug("kv: read", "id", id) },
		"error": func(o *telling) { o.say(fmt.Errorf("bad value %.30s", value).Error()) },
		"span":  func(o *telling) { _, s := o.spans.Tracer("").Start(t.Context(), "AUTH "+password); s.End() },
		"attr":  func(o *telling) { o.sayAll([]attribute.KeyValue{attribute.String("db.query.text", "GET kv:"+id)}) },
		"metric": func(o *telling) {
			c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reads"}, []string{"id"})
			c.WithLabelValues(id).Inc()
			o.scrape(c)
		},
	} {
		o := newTelling(t)
		o.hideItems(map[string]json.RawMessage{id: json.RawMessage(value)})
		o.logger().Debug("kv: read", "namespace", "full_docs")
		require.Empty(t, o.leaks(), name)
		leak(o)
		require.Len(t, o.leaks(), 1, name)
	}
}
