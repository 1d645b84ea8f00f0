// Package units reads times and sizes as people write them in variables and
// flags.
package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Duration reads a number of seconds (5, 0.5), or a Go duration that may have
// days before its hours (500ms, 12h, 7d, 1d12h). A day has 24 hours. It may be
// negative.
func Duration(text string) (time.Duration, error) {
	unsigned, negative := strings.CutPrefix(text, "-")
	d, err := span(unsigned)
	if err != nil {
		return 0, fmt.Errorf("%q %w", text, err)
	}
	if negative {
		d = -d
	}
	return d, nil
}

type problem string

func (p problem) Error() string { return string(p) }

const (
	notDuration problem = "is neither a number of seconds nor a duration such as 90s, 15m, 12h or 7d"
	tooLong     problem = "is out of range"
)

// span reads a duration without a sign.
func span(text string) (time.Duration, error) {
	if strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+") {
		return 0, notDuration
	}
	if seconds, err := number(text); err == nil {
		return times(seconds, time.Second)
	}
	days, rest, ok := strings.Cut(text, "d")
	if !ok {
		days, rest = "0", text
	}
	n, err := number(days)
	if err != nil {
		return 0, notDuration
	}
	whole, err := times(n, day)
	if err != nil || ok && rest == "" {
		return whole, err
	}
	part, err := time.ParseDuration(rest)
	switch {
	case err != nil || strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "+"):
		return 0, notDuration
	case whole > math.MaxInt64-part:
		return 0, tooLong
	}
	return whole + part, nil
}

// times is n units, to the nanosecond, up to half of what a Duration can hold.
func times(n float64, unit time.Duration) (time.Duration, error) {
	if n > math.MaxInt64/float64(unit)/2 {
		return 0, tooLong
	}
	return time.Duration(math.Round(n * float64(unit))), nil
}

// number reads digits, with or without a fraction or an exponent.
func number(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, notDuration
	}
	return n, nil
}

// bytesOf are the units of redis.conf, and those that say what they are.
var bytesOf = map[string]float64{
	"": 1, "b": 1,
	"k": 1e3, "kb": 1 << 10, "kib": 1 << 10,
	"m": 1e6, "mb": 1 << 20, "mib": 1 << 20,
	"g": 1e9, "gb": 1 << 30, "gib": 1 << 30,
}

// Bytes reads a whole number of bytes: 67108864, 64mb, 64 MiB, 1.5gb. The
// units are those of redis.conf, in any case: k, m and g are powers of 1000,
// and kb, mb and gb, or KiB, MiB and GiB, are powers of 1024.
func Bytes(text string) (int64, error) {
	digits := strings.TrimRight(text, "bBgGiIkKmM ")
	unit, known := bytesOf[strings.ToLower(strings.TrimSpace(text[len(digits):]))]
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil && known && unit == 1 {
		return n, nil
	}
	n, err := number(digits)
	n *= unit
	if err != nil || !known || n != math.Trunc(n) || math.Abs(n) >= 1<<53 {
		return 0, fmt.Errorf("%q is not a number of bytes such as 67108864, 64mb or 1gb", text)
	}
	return int64(n), nil
}
