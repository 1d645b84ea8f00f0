package redisstore

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/health"
	"github.com/ngraf/kv/internal/redistest"
)

// What no server at hand says: old versions, a full disk under the append-only
// file, and servers of other makes that leave fields out.
func TestRedisCheckInfo(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                {},
		"redis_version:8.2.1":             {},
		"redis_version:6.2.0":             {},
		"redis_version:6.0.16":            {"redis-old"},
		"redis_version:5.0.7":             {"redis-old"},
		"redis_version:3.2.1":             {"redis-too-old"},
		"redis_version:unknown":           {},
		"aof_last_write_status:err":       {"redis-save-failed"},
		"maxmemory:100\r\nused_memory:99": {"redis-memory-high"}, // The policy is not known.
		"maxmemory:junk":                  {},
		"server_time_usec:1":              {"redis-clock-skew"},
		"role:slave":                      {"redis-replica"},
	} {
		n := &nodeCheck{report: &health.Report{Namespace: "docs", Now: time.Now}, info: parseInfo(text)}
		n.checkVersion()
		n.checkEviction()
		n.checkMemory()
		n.checkPersistence(t.Context())
		n.checkReplication(t.Context())
		n.checkClients()
		n.checkClock(time.Now(), time.Now())
		require.Equal(t, want, sound(t, n.report), text)
	}
}

// sound returns the codes of a report whose findings say what they have to say.
func sound(t *testing.T, r *health.Report) []string {
	t.Helper()
	codes := []string{}
	list := r.Findings()
	for i, f := range list {
		codes = append(codes, f.Code)
		about := slices.IndexFunc(health.Table[:], func(a health.About) bool { return a.Name == f.Code })
		require.GreaterOrEqual(t, about, 0, f.Code)
		require.Equal(t, health.Table[about].Severity, f.Severity, f.Code)
		require.Equal(t, health.Table[about].Namespace, f.Namespace != "", f.Code)
		require.Regexp(t, `^[A-Z][^\n]*[^.]\.$`, f.Text)
		require.Regexp(t, `^[A-Z][^\n]*[^.]\.$`, f.Remedy)
		if i > 0 {
			require.LessOrEqual(t, f.Severity, list[i-1].Severity, "the gravest come first")
		}
	}
	return codes
}

// Clocks that differ are found by the server's own account of its time.
func TestRedisCheckClock(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Arg("--appendonly", "yes"))
	s := openEngine(t, settled(server.URL()), "docs")
	for skew, want := range map[time.Duration]int{0: 0, time.Minute: 1, -time.Minute: 1} {
		r := &health.Report{Namespace: "docs", Now: func() time.Time { return time.Now().Add(skew) }}
		s.Engine.Check(t.Context(), r)
		require.Len(t, r.Findings(), want, skew)
		for _, code := range sound(t, r) {
			require.Equal(t, "redis-clock-skew", code)
		}
	}
}
