package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// What top shows: rates between two looks, and shares of what came between
// them.
func TestTopView(t *testing.T) {
	then := look{
		at: noon, where: "redis://r:6379", metrics: "http://s/metrics",
		servers: map[string]map[string]string{"r:6379": {"run_id": "1", "keyspace_hits": "100", "keyspace_misses": "100", "expired_keys": "10", "evicted_keys": "7"}},
		service: &service{namespaces: map[string]*served{
			"docs": {calls: 100, failed: 1, hits: 1, misses: 9, latency: map[float64]float64{0.001: 100, 0.004: 100, 1: 100}},
		}, waits: 5, timeouts: 1, retries: 1, cacheHits: 10, cacheMisses: 10},
	}
	now := then
	now.at = noon.Add(2 * time.Second)
	now.servers = map[string]map[string]string{"r:6379": {"run_id": "1", "keyspace_hits": "190", "keyspace_misses": "110", "expired_keys": "16", "evicted_keys": "7",
		"instantaneous_ops_per_sec": "1234", "used_memory": "52428800", "maxmemory": "104857600", "connected_clients": "3", "role": "master"}}
	now.service = &service{namespaces: map[string]*served{
		"docs": {calls: 300, failed: 3, hits: 91, misses: 19, latency: map[float64]float64{0.001: 200, 0.004: 296, 1: 300}},
		"new":  {calls: 2},
	}, waits: 7, timeouts: 1, retries: 2, cacheHits: 40, cacheMisses: 20, cacheBytes: 1 << 19, cacheLimit: 1 << 20,
		poolInUse: 2, poolIdle: 3, poolLimit: 50, circuitOpen: true}
	now.namespaces = []inspected{
		{namespace: "docs", at: noon.Add(-3 * time.Second), figures: figures{Documents: 5000, Sampled: 1000, Bytes: 1 << 20, Expiring: 20}},
		{namespace: "new"},
		{namespace: "bad", at: noon, failed: errors.New("x")},
	}
	require.Equal(t, `redis://r:6379  12:00:02  (Ctrl-C ends)

SERVER  CALLS/S  HITS    MEMORY                        EXPIRED/S  EVICTED/S  CLIENTS  ROLE
r:6379  1234     90.0 %  50.0 MiB of 100.0 MiB (50 %)  3          0          3        master

NAMESPACE  DOCUMENTS  BYTES     EXPIRE  SEEN
docs       5000       ~1.0 MiB  ~20     5s ago
bad        ?          ?         ?       cannot be read

NAMESPACE  CALLS/S  FAILED/S  HITS    HALF  99 OF 100
docs       100      1         90.0 %  1 ms  502 ms
new        1        0         -       -     -

pool: 2 in use, 3 idle, limit 50; waits 1/s, timeouts 0; sent again 1
the circuit is open: calls fail at once
client-side cache: hits 75.0 %, 512.0 KiB of 1.0 MiB`, strings.Join(view(&then, now), "\n"))

	first := strings.Join(view(nil, now), "\n")
	require.Contains(t, first, "63.3 %", "the first look has what came since the start")
	require.Contains(t, first, "docs       -        -         82.7 %")

	now.servers["r:6379"]["run_id"] = "2"
	require.Contains(t, strings.Join(view(&then, now), "\n"), "(50 %)  -          -", "the server was started anew")
	now.servers, now.service = nil, nil
	now.failed, now.absent = errors.New("kv: info: gone"), errors.New("refused")
	require.Equal(t, "the server does not answer: info: gone|the service does not answer: refused",
		strings.Join([]string{view(&then, now)[2], view(&then, now)[8]}, "|"))
}

// A service that was started anew counts from 0.
func TestTopServiceRestarts(t *testing.T) {
	then := &service{namespaces: map[string]*served{"docs": {calls: 100, hits: 50}}, waits: 9}
	d := (&service{namespaces: map[string]*served{"docs": {calls: 10, hits: 5}}, waits: 1}).since(then)
	require.Equal(t, &served{calls: 10, hits: 5, latency: map[float64]float64{}}, d.namespaces["docs"])
	require.Zero(t, d.waits)
}

// kv top on a real server and a service's metrics, which are then gone.
func TestTop(t *testing.T) {
	server := redistest.Start(t)
	s := shell{t: t, env: []string{"STORAGE_KV_BACKEND=redis", "REDIS_URL=" + server.URL(), "STORAGE_KV_MIGRATE=off"}}
	s.ok("put", "docs", "a", "1")
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, metricsOfAService) }))
	defer web.Close()

	out := s.ok("top", "-n", "2", "--every", "100ms", "--metrics", web.URL)
	require.Equal(t, 2, strings.Count(out, "(Ctrl-C ends)"))
	require.Regexp(t, `(?m)^127\.0\.0\.1:\d+  +\d+  .* master$`, out)
	require.Regexp(t, `(?m)^docs +1 +2 B +0 +0s ago$`, out)
	require.Regexp(t, `(?m)^full_docs +0 +0 +- +- +-$`, out, "nothing has happened between two looks")
	require.Contains(t, out, "pool: 3 in use, 2 idle, limit 50; waits 0/s, timeouts 0; sent again 0\nthe circuit is open: calls fail at once\n")

	web.Close()
	require.Contains(t, s.ok("top", "-n", "1", "--metrics", web.URL), "the service does not answer: ")
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	require.Contains(t, s.ok("top", "-n", "1", "--metrics", other.URL), "404 Not Found")
	out = s.ok("top", "-n", "1", "--metrics", strings.Replace(other.URL, "//", "//user:secret@", 1))
	require.Contains(t, out, "404 Not Found")
	require.NotContains(t, out, "secret")
	s.fails(exitInvalid, "--every: at least 100ms", "top", "--every", "1ms")
}

// On a terminal the frames take each other's place and are cut to its size;
// Ctrl-C gives the terminal back and is no failure.
func TestTopTerminal(t *testing.T) {
	s := jsonShell(t)
	s.ok("put", "a_rather_long_name", "a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	var out, err bytes.Buffer
	looks := 0
	std := streams{in: strings.NewReader(""), out: &out, err: &err, screen: func() (int, int, bool) {
		if looks++; looks == 2 {
			cancel()
		}
		return 9, 5, true
	}}
	require.Equal(t, exitOK, run(ctx, []string{"top", "--every", "100ms"}, s.env, std))
	require.Empty(t, err.String())
	frames := strings.Split(out.String(), home)
	require.Len(t, frames, 3)
	require.Equal(t, takeScreen, frames[0])
	require.Equal(t, strings.Join([]string{s.dir()[:9], "", "NAMESPACE", "a_rather_", clearBelow}, endOfLine), frames[1])
	require.True(t, strings.HasSuffix(frames[2], leaveScreen))
	require.Equal(t, 1, strings.Count(out.String(), takeScreen))
}
