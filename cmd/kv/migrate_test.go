package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/kvmove"
)

// twoShells are for the two backends of one environment.
func twoShells(t *testing.T) (files, redis shell, server *miniredis.Miniredis) {
	server = miniredis.RunT(t)
	files = shell{t: t, env: []string{"STORAGE_WORKING_DIR=" + t.TempDir(), "REDIS_URL=redis://" + server.Addr(), "STORAGE_KV_MIGRATE=off"}}
	redis = files
	redis.env = append([]string{}, append(files.env, "STORAGE_KV_BACKEND=redis")...)
	return files, redis, server
}

// There and back: what was written in Redis, and what was removed there, is so
// in the files, and the file of before is kept.
func TestMigrateAndRollBack(t *testing.T) {
	files, redis, server := twoShells(t)
	files.write("kv_store_full_docs.json", "{\n  \"a\": 1,\n  \"b\": 2\n}")
	files.write("kv_store_community_reports.json", `{"0": {"title": "Cluster 0"}}`)
	before := fileNames(t, files.dir())

	out := files.ok("migrate", "--to", "redis", "--dry-run")
	require.Contains(t, out, "full_docs          2       0     0            0        0        0          0        -\n")
	require.Contains(t, out, "This was a dry run: nothing was written.\n")
	require.Empty(t, server.Keys())

	const table = `NAMESPACE          COPIED  SAME  OVERWRITTEN  REMOVED  EXPIRED  CONFLICTS  REFUSED  VERIFIED
community_reports  1       0     0            0        0        0          0        yes
full_docs          2       0     0            0        0        0          0        yes
`
	require.Equal(t, table, files.ok("migrate", "--to", "redis"))
	require.Equal(t, 24*time.Hour, server.TTL("nano_graphrag:community_reports:0"), "as an import by itself gives it")
	require.Equal(t, before, fileNames(t, files.dir()), "the source is only read")
	require.Equal(t, "NAMESPACE          FILES  REDIS  DIFFERENCES\ncommunity_reports  1      1      0\nfull_docs          2      2      0\n",
		redis.ok("verify"), "the time to live that was given is no difference")

	redis.ok("put", "full_docs", "c", "3")
	redis.ok("rm", "full_docs", "a")
	r := redis.run("verify", "full_docs")
	require.Equal(t, result{exitNothing, `NAMESPACE  FILES  REDIS  DIFFERENCES
full_docs  2      2      2

NAMESPACE  DIFFERENCE         ID
full_docs  only in the files  a
full_docs  only in Redis      c
`, ""}, r)

	out = redis.ok("migrate", "--to", "json", "full_docs", "--dry-run")
	require.Contains(t, out, "full_docs  1       1     0            1        0        0          0        -\n")
	out = redis.ok("migrate", "--to=json", "full_docs")
	require.Contains(t, out, "full_docs  1       1     0            1        0        0          0        yes\n")
	require.Regexp(t, `(?m)^The file of full_docs as it was before is `+files.dir()+`/kv_store_full_docs\.json\.previous-\d\S+\.$`, out)
	require.Equal(t, "b\nc\n", files.ok("ls", "full_docs"))
	require.Contains(t, redis.ok("verify"), "full_docs          2      2      0\n")
}

// What is done about documents that differ.
func TestMigrateConflicts(t *testing.T) {
	for _, test := range []struct {
		flags, b, ids string
		code          int
		say           string
	}{
		{"--to redis", "1", "a\nb\nc\n", exitNothing, "kv: note: 1 documents of docs were written to or removed from Redis alone; they stay so there, and kv migrate --to json takes them to the files\n" +
			"kv: 1 documents of docs were changed in the files and in Redis; they stay as they are on both sides, kv verify docs lists them, --conflicts=files or --conflicts=redis says who is right\n"},
		{"--to redis --conflicts=leave", "1", "a\nb\nc\n", exitNothing, "kv: note: 1 documents"},
		{"--to redis --conflicts=files", "2", "a\nb\nc\n", exitOK, "kv: note: 1 documents"},
		{"--to redis --conflicts=redis", "1", "a\nb\nc\n", exitOK, "kv: note: 2 documents of docs were written to or removed from Redis alone"},
		{"--to redis --mirror", "2", "a\nb\n", exitOK, ""},
		{"--to redis --conflicts fail", "1", "", exitNothing, `kv: the document "b" of docs has another value in Redis; it was left alone, and nothing more was copied` + "\n"},
	} {
		files, redis, _ := twoShells(t)
		files.write("kv_store_docs.json", `{"a": 1, "b": 2}`)
		redis.ok("put", "docs", "b", "1")
		redis.ok("put", "docs", "c", "1")
		redis.ok("put", "others", "c", "1")
		r := files.run(append([]string{"migrate", "docs"}, strings.Fields(test.flags)...)...)
		require.Equal(t, test.code, r.code, test.flags)
		require.True(t, strings.HasPrefix(r.err, test.say) && (test.say != "" || r.err == ""), r.err)
		require.Equal(t, test.b+"\n", redis.ok("get", "docs", "b"), test.flags)
		if test.ids != "" {
			require.ElementsMatch(t, lines(test.ids, "\n"), lines(redis.ok("ls", "docs"), "\n"), test.flags)
		}
	}

	files, redis, _ := twoShells(t)
	files.write("kv_store_docs.json", `{"a": 1, "b": 2}`)
	redis.ok("put", "docs", "b", "1")
	r := redis.run("migrate", "--to", "json", "--conflicts=redis")
	require.Equal(t, exitOK, r.code)
	require.Equal(t, "kv: note: 1 documents of docs were written to the files, and Redis does not have them so; they stay in the files\n", r.err)
	require.Equal(t, "1\n1\n", files.ok("get", "docs", "a", "b"))
}

