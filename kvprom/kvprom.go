// Package kvprom makes the figures of kv metrics of Prometheus:
//
//	collector := kvprom.NewCollector(factory)
//	defer collector.Close()
//	registry.MustRegister(collector)
//
// Nothing is counted that kv does not count anyway: a scrape reads counters,
// and asks each open namespace whether it answers. docs/monitoring.md lists
// the metrics. Their labels are backend, namespace, op, result and state,
// never an id. Histograms are native ones and classic ones at once; a server
// takes what it is set to scrape.
package kvprom

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ngraf/kv"
)

// An Option changes what a [Collector] exports.
type Option func(*Collector)

// WithPing bounds how long a scrape waits for a backend that does not answer,
// in place of 1 s. All are asked at once, with [kv.Healthy]. 0 or less leaves
// kv_up out.
func WithPing(timeout time.Duration) Option {
	return func(c *Collector) { c.ping = timeout }
}

// WithInspect looks into each open namespace in the background, one after the
// other, at once and then every so often, and exports what [kv.Inspect] found
// as kv_namespace_*. That reads a sample of so many documents of each (0:
// all), and lists all of its ids, so it costs what a backup would. Nothing of
// it counts as hits or misses. An interval of 0 or less is none. Close ends it.
func WithInspect(every time.Duration, sample int) Option {
	return func(c *Collector) { c.inspector = inspector{every: every, sample: sample} }
}

// A Collector is a [prometheus.Collector] of a factory or of a store.
type Collector struct {
	stats     func(context.Context) ([]kv.Stats, error)
	stores    func() map[string]kv.Store // by namespace
	own       bool                       // labels of the namespace are in descs
	descs     [metricCount]*prometheus.Desc
	ping      time.Duration
	inspector inspector
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector returns a collector of all namespaces of f. What its stores
// share, the pool of connections and the client-side cache, is there once. A
// program with several factories registers them with labels that tell them
// apart, see [prometheus.WrapRegistererWith].
func NewCollector(f *kv.Factory, opts ...Option) *Collector {
	c := &Collector{stats: f.Stats, stores: f.Stores}
	c.start(nil, opts)
	return c
}

// NewStoreCollector returns a collector of one store that was opened by
// itself, with [kv.Open]. Stores of one factory would each report its pool;
// use [NewCollector] for them. It fails if s is closed, or is no [kv.Statser].
func NewStoreCollector(s kv.Store, opts ...Option) (*Collector, error) {
	statser, ok := kv.As[kv.Statser](s)
	if !ok {
		return nil, fmt.Errorf("kvprom: %w: the store does not count, since it is no kv.Statser", kv.ErrInvalid)
	}
	stats, err := statser.Stats(context.Background())
	if err != nil {
		return nil, fmt.Errorf("kvprom: %w", err)
	}
	c := &Collector{
		own:    true,
		stores: func() map[string]kv.Store { return map[string]kv.Store{stats.Namespace: s} },
		stats: func(ctx context.Context) ([]kv.Stats, error) {
			stats, err := statser.Stats(ctx)
			if errors.Is(err, kv.ErrClosed) {
				return nil, nil
			}
			return []kv.Stats{stats}, err
		},
	}
	c.start(prometheus.Labels{"backend": stats.Backend, "namespace": stats.Namespace}, opts)
	return c, nil
}

func (c *Collector) start(labels prometheus.Labels, opts []Option) {
	c.ping = time.Second
	for _, opt := range opts {
		opt(c)
	}
	for i, m := range metrics {
		names := m.labels
		if m.scope == ofNamespace && !c.own {
			names = append([]string{"backend", "namespace"}, names...)
		}
		c.descs[i] = prometheus.NewDesc(m.name, m.help, names, labels)
	}
	c.inspector.start(c.stores)
}

// Close ends the inspection of WithInspect, and waits for it. It closes no
// store. What was counted can still be collected.
func (c *Collector) Close() error {
	c.inspector.stop()
	return nil
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector]. The scrape fails if the Stats of
// a store fail, which those of built-in stores do not.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	stores := c.stores()
	stats, err := c.stats(context.Background())
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.descs[operations], err)
		return
	}
	up := c.up(stores)
	shared := false
	for _, s := range stats {
		w := writer{c: c, ch: ch}
		if !c.own {
			w.labels = []string{s.Backend, s.Namespace}
		}
		w.counted(s)
		w.computed(s.Compute)
		if stores[s.Namespace] == nil { // What follows is of the moment.
			continue
		}
		w.flushed(s.LastFlush)
		w.files(s.JSON)
		if is, ok := up[s.Namespace]; ok {
			w.put(isUp, boolean(is))
		}
		if found, ok := c.inspector.last(s.Namespace); ok {
			w.inspected(found)
		}
		if !shared && s.Redis != nil {
			w.pool(s.Redis)
			w.cache(s.Redis)
			shared = true
		}
	}
}

// up asks all stores at once. One that was closed just now is neither up nor
// down.
func (c *Collector) up(stores map[string]kv.Store) map[string]bool {
	if c.ping <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.ping)
	defer cancel()
	up := make(map[string]bool)
	var mu sync.Mutex
	var asking sync.WaitGroup
	for namespace, s := range stores {
		asking.Go(func() {
			err := kv.Healthy(ctx, s)
			if errors.Is(err, kv.ErrClosed) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			up[namespace] = err == nil
		})
	}
	asking.Wait()
	return up
}
