package kv

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A bucket holds what is above the bound of the one before it, up to its own.
func TestHistogramBuckets(t *testing.T) {
	for i := firstBucket + 1; i < firstBucket+bucketCount-1; i++ {
		bound := math.Ldexp(math.Pow(2, float64(i&3)/4), i>>2)
		assert.Equal(t, i, bucketOf(bound)+firstBucket, "the bound of %d", i)
		assert.Equal(t, i, bucketOf(bound*0.9)+firstBucket, "below the bound of %d", i)
		assert.Equal(t, i+1, bucketOf(bound*1.0001)+firstBucket, "above the bound of %d", i)
	}
	for _, v := range []float64{0, -1, 1e-12} {
		assert.Equal(t, 0, bucketOf(v))
	}
	for _, v := range []float64{1e12, math.Inf(1)} {
		assert.Equal(t, bucketCount-1, bucketOf(v))
	}

	var m meter
	for i := 1; i <= 1000; i++ {
		m.time(time.Duration(i) * time.Millisecond)
	}
	h := m.read(1e-9)
	assert.Equal(t, uint64(1000), h.Count)
	assert.InDelta(t, 500.5, h.Sum, 1e-6)
	assert.InDelta(t, 0.5005, h.Mean(), 1e-6)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
		assert.InEpsilon(t, q, h.Quantile(q), 0.2, "quantile %v", q)
	}
	assert.Zero(t, Histogram{}.Quantile(0.5))
	assert.Zero(t, Histogram{}.Mean())
}

// Counting allocates nothing.
func TestCountersDoNotAllocate(t *testing.T) {
	c := new(counters)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		c.end(begun(methodGet), nil)
		c.end(begun(methodUpsert), ErrUnavailable)
		c.methods[methodUpsert].batch.number(3)
	}))
}

// Texts are spelled as Python's repr does.
func TestRepr(t *testing.T) {
	for text, want := range map[string]string{
		"":                 `''`,
		"it's":             `"it's"`,
		`"`:                `'"'`,
		`'"`:               `'\'"'`,
		"\\\n\r\t\x00\x7f": `'\\\n\r\t\x00\x7f'`,
		"é文😀 ":             `'é文😀 '`,
		"\u00a0\u00ad":     `'\xa0\xad'`,
		"\u2028\ufeff":     `'\u2028\ufeff'`,
		"\U000e0001\u001f": `'\U000e0001\x1f'`,
		"\U0001fae8":       `'\U0001fae8'`,
		"\xff":             "'\ufffd'",
	} {
		var b strings.Builder
		writeRepr(&b, text)
		require.Equal(t, want, b.String(), "%q", text)
	}
}
