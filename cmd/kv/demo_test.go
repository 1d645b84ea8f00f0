package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
)

func TestDemo(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	s := jsonShell(t)
	out := s.ok("demo")
	require.Less(t, strings.Count(out, "\n"), 40)
	for _, text := range []string{
		"1. full_docs: stored 2 documents", "read them back as Go values", `{"title":"Cluster 0","nodes":["MARLEY","SCROOGE"]}`,
		"asked a model twice (miss, hit), and paid once; the answer is kept for ever", "kv_store_llm_response_cache.json", "kv_store_text_chunks.json begins:\n  {\n    \"chunk-",
		"STORAGE_KV_BACKEND=redis REDIS_URL=redis://localhost:6379 kv demo",
	} {
		require.Contains(t, out, text)
	}
	require.Empty(t, fileNames(t, temp), "the directory is removed again")
	require.Empty(t, fileNames(t, s.dir()), "nor was the user's touched")
}

func TestDemoDirectory(t *testing.T) {
	s := jsonShell(t)
	dir := filepath.Join(t.TempDir(), "new")
	require.Contains(t, s.ok("demo", dir), "kv --dir "+dir+" ls text_chunks")
	require.Equal(t, "community_reports\nfull_docs\nllm_response_cache\ntext_chunks\n", s.ok("--dir", dir, "ls"))
	require.Equal(t, "2\n", s.ok("--dir", dir, "count", "text_chunks"))
	s.fails(exitInvalid, dir+" is not empty; name a new directory", "demo", dir)
	s.fails(exitInvalid, dir+" is not empty; name a new directory", "--dir", dir, "demo")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	s.fails(exitInvalid, "cannot use the directory", "demo", file)
}

// The demo's prefix is its own, whatever the user's service uses.
func TestDemoRedis(t *testing.T) {
	s, server := redisShell(t)
	require.NoError(t, server.Set("prod:full_docs:a", "1"))
	s.env = append(s.env, "REDIS_KEY_PREFIX=prod")
	out := s.ok("demo")
	require.Contains(t, out, "kept for 12h0m0s")
	require.Regexp(t, `(?m)^  kv_demo_[0-9a-f]{8}:community_reports:0$`, out)
	require.Less(t, strings.Count(out, "\n"), 40)
	require.Equal(t, []string{"prod:full_docs:a"}, server.Keys())
	s.fails(exitInvalid, "a directory is for the json backend", "demo", t.TempDir())
}

func TestRealRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Password("s3cret"))
	s := shell{t: t, env: []string{"STORAGE_KV_BACKEND=redis", "REDIS_URL=" + server.URL()}}
	require.Contains(t, s.ok("ping"), "***")
	require.Contains(t, s.ok("demo"), "The keys:")
	require.Zero(t, server.Client().DBSize(t.Context()).Val())
	s.ok("put", "ns", "a*", `{"x":1}`, "--ttl", "1h")
	require.Equal(t, "{\"x\":1}\n", s.ok("get", "ns", "a*"))
	require.Equal(t, "a*\n", s.ok("ls", "ns"))
	require.Equal(t, "1\n", s.ok("rm", "ns", "a*"))
	server.Kill()
	s.fails(exitUnavailable, "connection refused", "count", "ns")
}
