// Package kvotel shows the calls of a [kv.Store] to OpenTelemetry: each is a
// span and a value of the histogram db.client.operation.duration, by the
// semantic conventions for databases.
//
//	store = kvotel.Wrap(store)
//
// A span has the namespace, the method, how many ids or documents it was
// about, whether the document was there and how the call failed, and never an
// id or a value. docs/monitoring.md lists the attributes.
//
// The Redis client has instrumentation of its own, redisotel, for a client
// that is passed to [kv.WithRedisClient]. Its statements hold ids and values,
// so leave them off:
//
//	err := redisotel.InstrumentTracing(client, redisotel.WithDBStatement(false))
package kvotel

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/ngraf/kv"
)

const scope = "github.com/ngraf/kv/kvotel"

// The ends of the buckets are those of the semantic conventions.
var buckets = metric.WithExplicitBucketBoundaries(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)

// An Option says where spans and metrics go.
type Option func(*options)

type options struct {
	tracers trace.TracerProvider
	meters  metric.MeterProvider
}

// WithTracerProvider makes the spans in place of [otel.GetTracerProvider].
func WithTracerProvider(p trace.TracerProvider) Option { return func(o *options) { o.tracers = p } }

// WithMeterProvider makes the metrics in place of [otel.GetMeterProvider].
func WithMeterProvider(p metric.MeterProvider) Option { return func(o *options) { o.meters = p } }

// Wrap returns a store that does what s does, and tells of it. [kv.As] finds
// the optional interfaces that s has, and no other; the calls of [kv.Inserter]
// and [kv.Expirer] are traced, too. Close, Ping and Stats are not. The names of
// the backend and the namespace are those of Stats; without, they are missing.
func Wrap(s kv.Store, opts ...Option) kv.Store {
	o := options{otel.GetTracerProvider(), otel.GetMeterProvider()}
	for _, opt := range opts {
		opt(&o)
	}
	w := &store{Store: s, tracing: newTracing(s, o)}
	in, inserts := kv.As[kv.Inserter](s)
	ex, expires := kv.As[kv.Expirer](s)
	switch {
	case inserts && expires:
		return struct {
			*store
			inserter
			expirer
		}{w, inserter{in, w.tracing}, expirer{ex, w.tracing}}
	case inserts:
		return struct {
			*store
			inserter
		}{w, inserter{in, w.tracing}}
	case expires:
		return struct {
			*store
			expirer
		}{w, expirer{ex, w.tracing}}
	}
	return w
}

// A tracing makes the spans and metrics of one store.
type tracing struct {
	tracer    trace.Tracer
	duration  dbconv.ClientOperationDuration
	namespace string
	attrs     []attribute.KeyValue // of every span and metric
	kind      trace.SpanKind
}

func newTracing(s kv.Store, o options) *tracing {
	t := &tracing{
		tracer: o.tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		kind:   trace.SpanKindClient,
	}
	var err error
	t.duration, err = dbconv.NewClientOperationDuration(o.meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)), buckets)
	if err != nil {
		otel.Handle(err)
	}
	statser, ok := kv.As[kv.Statser](s)
	if !ok {
		t.attrs = []attribute.KeyValue{semconv.DBSystemNameKey.String("kv")}
		return t
	}
	stats, err := statser.Stats(context.Background())
	if err != nil {
		otel.Handle(err)
	}
	t.namespace = stats.Namespace
	system := stats.Backend
	if system != "redis" {
		system = "kv." + system
	}
	if system == "kv.json" { // It is in this process.
		t.kind = trace.SpanKindInternal
	}
	t.attrs = []attribute.KeyValue{semconv.DBSystemNameKey.String(system), semconv.DBCollectionName(t.namespace)}
	return t
}

// A call is one under way.
type call struct {
	*tracing
	ctx   context.Context
	span  trace.Span
	attrs []attribute.KeyValue
	began time.Time
}

// begin starts the span of a call on n ids or documents. The context is for
// the wrapped store, so that its spans are children.
func (t *tracing) begin(ctx context.Context, op string, n int) (context.Context, *call) {
	attrs := append(t.attrs[:len(t.attrs):len(t.attrs)], semconv.DBOperationName(op))
	name := op
	if t.namespace != "" {
		name += " " + t.namespace
	}
	c := &call{tracing: t, attrs: attrs, began: time.Now()}
	c.ctx, c.span = t.tracer.Start(ctx, name, trace.WithSpanKind(t.kind), trace.WithAttributes(attrs...))
	if n != 1 { // The conventions say that one is no batch.
		c.span.SetAttributes(semconv.DBOperationBatchSize(n))
	}
	return c.ctx, c
}

// end takes the error of the call. That a document is absent is no failure.
func (c *call) end(err error) {
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		class := semconv.ErrorTypeKey.String(kv.Result(err))
		c.attrs = append(c.attrs, class)
		c.span.SetAttributes(class)
		c.span.SetStatus(codes.Error, description(err))
	}
	c.duration.RecordSet(c.ctx, time.Since(c.began).Seconds(), attribute.NewSet(c.attrs...))
	c.span.End()
}

// description is the text of an error that is known to hold no id.
func description(err error) string {
	if ours := (*kv.Error)(nil); errors.As(err, &ours) {
		return ours.Error()
	}
	return kv.Result(err)
}

func (c *call) returned(n int) { c.span.SetAttributes(semconv.DBResponseReturnedRows(n)) }
