package main

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"
)

// render returns the section of the document.
func render(of suite, versions []string, r *results, verdicts []verdict, s settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "`make -C benchmarks %s` on %s, %d cores, %s/%s; %s. Medians of %d rounds of %s each.\n\n",
		of.name, r.config("cpu"), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, strings.Join(versions, ", "), r.rounds(), s.benchtime)
	b.WriteString("| | what | goal | figure | reached |\n|---|---|---:|---:|---|\n")
	for _, v := range verdicts {
		figure := "–"
		if !math.IsNaN(v.value) {
			figure = fmt.Sprintf(v.format, v.value)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", v.id, v.what, v.wanted(), figure, v.reached())
	}
	fmt.Fprintf(&b, "\n![How many times each goal is reached](%s)\n\n", of.plot())
	b.WriteString("All figures; the spread is that of the rounds.\n\n")
	b.WriteString("| benchmark | time | per second | spread | allocations | |\n|---|---:|---:|---:|---:|---|\n")
	for _, name := range r.names {
		seconds := r.seconds(name)
		allocs := ""
		if n := r.median(name, "allocs/op"); !math.IsNaN(n) {
			allocs = fmt.Sprintf("%.0f", n)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.0f %% | %s | %s |\n",
			name, duration(seconds), perSecond(seconds), 100*r.spread(name, "sec/op"), allocs, r.others(name))
	}
	return b.String()
}

// rounds is how often the benchmarks were run.
func (r *results) rounds() int { return len(r.values[r.names[0]]["sec/op"]) }

// others are the figures in units of their own.
func (r *results) others(name string) string {
	var list []string
	if rate := r.median(name, "B/s"); !math.IsNaN(rate) {
		list = append(list, fmt.Sprintf("%.0f MB/s", rate/1e6))
	}
	for _, u := range []struct{ unit, format string }{
		{"heap-%", "heap %.1f %%"},
		{"peak-%", "peak heap %.1f %%"},
		{"rss-%", "resident %.1f %%"},
		{"heap-bytes/document", "%.0f bytes of heap a document"},
		{"µs-fdatasync", "append + fdatasync %.0f µs"},
		{"µs-kv", "kv %.0f µs"},
		{"io-calls", "%.0f reads and writes"},
		{"keys/s", "%.0f keys/s"},
		{"peak-bytes", "heap grows by %.0f bytes"},
		{"peak-bytes/document", "%.0f bytes a document"},
		{"server-ms", "%.1f ms of the server's processor"},
	} {
		if v := r.median(name, u.unit); !math.IsNaN(v) {
			list = append(list, fmt.Sprintf(u.format, v))
		}
	}
	return strings.Join(list, ", ")
}

// duration keeps three digits.
func duration(seconds float64) string {
	d := time.Duration(seconds * 1e9)
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}

func perSecond(seconds float64) string {
	rate := 1 / seconds
	if rate < 100 {
		return fmt.Sprintf("%.1f", rate)
	}
	digits := fmt.Sprintf("%.0f", rate)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}