// What is refused, and how it is said.
func TestMigrateRefuses(t *testing.T) {
	files, redis, _ := twoShells(t)
	files.fails(exitNothing, "there is nothing to copy: no kv_store_*.json files in "+files.dir(), "migrate", "--to", "redis")
	redis.fails(exitNothing, "there is nothing to copy: no keys under nano_graphrag: on redis://", "migrate", "--to", "json")
	files.fails(exitInvalid, "must be one of", "migrate", "--to", "mongo")
	for args, text := range map[string]string{
		"":                                     "say by --to json or --to redis where the documents go; or --status",
		"--to json --mirror --conflicts=files": "--mirror decides everything",
		"--to redis --mirror --delete":         "--mirror decides everything",
		"--to json --delete":                   "--delete is for --to redis",
		"--status --to json":                   "--status changes nothing",
		"--status --dry-run":                   "--status changes nothing",
		"--to redis --conflicts=mine":          "must be one of",
	} {
		files.fails(exitInvalid, text, append([]string{"migrate"}, strings.Fields(args)...)...)
	}
	files.fails(exitInvalid, "--backend is for the other commands", "--backend", "json", "migrate", "--to", "json")
	files.fails(exitInvalid, "--backend is for the other commands", "--backend", "json", "verify")
	for _, args := range [][]string{{"migrate", "--to", "redis"}, {"migrate", "--to", "json", "--dry-run"}, {"verify"}} {
		files.fails(exitInvalid, "there is no directory /no/such", append(args, "--dir", "/no/such")...)
	}
	files.write("kv_store_docs.json", `{"a": 1}`)
	redis.fails(exitInvalid, "there is nothing of docs in Redis, so that everything of it would be removed from the files; if that is meant: kv --backend json drop docs",
		"migrate", "--to", "json", "docs")
	require.Equal(t, "1\n", files.ok("get", "docs", "a"))

	// Documents that are not JSON stay behind, and are counted.
	files.write("kv_store_docs.json", `{"a": 1, "bad": NaN}`)
	redis.ok("put", "only", "x", "1")
	r := files.run("migrate", "--to", "redis")
	require.Equal(t, exitNothing, r.code)
	require.Contains(t, r.out, "docs       1       0     0            0        0        0          1        yes\n")
	require.Contains(t, r.err, "kv: note: there is nothing of only in the files; what there is in Redis is left alone\n")
	require.Contains(t, r.err, "kv: 1 documents of docs are not JSON and stay behind in the files; kv verify docs lists them\n")
	r = files.run("verify", "docs")
	require.Equal(t, exitNothing, r.code)
	require.Contains(t, r.out, "docs       unreadable  bad\n")

	// A service has the files.
	files.service("live", map[string]json.RawMessage{"a": []byte("1")})
	files.ok("migrate", "--to", "redis", "live")
	redis.ok("put", "live", "b", "2")
	redis.fails(exitUnavailable, "locked: held by pid", "migrate", "--to", "json", "live")

	down := files
	down.env = append(down.env, "REDIS_URL=redis://127.0.0.1:1")
	for _, args := range []string{"migrate --to json", "migrate --to redis", "verify"} {
		down.fails(exitUnavailable, "connection refused", strings.Fields(args)...)
	}
}

