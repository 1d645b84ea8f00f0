package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/kvmove"
)

// statusOf is the row of a namespace, without the time, and the exit code.
func statusOf(t *testing.T, s shell, namespace string) (row string, code int) {
	t.Helper()
	r := s.run("migrate", "--status", namespace)
	require.Empty(t, r.err)
	rows := lines(r.out, "\n")
	require.Equal(t, "NAMESPACE FILES REDIS ALIKE FILES AHEAD REDIS AHEAD CONFLICTS LAST IN COMMON", strings.Join(strings.Fields(rows[0]), " "))
	fields := strings.Fields(rows[1])
	return strings.Join(fields[1:7], " "), r.code
}

// The status of a namespace says who is ahead by how much, changes nothing, and
// has an exit code for scripts. A migration one way and the other makes both
// sides level, and nothing that one side wrote is undone.
func TestMigrateStatus(t *testing.T) {
	files, redis, server := twoShells(t)
	files.write("kv_store_docs.json", `{"a": 1, "b": 2, "c": 3, "d": 4}`)
	check := func(want string, code int) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(files.dir(), "kv_store_docs.json"))
		require.NoError(t, err)
		keys, names := slices.Clone(server.Keys()), fileNames(t, files.dir())
		row, got := statusOf(t, files, "docs")
		require.Equal(t, want, row)
		require.Equal(t, code, got)
		now, err := os.ReadFile(filepath.Join(files.dir(), "kv_store_docs.json"))
		require.NoError(t, err)
		require.Equal(t, string(text), string(now))
		require.Equal(t, keys, server.Keys())
		require.Equal(t, names, fileNames(t, files.dir()))
	}
	check("4 0 0 4 0 0", exitNothing)
	require.Contains(t, files.run("migrate", "--status").out, " never\n")
	files.ok("migrate", "--to", "redis")
	check("4 4 4 0 0 0", exitOK)
	require.Contains(t, files.ok("migrate", "--status"), " UTC\n")

	files.ok("put", "docs", "a", "10")
	files.ok("put", "docs", "e", "5")
	redis.ok("put", "docs", "b", "20")
	redis.ok("rm", "docs", "c")
	check("5 3 1 2 2 0", exitNothing)
	redis.ok("put", "docs", "a", "11")
	check("5 3 1 1 2 1", exitNothing)

	var state kvmove.State
	r := files.run("migrate", "--status", "--json", "docs")
	require.Equal(t, exitNothing, r.code)
	require.NoError(t, json.Unmarshal([]byte(r.out), &state))
	require.False(t, state.Base.IsZero())
	state.Base = state.Base.UTC().Truncate(1 << 62)
	require.Equal(t, kvmove.State{Namespace: "docs", Base: state.Base, Files: 5, Redis: 3, Alike: 1, FilesAhead: 1, RedisAhead: 2, Conflicts: 1}, state)

	r = files.run("migrate", "--to", "redis")
	require.Equal(t, exitNothing, r.code)
	require.Contains(t, r.err, "1 documents of docs were changed in the files and in Redis")
	require.Equal(t, exitOK, files.run("migrate", "--to", "json", "--conflicts=files").code)
	require.Equal(t, exitOK, files.run("migrate", "--to", "redis", "--conflicts=files").code)
	check("4 4 4 0 0 0", exitOK)
	for _, s := range []shell{files, redis} {
		require.Equal(t, "10\n20\n4\n5\n", s.ok("get", "docs", "a", "b", "d", "e"))
	}
}

// What was removed from the files is removed from Redis when that is asked for,
// and only what Redis has not changed since.
func TestMigrateDelete(t *testing.T) {
	files, redis, _ := twoShells(t)
	files.write("kv_store_docs.json", `{"a": 1, "b": 2, "c": 3}`)
	files.ok("migrate", "--to", "redis")
	files.ok("rm", "docs", "a", "b")
	redis.ok("put", "docs", "b", "20")
	r := files.run("migrate", "--to", "redis")
	require.Equal(t, exitOK, r.code, r.err)
	require.Contains(t, r.err, "1 documents of docs were removed from the files, and stay in Redis; --delete removes them there")
	for _, args := range [][]string{{"--dry-run"}, {}} {
		r = files.run(append([]string{"migrate", "--to", "redis", "--delete"}, args...)...)
		require.Equal(t, exitOK, r.code, r.err)
		require.Contains(t, r.out, "docs       0       1     0            1        0        0          0        ")
	}
	require.ElementsMatch(t, []string{"b", "c"}, lines(redis.ok("ls", "docs"), "\n"))
}

// A dry run tells exactly what the run then does: the same counts and notes,
// one way and the other.
func TestMigrateDryRunIsExact(t *testing.T) {
	for _, flags := range []string{
		"--to redis", "--to redis --conflicts=files", "--to redis --conflicts=redis", "--to redis --delete", "--to redis --mirror",
		"--to json", "--to json --conflicts=files", "--to json --conflicts=redis", "--to json --mirror",
	} {
		files, redis, _ := twoShells(t)
		files.write("kv_store_docs.json", `{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}`)
		files.ok("migrate", "--to", "redis")
		files.ok("put", "docs", "a", "10") // in the files
		redis.ok("put", "docs", "b", "20") // in Redis
		files.ok("put", "docs", "c", "30") // in both
		redis.ok("put", "docs", "c", "31")
		files.ok("rm", "docs", "d") // from the files
		redis.ok("rm", "docs", "e") // from Redis
		files.ok("put", "docs", "new-f", "1")
		redis.ok("put", "docs", "new-r", "1")
		args := append([]string{"migrate", "--json"}, strings.Fields(flags)...)
		dry := files.run(append(args, "--dry-run")...)
		wet := files.run(args...)
		require.Equal(t, dry.code, wet.code, flags)
		require.Equal(t, dry.err, wet.err, flags)
		require.Equal(t, countsIn(t, dry.out), countsIn(t, wet.out), flags)
	}
}

// countsIn is what of a report is the same for a run that writes nothing.
func countsIn(t *testing.T, line string) map[string]any {
	t.Helper()
	var report map[string]any
	require.NoError(t, json.Unmarshal([]byte(line), &report))
	maps.DeleteFunc(report, func(name string, _ any) bool {
		return slices.Contains([]string{"dry_run", "verified", "source", "destination", "duration_ns", "bytes", "previous"}, name)
	})
	return report
}

// A copy of Redis in another directory is no common state: what the services'
// own files have from before does not pass for new at the next migration.
func TestMigrateCopyElsewhere(t *testing.T) {
	files, redis, _ := twoShells(t)
	files.write("kv_store_docs.json", `{"a": 1}`)
	files.ok("migrate", "--to", "redis")
	redis.ok("put", "docs", "a", "2")
	require.Equal(t, exitOK, files.run("--dir", t.TempDir(), "migrate", "--to", "json").code)
	files.ok("put", "docs", "b", "1")
	row, _ := statusOf(t, files, "docs")
	require.Equal(t, "2 1 0 1 1 0", row)
	require.Equal(t, exitOK, files.run("migrate", "--to", "redis").code)
	require.Equal(t, "2\n1\n", redis.ok("get", "docs", "a", "b"))
}
