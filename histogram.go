package kv

import (
	"math"
	"sync/atomic"
	"time"
)

// A Histogram counts values in buckets that grow by a factor of 2^(1/4), which
// is Prometheus' native histogram of schema 2: the bucket i counts values in
// (2^((i-1)/4), 2^(i/4)], with an error of at most a fifth. Durations are in
// seconds.
//
// Format: https://prometheus.io/docs/specs/native_histograms/
type Histogram struct {
	Count   uint64
	Sum     float64
	Buckets map[int]uint64 // those that are not empty
}

// The buckets that a histogram keeps: from 2^-26, 15 ns, to 2^30, a thousand
// million. What is outside is counted in the first or last.
const (
	leastExponent = -26
	mostExponent  = 30
	bucketCount   = 4*(mostExponent-leastExponent) + 1
	firstBucket   = 4 * leastExponent // the index, in schema 2, of the first
)

// bounds of a value's mantissa: 2^(1/4), 2^(2/4), 2^(3/4).
var quarters = [3]uint64{mantissa(math.Pow(2, 0.25)), mantissa(math.Sqrt2), mantissa(math.Pow(2, 0.75))}

func mantissa(v float64) uint64 { return math.Float64bits(v) & (1<<52 - 1) }

// bucketOf returns the place of v among the buckets that are kept.
func bucketOf(v float64) int {
	if v <= 0 {
		return 0
	}
	b := math.Float64bits(v) - 1 // A bucket's upper bound belongs to it.
	i := 4*(int(b>>52)-1023) + 1
	m := b & (1<<52 - 1)
	for _, bound := range quarters {
		if m >= bound {
			i++
		}
	}
	return min(max(i-firstBucket, 0), bucketCount-1)
}

// A meter is a histogram that is being filled. It allocates nothing, and is
// safe for concurrent use.
type meter struct {
	sum     atomic.Int64 // in units of scale
	buckets [bucketCount]atomic.Uint64
}

// time counts a duration. The sum is kept in nanoseconds.
func (m *meter) time(d time.Duration) {
	m.sum.Add(int64(d))
	m.buckets[bucketOf(float64(d)*1e-9)].Add(1)
}

// number counts a number of things.
func (m *meter) number(n int) {
	m.sum.Add(int64(n))
	m.buckets[bucketOf(float64(n))].Add(1)
}

// read returns what has been counted, the sum multiplied by unit.
func (m *meter) read(unit float64) Histogram {
	h := Histogram{Sum: float64(m.sum.Load()) * unit, Buckets: make(map[int]uint64)}
	for i := range m.buckets {
		if n := m.buckets[i].Load(); n > 0 {
			h.Buckets[i+firstBucket] = n
			h.Count += n
		}
	}
	return h
}

// Mean is the sum by the count, 0 of an empty histogram.
func (h Histogram) Mean() float64 {
	if h.Count == 0 {
		return 0
	}
	return h.Sum / float64(h.Count)
}

// Quantile returns a value that about the part q of all counted values do not
// exceed: the upper bound of the bucket in which it lies. q is from 0 to 1;
// that of an empty histogram is 0.
func (h Histogram) Quantile(q float64) float64 {
	rank := uint64(math.Ceil(q * float64(h.Count)))
	for i, seen := firstBucket, uint64(0); i < firstBucket+bucketCount && h.Count > 0; i++ {
		if seen += h.Buckets[i]; seen >= max(rank, 1) {
			return math.Pow(2, float64(i)/4)
		}
	}
	return 0
}

func (h Histogram) plus(o Histogram) Histogram {
	sum := Histogram{Count: h.Count + o.Count, Sum: h.Sum + o.Sum, Buckets: make(map[int]uint64)}
	for _, buckets := range []map[int]uint64{h.Buckets, o.Buckets} {
		for i, n := range buckets {
			sum.Buckets[i] += n
		}
	}
	return sum
}
