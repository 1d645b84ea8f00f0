package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
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

// scrape reads the metrics of a service.
func scrape(ctx context.Context, url string) (*service, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	req.Close = true // So that no connection is left open between two looks.
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s says %s", req.URL.Redacted(), resp.Status)
	}
	s, err := readService(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %w", req.URL.Redacted(), err)
	}
	return s, nil
}

// quick are the methods whose latency is shown. The others take as long as
// there are documents.
var quick = []string{"get", "getmany", "missing", "upsert", "upsertttl", "insert", "delete", "ttl"}

// readService sums up the metrics of kv in a text.
func readService(text io.Reader) (*service, error) {
	s := &service{namespaces: make(map[string]*served)}
	shared := map[string]*float64{
		"kv_pool_max_connections": &s.poolLimit, "kv_pool_waits_total": &s.waits, "kv_pool_timeouts_total": &s.timeouts,
		"kv_redis_retries_total": &s.retries, "kv_cache_hits_total": &s.cacheHits, "kv_cache_misses_total": &s.cacheMisses,
		"kv_cache_bytes": &s.cacheBytes, "kv_cache_max_bytes": &s.cacheLimit,
	}
	ours := false
	err := readSamples(text, func(m sample) error {
		ours = ours || m.name == "kv_operations_total" || m.name == "kv_up"
		if figure := shared[m.name]; figure != nil {
			*figure += m.value
			return nil
		}
		return s.add(m)
	})
	if err != nil {
		return nil, fmt.Errorf("serves no metrics of Prometheus: %w", err)
	}
	if !ours {
		return nil, errors.New("has no metrics of kv; register kvprom.NewCollector")
	}
	return s, nil
}

// add adds a sample about a namespace, or the pool, to the figure it belongs to.
func (s *service) add(m sample) error {
	switch m.name {
	case "kv_operations_total":
		n := s.of(m)
		n.calls += m.value
		if !slices.Contains([]string{"ok", "not_found", "canceled"}, m.labels["result"]) {
			n.failed += m.value
		}
	case "kv_hits_total":
		s.of(m).hits += m.value
	case "kv_misses_total":
		s.of(m).misses += m.value
	case "kv_operation_duration_seconds_bucket":
		end, err := strconv.ParseFloat(m.labels["le"], 64)
		if err != nil || math.IsNaN(end) {
			return errors.New("the end of a bucket is not a number")
		}
		if slices.Contains(quick, m.labels["op"]) {
			s.of(m).latency[end] += m.value
		}
	case "kv_pool_connections":
		if m.labels["state"] == "in_use" {
			s.poolInUse += m.value
		} else {
			s.poolIdle += m.value
		}
	case "kv_redis_circuit_open":
		s.circuitOpen = s.circuitOpen || m.value > 0
	}
	return nil
}

// of returns the figures of the namespace that a sample is about. A name that
// can be none of ours is quoted, so that it does nothing to a terminal.
func (s *service) of(m sample) *served {
	name := m.labels["namespace"]
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		name = quoted
	}
	if s.namespaces[name] == nil {
		s.namespaces[name] = &served{latency: make(map[float64]float64)}
	}
	return s.namespaces[name]
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
