package kvprom

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ngraf/kv"
)

// A writer turns the figures of one namespace into metrics.
type writer struct {
	c      *Collector
	ch     chan<- prometheus.Metric
	labels []string // of the namespace, unless the collector has one only
}

// alerting are the results that are there as 0, once their method was called,
// so that the rate of the first failure is not missed.
var alerting = []string{
	kv.Result(nil),
	kv.Result(kv.ErrUnavailable),
	kv.Result(kv.ErrOutcomeUnknown),
	kv.Result(kv.ErrCorrupt),
	"timeout",
	"error",
}

func (w writer) values(id metricID, labels []string) []string {
	if metrics[id].scope == ofNamespace {
		return append(append([]string{}, w.labels...), labels...)
	}
	return labels
}

func (w writer) put(id metricID, value float64, labels ...string) {
	d := w.c.descs[id]
	m, err := prometheus.NewConstMetric(d, metrics[id].kind.value(), value, w.values(id, labels)...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	w.ch <- m
}

func (w writer) distribution(id metricID, h kv.Histogram, b bounds, labels ...string) {
	d := w.c.descs[id]
	m, err := newHistogram(d, h, b, w.values(id, labels))
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	w.ch <- m
}

func (w writer) counted(s kv.Stats) {
	for op, call := range s.Calls {
		for _, result := range alerting {
			if call.Results[result] == 0 {
				w.put(operations, 0, op, result)
			}
		}
		for result, n := range call.Results {
			if n > 0 {
				w.put(operations, float64(n), op, result)
			}
		}
		w.distribution(operationDuration, call.Latency, ofLatency, op)
		if call.Batch.Count > 0 {
			w.distribution(batchSize, call.Batch, ofBatch, op)
		}
	}
	w.put(hits, float64(s.Hits))
	w.put(misses, float64(s.Misses))
	w.put(documentsStored, float64(s.Upserts))
	w.put(documentsDeleted, float64(s.Deletes))
	w.put(readBytes, float64(s.BytesRead))
	w.put(writtenBytes, float64(s.BytesWritten))
}

func (w writer) computed(s kv.ComputeStats) {
	w.put(computeHits, float64(s.Hits))
	w.put(computeMisses, float64(s.Misses))
	w.put(computeWaits, float64(s.Waits))
	w.put(computeRuns, float64(s.Computes))
	w.put(computeLeaseLosses, float64(s.LeaseLosses))
	w.put(computeSaved, s.TimeSaved.Seconds())
}

func (w writer) flushed(s kv.FlushStats) {
	if !s.At.IsZero() {
		w.put(lastFlush, seconds(s.At))
	}
	w.put(lastFlushFailed, boolean(s.Err != nil))
}

func (w writer) files(s *kv.JSONStats) {
	if s == nil {
		return
	}
	w.put(jsonDocuments, float64(s.Documents))
	w.put(jsonSnapshotBytes, float64(s.SnapshotBytes))
	w.put(jsonJournalBytes, float64(s.JournalBytes))
	w.put(jsonCompactions, float64(s.Compactions))
}

func (w writer) pool(s *kv.RedisStats) {
	w.put(poolConnections, float64(max(s.Connections-s.IdleConnections, 0)), "in_use")
	w.put(poolConnections, float64(s.IdleConnections), "idle")
	if s.ConnectionLimit > 0 {
		w.put(poolMaxConnections, float64(s.ConnectionLimit))
	}
	w.put(poolWaits, float64(s.PoolWaits))
	w.put(poolWaitSeconds, s.PoolWaited.Seconds())
	w.put(poolTimeouts, float64(s.PoolTimeouts))
	w.put(poolStale, float64(s.StaleConnections))
	w.put(redisRetries, float64(s.Retries))
	if s.Circuit != "" {
		w.put(redisCircuit, boolean(s.Circuit != "closed"))
	}
}

func (w writer) cache(s *kv.RedisStats) {
	if s.CacheLimit == 0 {
		return
	}
	w.put(cacheHits, float64(s.CacheHits))
	w.put(cacheMisses, float64(s.CacheMisses))
	w.put(cacheDocuments, float64(s.CacheEntries))
	w.put(cacheBytes, float64(s.CacheBytes))
	w.put(cacheMaxBytes, float64(s.CacheLimit))
	w.put(cacheEvictions, float64(s.CacheEvictions))
	w.put(cacheInvalidations, float64(s.CacheInvalidations))
}

func (w writer) inspected(f finding) {
	w.put(namespaceDocuments, float64(f.Documents))
	w.put(namespaceBytes, float64(f.Bytes))
	expiring := float64(f.TTL.Count)
	if f.Sampled > 0 {
		expiring = math.Round(expiring * float64(f.Documents) / float64(f.Sampled))
	}
	w.put(namespaceExpiring, expiring)
	w.distribution(namespaceTTL, f.TTL, ofTTL)
	biggest := 0
	if len(f.Biggest) > 0 {
		biggest = f.Biggest[0].Bytes
	}
	w.put(namespaceBiggest, float64(biggest))
	w.put(namespaceCorrupt, float64(f.Corrupt))
	w.put(namespaceInspected, seconds(f.at))
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
