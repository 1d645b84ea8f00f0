package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// A service is what the metrics of one say, or how much that has grown.
type service struct {
	namespaces map[string]*served

	poolInUse, poolIdle, poolLimit float64
	waits, timeouts, retries       float64
	circuitOpen                    bool

	cacheHits, cacheMisses, cacheBytes, cacheLimit float64
}

// served are the figures of a namespace.
type served struct {
	calls, failed, hits, misses float64
	latency                     map[float64]float64 // calls that took no longer than so many seconds
}

// mostMetrics bounds what is read of a service.
const mostMetrics = 32 << 20

// scrape reads the metrics of a service.
func scrape(ctx context.Context, url string) (*service, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true // So that no connection is left open between two looks.
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s says %s", url, resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(resp.Body, mostMetrics))
	if err != nil {
		return nil, fmt.Errorf("%s serves no metrics of Prometheus: %w", url, err)
	}
	if families["kv_operations_total"] == nil && families["kv_up"] == nil {
		return nil, fmt.Errorf("%s has no metrics of kv; register kvprom.NewCollector", url)
	}
	return readService(families), nil
}

// quick are the methods whose latency is shown. The others take as long as
// there are documents.
var quick = []string{"get", "getmany", "missing", "upsert", "upsertttl", "insert", "delete", "ttl"}

func readService(families map[string]*dto.MetricFamily) *service {
	s := &service{namespaces: make(map[string]*served)}
	of := func(m *dto.Metric) *served {
		name := label(m, "namespace")
		if s.namespaces[name] == nil {
			s.namespaces[name] = &served{latency: make(map[float64]float64)}
		}
		return s.namespaces[name]
	}
	each := func(name string, add func(m *dto.Metric, value float64)) {
		for _, m := range families[name].GetMetric() {
			add(m, m.GetCounter().GetValue()+m.GetGauge().GetValue()) // It has one of the two.
		}
	}
	each("kv_operations_total", func(m *dto.Metric, v float64) {
		of(m).calls += v
		if !slices.Contains([]string{"ok", "not_found", "canceled"}, label(m, "result")) {
			of(m).failed += v
		}
	})
	each("kv_hits_total", func(m *dto.Metric, v float64) { of(m).hits += v })
	each("kv_misses_total", func(m *dto.Metric, v float64) { of(m).misses += v })
	each("kv_operation_duration_seconds", func(m *dto.Metric, _ float64) {
		if !slices.Contains(quick, label(m, "op")) {
			return
		}
		for _, b := range m.GetHistogram().GetBucket() {
			of(m).latency[b.GetUpperBound()] += float64(b.GetCumulativeCount())
		}
	})
	each("kv_pool_connections", func(m *dto.Metric, v float64) {
		if label(m, "state") == "in_use" {
			s.poolInUse += v
		} else {
			s.poolIdle += v
		}
	})
	each("kv_redis_circuit_open", func(_ *dto.Metric, v float64) { s.circuitOpen = s.circuitOpen || v > 0 })
	for name, figure := range map[string]*float64{
		"kv_pool_max_connections": &s.poolLimit, "kv_pool_waits_total": &s.waits, "kv_pool_timeouts_total": &s.timeouts,
		"kv_redis_retries_total": &s.retries, "kv_cache_hits_total": &s.cacheHits, "kv_cache_misses_total": &s.cacheMisses,
		"kv_cache_bytes": &s.cacheBytes, "kv_cache_max_bytes": &s.cacheLimit,
	} {
		each(name, func(_ *dto.Metric, v float64) { *figure += v })
	}
	return s
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// since returns how much the counters have grown since then; nil is when the
// service was started.
func (s *service) since(then *service) *service {
	d := *s
	d.namespaces = make(map[string]*served)
	if then == nil {
		then = new(service)
	}
	for name, n := range s.namespaces {
		old := then.namespaces[name]
		if old == nil || old.calls > n.calls { // The service was started anew.
			old = new(served)
		}
		grown := &served{calls: n.calls - old.calls, failed: n.failed - old.failed, hits: n.hits - old.hits,
			misses: n.misses - old.misses, latency: make(map[float64]float64)}
		for to, count := range n.latency {
			grown.latency[to] = count - old.latency[to]
		}
		d.namespaces[name] = grown
	}
	for figure, old := range map[*float64]float64{&d.waits: then.waits, &d.timeouts: then.timeouts, &d.retries: then.retries,
		&d.cacheHits: then.cacheHits, &d.cacheMisses: then.cacheMisses} {
		*figure -= min(old, *figure)
	}
	return &d
}

// quantile is the time that the part q of the calls did not exceed, as
// Prometheus has it: between the ends of a bucket by a straight line.
func quantile(latency map[float64]float64, q float64) string {
	ends := slices.Sorted(maps.Keys(latency))
	if len(ends) == 0 || latency[ends[len(ends)-1]] <= 0 {
		return "-"
	}
	rank := q * latency[ends[len(ends)-1]]
	from, below := 0.0, 0.0
	for _, to := range ends {
		if latency[to] < rank {
			from, below = to, latency[to]
			continue
		}
		if math.IsInf(to, 1) {
			return "over " + inSeconds(from)
		}
		return inSeconds(from + (to-from)*(rank-below)/(latency[to]-below))
	}
	return "-"
}

func inSeconds(s float64) string {
	switch {
	case s < 1e-3:
		return fmt.Sprintf("%.3g µs", s*1e6)
	case s < 1:
		return fmt.Sprintf("%.3g ms", s*1e3)
	}
	return fmt.Sprintf("%.3g s", s)
}
