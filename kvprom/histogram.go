package kvprom

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ngraf/kv"
)

// The histograms of kv are native ones already, of this schema: the bucket i
// ends at 2^(i/4). What is in the first may be smaller, or 0.
const (
	schema     = 2
	zeroBucket = 4 * zeroExponent
)

const zeroExponent = -26

// Bounds are the exponents of 2 at which classic buckets end: each is an end
// of a native one, so that the counts are exact.
type bounds struct{ least, most, step int }

var (
	ofLatency = bounds{-20, 6, 2} // 1 µs to 64 s
	ofBatch   = bounds{0, 16, 2}  // 1 to 65536
	ofTTL     = bounds{0, 24, 2}  // 1 s to 194 days
)

// A bothWays is a histogram that is native and classic at once, which
// prometheus makes only of what it observes itself.
type bothWays struct {
	desc   *prometheus.Desc
	metric dto.Metric
}

func newHistogram(desc *prometheus.Desc, h kv.Histogram, b bounds, labels []string) (prometheus.Metric, error) {
	native := make(map[int]int64, len(h.Buckets))
	for i, n := range h.Buckets {
		if i > zeroBucket {
			native[i] = int64(n)
		}
	}
	m, err := prometheus.NewConstNativeHistogram(desc, h.Count, h.Sum, native, nil,
		h.Buckets[zeroBucket], schema, math.Ldexp(1, zeroExponent), time.Time{}, labels...)
	if err != nil {
		return nil, err
	}
	both := &bothWays{desc: desc}
	if err := m.Write(&both.metric); err != nil {
		return nil, err
	}
	both.metric.Histogram.CreatedTimestamp = nil // Nobody knows, and 0 is a moment, too.
	both.metric.Histogram.Bucket = b.cumulative(h)
	return both, nil
}

// cumulative returns the classic buckets; that of all is implied.
func (b bounds) cumulative(h kv.Histogram) []*dto.Bucket {
	var buckets []*dto.Bucket
	for e := b.least; e <= b.most; e += b.step {
		end, count := math.Ldexp(1, e), uint64(0)
		for i, n := range h.Buckets {
			if i <= 4*e {
				count += n
			}
		}
		buckets = append(buckets, &dto.Bucket{UpperBound: &end, CumulativeCount: &count})
	}
	return buckets
}

// Desc implements [prometheus.Metric].
func (h *bothWays) Desc() *prometheus.Desc { return h.desc }

// Write implements [prometheus.Metric].
func (h *bothWays) Write(out *dto.Metric) error {
	out.Label, out.Histogram = h.metric.Label, h.metric.Histogram
	return nil
}
