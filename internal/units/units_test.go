package units

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "5": 5 * time.Second, "1.5": 1500 * time.Millisecond, "-5": -5 * time.Second, "1e2": 100 * time.Second,
		"500ms": 500 * time.Millisecond, "-90s": -90 * time.Second, "12h": 12 * time.Hour,
		"7d": 7 * day, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "-1d12h": -36 * time.Hour, "30d": 30 * day,
	} {
		d, err := Duration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, d, text)
	}
	for _, text := range []string{
		"", "-", "d", "soon", "12 h", "1 day", "1d2", "1d-2h", "d12h", "--5", "-+5", "+5", "1e400", "NaN", "inf",
		"99999999999999999999", "1e18", "0x10", "3000000h", "1,5", "200000d", "53000d1300000h",
	} {
		_, err := Duration(text)
		require.ErrorContains(t, err, text, "%q", text)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "-5": -5, "67108864": 64 << 20, "64mb": 64 << 20, "64MB": 64 << 20, "64 MiB": 64 << 20, "64m": 64e6,
		"1.5GB": 3 << 29, "1k": 1000, "1kb": 1024, "12b": 12, "9223372036854775807": math.MaxInt64,
	} {
		n, err := Bytes(text)
		require.NoError(t, err, text)
		require.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "mb", "much", "1.5", "1tb", "64 mb mb", "1e30gb", "NaNmb", "9223372036854775808"} {
		_, err := Bytes(text)
		require.Error(t, err, "%q", text)
	}
}
