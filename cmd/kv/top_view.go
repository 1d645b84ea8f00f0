package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// view is what top shows of now. Rates are those since before, if that is not
// nil.
func view(before *look, now look) []string {
	lines := []string{fmt.Sprintf("%s  %s  (Ctrl-C ends)", now.where, now.at.Format(time.TimeOnly))}
	add := func(rows [][]string) {
		if len(rows) > 1 {
			lines = append(lines, "")
			lines = append(lines, table(rows)...)
		}
	}
	if now.failed != nil {
		lines = append(lines, "", "the server does not answer: "+strings.TrimPrefix(now.failed.Error(), "kv: "))
	}
	add(serverRows(before, now))
	add(namespaceRows(now))
	if now.absent != nil {
		lines = append(lines, "", fmt.Sprintf("the service does not answer: %v", now.absent))
	}
	if now.service != nil {
		var then *service
		if before != nil {
			then = before.service
		}
		d := now.service.since(then)
		seconds := 0.0
		if then != nil {
			seconds = now.at.Sub(before.at).Seconds()
		}
		add(serviceRows(d, seconds))
		lines = append(lines, sharedLines(d, seconds)...)
	}
	return lines
}

func table(rows [][]string) []string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t")) // A buffer takes everything.
	}
	_ = w.Flush()
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func field(info map[string]string, name string) float64 {
	v, err := strconv.ParseFloat(info[name], 64)
	if err != nil {
		return 0 // A server of another make has no such figure.
	}
	return v
}

func serverRows(before *look, now look) [][]string {
	rows := [][]string{{"SERVER", "CALLS/S", "HITS", "MEMORY", "EXPIRED/S", "EVICTED/S", "CLIENTS", "ROLE"}}
	for _, addr := range slices.Sorted(maps.Keys(now.servers)) {
		info, then, seconds := now.servers[addr], map[string]string(nil), 0.0
		if before != nil && before.servers[addr]["run_id"] == info["run_id"] {
			then, seconds = before.servers[addr], now.at.Sub(before.at).Seconds()
		}
		grown := func(name string) float64 { return field(info, name) - field(then, name) }
		memory := size(int64(field(info, "used_memory")))
		if most := field(info, "maxmemory"); most > 0 {
			memory += fmt.Sprintf(" of %s (%.0f %%)", size(int64(most)), 100*field(info, "used_memory")/most)
		}
		rows = append(rows, []string{addr, info["instantaneous_ops_per_sec"],
			percent(grown("keyspace_hits"), grown("keyspace_hits")+grown("keyspace_misses")), memory,
			perSecond(grown("expired_keys"), seconds), perSecond(grown("evicted_keys"), seconds), info["connected_clients"], info["role"]})
	}
	return rows
}

func namespaceRows(now look) [][]string {
	rows := [][]string{{"NAMESPACE", "DOCUMENTS", "BYTES", "EXPIRE", "SEEN"}}
	for _, n := range now.namespaces {
		switch {
		case n.at.IsZero():
			continue
		case n.failed != nil:
			rows = append(rows, []string{n.namespace, "?", "?", "?", "cannot be read"})
		default:
			rows = append(rows, []string{n.namespace, fmt.Sprint(n.Documents), n.about(size(n.Bytes)), n.about(fmt.Sprint(n.Expiring)),
				now.at.Sub(n.at).Round(time.Second).String() + " ago"})
		}
	}
	return rows
}

func serviceRows(d *service, seconds float64) [][]string {
	rows := [][]string{{"NAMESPACE", "CALLS/S", "FAILED/S", "HITS", "HALF", "99 OF 100"}}
	for _, name := range slices.Sorted(maps.Keys(d.namespaces)) {
		n := d.namespaces[name]
		rows = append(rows, []string{name, perSecond(n.calls, seconds), perSecond(n.failed, seconds), percent(n.hits, n.hits+n.misses),
			quantile(n.latency, 0.5), quantile(n.latency, 0.99)})
	}
	return rows
}

// sharedLines are about what the namespaces of a service share.
func sharedLines(d *service, seconds float64) []string {
	var lines []string
	if d.poolLimit > 0 || d.poolInUse+d.poolIdle > 0 {
		lines = append(lines, "", fmt.Sprintf("pool: %.0f in use, %.0f idle, limit %.0f; waits %s/s, timeouts %.0f; sent again %.0f",
			d.poolInUse, d.poolIdle, d.poolLimit, perSecond(d.waits, seconds), d.timeouts, d.retries))
	}
	if d.circuitOpen {
		lines = append(lines, "the circuit is open: calls fail at once")
	}
	if d.cacheLimit > 0 {
		lines = append(lines, fmt.Sprintf("client-side cache: hits %s, %s of %s", percent(d.cacheHits, d.cacheHits+d.cacheMisses),
			size(int64(d.cacheBytes)), size(int64(d.cacheLimit))))
	}
	return lines
}

// perSecond is a rate, or - where there is nothing to compare with.
func perSecond(n, seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.4g", n/seconds)
}

func percent(n, all float64) string {
	if all <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*n/all)
}
