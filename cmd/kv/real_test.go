package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
)

// The files of a nano-graphrag user, under git: looking changes nothing, and
// a change is the only difference.
func TestRealDirectory(t *testing.T) {
	data := os.Getenv("KV_TEST_DATA")
	if data == "" {
		t.Skip("KV_TEST_DATA is not set")
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	s := jsonShell(t)
	require.NoError(t, os.CopyFS(s.dir(), os.DirFS(filepath.Join(data, "dickens"))))
	for _, name := range fileNames(t, s.dir()) {
		require.NoError(t, os.Chmod(filepath.Join(s.dir(), name), 0o600)) // The originals are read-only.
	}
	s.git("init", "-q")
	s.git("add", ".")
	s.git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", "as Python wrote it")

	require.Equal(t, "community_reports\nfull_docs\nllm_response_cache\ntext_chunks\n", s.ok("ls"))
	ids := lines(s.ok("ls", "text_chunks"), "\n")
	require.Len(t, ids, 29)
	require.Equal(t, 29, strings.Count(s.ok(append([]string{"get", "text_chunks"}, ids...)...), "\n"))
	require.Equal(t, `{"tokens":1200,"chunk_order_index":0}`+"\n", s.ok("get", "text_chunks", ids[0], "--field", "tokens", "--field", "chunk_order_index"))
	require.Equal(t, "111\n", s.ok("count", "llm_response_cache"))
	require.Contains(t, s.ok("stats"), "community_reports   46 ")
	s.ok("ping")
	require.Equal(t, exitNothing, s.run("get", "full_docs", "zz").code)
	require.Empty(t, s.git("status", "--porcelain", "--ignored"), "looking leaves no file behind")

	// What the files must be, by nothing but replacing text.
	report, chunk := s.laidOut("community_reports", "44"), s.laidOut("text_chunks", ids[3])
	s.ok("put", "community_reports", "44", `{"title":"Cluster 44","occurrence":1.0}`)
	require.Equal(t, "1\n", s.ok("rm", "text_chunks", ids[3]))
	require.Equal(t, " M kv_store_community_reports.json\n M kv_store_text_chunks.json\n", s.git("status", "--porcelain", "-uno"))
	s.changed("community_reports", report, "{\n    \"title\": \"Cluster 44\",\n    \"occurrence\": 1.0\n  }")
	s.changed("text_chunks", `  "`+ids[3]+`": `+chunk+",\n", "")
}

// laidOut is a value as it stands in its file.
func (s shell) laidOut(namespace, id string) string {
	s.t.Helper()
	text := strings.TrimSuffix(s.ok("get", namespace, id, "--indent"), "\n")
	return strings.ReplaceAll(text, "\n", "\n  ")
}

// changed checks that nothing but one piece of a file differs from the commit.
func (s shell) changed(namespace, from, to string) {
	s.t.Helper()
	name := "kv_store_" + namespace + ".json"
	committed := s.git("show", "HEAD:"+name)
	require.Equal(s.t, 1, strings.Count(committed, from))
	now, err := os.ReadFile(filepath.Join(s.dir(), name))
	require.NoError(s.t, err)
	require.True(s.t, strings.Replace(committed, from, to, 1) == string(now), s.git("diff", "-U0", "--", name))
}

func (s shell) git(args ...string) string {
	s.t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(s.t.Context(), "git", args...)
	cmd.Dir, cmd.Stderr = s.dir(), &stderr
	out, err := cmd.Output()
	require.NoError(s.t, err, stderr.String())
	return string(out)
}

// The files of a nano-graphrag user go to Redis, back, into an export and into
// another directory: the same bytes in the same order.
func TestRealRoundTrip(t *testing.T) {
	data := os.Getenv("KV_TEST_DATA")
	if data == "" {
		t.Skip("KV_TEST_DATA is not set")
	}
	server := redistest.Start(t)
	for _, set := range []string{"dickens", "golden"} {
		t.Run(set, func(t *testing.T) {
			from := jsonShell(t)
			from.env = append(from.env, "REDIS_URL="+server.URL(), "REDIS_KEY_PREFIX="+set)
			names, err := filepath.Glob(filepath.Join(data, set, "kv_store_*.json"))
			require.NoError(t, err)
			names = slices.DeleteFunc(names, func(name string) bool { return strings.Contains(name, "odd") }) // It has NaN.
			require.NotEmpty(t, names)
			for _, name := range names {
				text, err := os.ReadFile(name)
				require.NoError(t, err)
				from.write(filepath.Base(name), string(text))
			}
			from.ok("migrate", "--to", "redis")
			from.ok("verify")
			from.ok("migrate", "--to", "json")
			from.ok("verify")
			file := filepath.Join(t.TempDir(), "all.zst")
			from.ok("export", file)
			to := jsonShell(t)
			to.env = append(to.env, from.env[1:]...)
			to.ok("import", file)
			to.ok("verify")
			for _, name := range names {
				want, err := os.ReadFile(name)
				require.NoError(t, err)
				for _, dir := range []string{from.dir(), to.dir()} {
					now, err := os.ReadFile(filepath.Join(dir, filepath.Base(name)))
					require.NoError(t, err)
					require.Equal(t, fmt.Sprintf("%x", sha256.Sum256(want)), fmt.Sprintf("%x", sha256.Sum256(now)), filepath.Base(name))
				}
			}
		})
	}
}