// Reports for programs, one object a namespace.
func TestMigrateJSON(t *testing.T) {
	files, _, _ := twoShells(t)
	files.write("kv_store_a.json", `{"x": 1}`)
	files.write("kv_store_b.json", `{"x": 1, "y": 2}`)
	out := lines(files.ok("migrate", "--to", "redis", "--json"), "\n")
	require.Len(t, out, 2)
	var report kvmove.Report
	require.NoError(t, json.Unmarshal([]byte(out[1]), &report))
	require.Equal(t, "b", report.Namespace)
	require.Equal(t, 2, report.Copied)
	require.True(t, report.Verified)

	files.write("kv_store_b.json", `{"x": 1, "y": 3}`)
	r := files.run("verify", "--json")
	require.Equal(t, exitNothing, r.code)
	var v verified
	require.NoError(t, json.Unmarshal([]byte(lines(r.out, "\n")[1]), &v))
	require.Equal(t, []kvmove.Difference{{ID: "y", Kind: "another value"}}, v.Differences)
	require.Equal(t, 2, v.Files.Documents)
}

// A bar is as long as what is done, is never longer than whole, and stays away
// where the total is not known.
func TestProgress(t *testing.T) {
	var err bytes.Buffer
	bar := (&app{std: streams{err: &err, errTerminal: true}}).progress("docs")
	draw := func(done, total int64) string {
		err.Reset()
		bar.end() // So that it is drawn anew at once.
		bar.at(done, total)
		return err.String()
	}
	require.Regexp(t, `^\rdocs 25% \|█{5} {15}\| 1 documents of 4 documents, \d+ documents/s\x1b\[K$`, draw(1, 4))
	require.Contains(t, draw(4, 4), "\rdocs 100% |"+strings.Repeat("█", 20)+"| 4 documents of 4 documents, ")
	require.Contains(t, draw(7, 4), "\rdocs 100% |"+strings.Repeat("█", 20)+"| 4 documents of 4 documents, ")
	require.Regexp(t, `\rdocs 7 documents, \d+ documents/s\x1b\[K$`, draw(7, 0))
	bar.bytes = true
	require.Contains(t, draw(1<<20, 2<<20), "| 1.0 MiB of 2.0 MiB, ")
}

// A terminal sees a bar, which is gone in the end.
func TestProgressBar(t *testing.T) {
	files, _, _ := twoShells(t)
	files.write("kv_store_docs.json", `{"x": 1, "y": 2}`)
	files.looking = true
	r := files.run("migrate", "--to", "redis")
	require.Equal(t, exitOK, r.code)
	require.Contains(t, r.err, "\rdocs 100% |")
	require.Contains(t, r.err, "comparing docs 100% |")
	require.True(t, strings.HasSuffix(r.err, "\r\x1b[2K"), "%q", r.err)
	for _, args := range []string{"verify", "export " + filepath.Join(t.TempDir(), "x")} {
		r = files.run(strings.Fields(args)...)
		require.Contains(t, r.err, "documents/s")
		require.Equal(t, exitOK, r.code)
	}
}

// Ctrl-C leaves the source as it is, says how to go on, and the same command
// does.
func TestMigrateInterrupted(t *testing.T) {
	for _, to := range []string{"redis", "json"} {
		files, redis, mini := twoShells(t)
		const n = 3000
		docs := make(map[string]json.RawMessage)
		for i := range n {
			docs[strings.Repeat("x", i%7)+string(rune('0'+i%10))+time.Duration(i).String()] = []byte("1")
		}
		text, err := json.Marshal(docs)
		require.NoError(t, err)
		files.write("kv_store_docs.json", string(text))
		if to == "json" {
			files.ok("migrate", "--to", "redis")
			files.write("kv_store_docs.json", `{"old": 1}`)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stop := files
		stop.ctx = ctx
		var seen atomic.Int64
		mini.Server().SetPreHook(func(*server.Peer, string, ...string) bool {
			if seen.Add(1) == 40 {
				cancel()
			}
			return false
		})
		r := stop.run("migrate", "--to", to, "--mirror")
		mini.Server().SetPreHook(nil)
		require.Equal(t, exitInterrupted, r.code, r.err)
		require.Equal(t, "kv: interrupted; both sides are sound; the same command again goes on from here\n", r.err)
		if to == "json" {
			require.Equal(t, "old\n", files.ok("ls", "docs"))
		} else {
			now, err := os.ReadFile(filepath.Join(files.dir(), "kv_store_docs.json"))
			require.NoError(t, err)
			require.Equal(t, string(text), string(now))
		}
		files.ok("migrate", "--to", to, "--mirror")
		require.Contains(t, redis.ok("verify"), "docs       3000   3000   0\n")
	}
}
