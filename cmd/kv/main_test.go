package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv"
)

func TestMain(m *testing.M) {
	if os.Getenv(guideEnv) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// A shell runs kv in process.
type shell struct {
	t        *testing.T
	ctx      context.Context
	env      []string
	in       io.Reader
	terminal bool
	looking  bool // at stderr
}

type result struct {
	code     int
	out, err string
}

func (s shell) run(args ...string) result {
	s.t.Helper()
	if s.ctx == nil {
		s.ctx = s.t.Context()
	}
	if s.in == nil {
		s.in = strings.NewReader("")
	}
	var out, err bytes.Buffer
	code := run(s.ctx, args, s.env, streams{in: s.in, out: &out, err: &err, terminal: s.terminal, errTerminal: s.looking})
	return result{code, out.String(), err.String()}
}

// ok runs kv, which must succeed without a word on stderr.
func (s shell) ok(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	require.Empty(s.t, r.err)
	require.Equal(s.t, exitOK, r.code)
	return r.out
}

// fails runs kv, which must say one clear thing and nothing on stdout.
func (s shell) fails(code int, text string, args ...string) {
	s.t.Helper()
	r := s.run(args...)
	require.Equal(s.t, code, r.code, r.err)
	require.Empty(s.t, r.out)
	require.Contains(s.t, r.err, text)
	for line := range strings.Lines(r.err) {
		require.True(s.t, strings.HasPrefix(line, "kv: "), line)
	}
}

func (s shell) stdin(text string) shell {
	s.in = strings.NewReader(text)
	return s
}

func jsonShell(t *testing.T) shell {
	return shell{t: t, env: []string{"STORAGE_WORKING_DIR=" + t.TempDir()}}
}

func redisShell(t *testing.T) (shell, *miniredis.Miniredis) {
	server := miniredis.RunT(t)
	return shell{t: t, env: []string{"STORAGE_KV_BACKEND=redis", "REDIS_URL=redis://" + server.Addr()}}, server
}

func (s shell) dir() string { return strings.TrimPrefix(s.env[0], "STORAGE_WORKING_DIR=") }

func (s shell) write(name, text string) {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(filepath.Join(s.dir(), name), []byte(text), 0o600))
}

// service holds a namespace open, as a program that uses it does.
func (s shell) service(namespace string, items map[string]json.RawMessage) {
	s.t.Helper()
	store, err := kv.Open(s.t.Context(), kv.Config{WorkingDir: s.dir()}, namespace)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, store.Close()) })
	require.NoError(s.t, store.Upsert(s.t.Context(), items))
}

func fileNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// each runs a test on both backends.
func each(t *testing.T, test func(t *testing.T, s shell)) {
	t.Run("json", func(t *testing.T) { test(t, jsonShell(t)) })
	t.Run("redis", func(t *testing.T) {
		s, _ := redisShell(t)
		test(t, s)
	})
}
