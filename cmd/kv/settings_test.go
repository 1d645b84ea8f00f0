package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConfig(t *testing.T) {
	s := shell{t: t, env: []string{"STORAGE_JSON_FSYNC=always", "REDIS_TTL_FULL_DOCS=5m", "REDIS_URL=redis://h:1?max_connections=3"}}
	out := s.ok("config", "--dir", "/data")
	for _, line := range []string{
		`VARIABLE +VALUE +SOURCE`,
		`STORAGE_KV_BACKEND +json +default`,
		`STORAGE_WORKING_DIR +/data +--dir`,
		`STORAGE_JSON_FSYNC +always +environment`,
		`REDIS_MAX_CONNECTIONS +3 +REDIS_URL`,
		`STORAGE_TTL_FULL_DOCS +5m0s +environment`,
		`REDIS_CA_FILE +- +default`,
	} {
		require.Regexp(t, "(?m)^"+line+"$", out)
	}
	var list struct {
		Settings           []map[string]string
		Warnings, Problems []string
	}
	require.NoError(t, json.Unmarshal([]byte(s.ok("config", "--json", "--backend", "redis")), &list))
	require.Equal(t, "--backend", list.Settings[0]["source"])
	require.Equal(t, "json", list.Settings[0]["default"])
	require.NotNil(t, list.Warnings)
	require.NotNil(t, list.Problems)
}

func TestConfigSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pw")
	require.NoError(t, os.WriteFile(file, []byte("s3cret"), 0o600))
	for _, env := range [][]string{
		{"REDIS_URL=redis://user:s3cret@h:6379/0"},
		{"REDIS_URL=redis://:s3cret@h"},
		{"REDIS_URL=redis://h?password=s3cret"},
		{"REDIS_URL=redis://u:s3c@s3cret@h:x"},
		{"REDIS_URL=redis://s3cret@h"},
		{"REDIS_URL=redis://s3cret@h", "REDIS_PASSWORD=another"},
		{"REDIS_PASSWORD=s3cret"},
		{"REDIS_PASSWORD=s3cret", "REDIS_PASSWORD_FILE=" + file},
		{"REDIS_PASSWORD=s3cret", "REDIS_URL=redis://u:theother@h"},
		{"REDIS_PASSWORD_FILE=" + file},
		{"REDIS_PASSWORD=s3cret", "REDIS_MAX_CONNECTIONS=x", "STORAGE_KV_BACKEND=zz"},
	} {
		for _, args := range [][]string{{"config"}, {"config", "--json"}, {"config", "--backend", "redis"}} {
			r := shell{t: t, env: env}.run(args...)
			require.NotContains(t, r.out+r.err, "s3c", env)
			require.NotContains(t, r.out+r.err, "other", env)
			require.Contains(t, r.out, "REDIS_URL")
		}
	}
}

// All problems come at once, and the settings beside them.
func TestConfigProblems(t *testing.T) {
	s := shell{t: t, env: []string{"STORAGE_JSON_FSYNC=q", "REDIS_MAX_CONNECTIONS=zz", "REDIS_TTL_DOCS=5"}}
	r := s.run("config")
	require.Equal(t, exitInvalid, r.code)
	require.Contains(t, r.out, "STORAGE_KV_BACKEND")
	require.Contains(t, r.err, "kv: invalid: STORAGE_JSON_FSYNC: ")
	require.Contains(t, r.err, "kv: invalid: REDIS_MAX_CONNECTIONS: ")
	require.Contains(t, r.err, "did you mean REDIS_TTL_FULL_DOCS?")
	s.fails(exitInvalid, "STORAGE_JSON_FSYNC", "ls", "ns")
}

func TestPing(t *testing.T) {
	s := jsonShell(t)
	require.Regexp(t, `^json: /.+ can be read \(.+s\)\n$`, s.ok("ping"))
	require.Empty(t, fileNames(t, s.dir()))
	s, server := redisShell(t)
	require.Regexp(t, `^redis: redis://127.0.0.1:\d+ answers \(.+s\)\n$`, s.ok("ping"))
	server.RequireAuth("pw")
	s.fails(exitUnavailable, "kv: ping: the server wants a password: set REDIS_PASSWORD", "ping")
	s.env = append(s.env, "REDIS_PASSWORD=wr0ng")
	s.fails(exitUnavailable, "kv: ping: wrong user or password", "ping")
}
