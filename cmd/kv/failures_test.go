package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

func TestUsage(t *testing.T) {
	s := jsonShell(t)
	for text, args := range map[string]string{
		"unexpected argument nonsense; see kv --help":        "nonsense",
		`expected "<namespace> <id> ..."; see kv get --help`: "get",
		`expected "<id> ..."`:                                "rm ns",
		"unknown flag --nope":                                "ls --nope",
		`there is no backend "foo"; there are json, redis`:   "--backend foo ls",
		`there is no backend ""`:                             "--backend= ls",
		"--dir: the path is empty":                           "--dir= ls",
		"--timeout: \"5x\" is neither":                       "--timeout 5x ls",
		"the namespace has '.' at byte 0":                    "ls ../x",
		"the namespace has '/' at byte 1":                    "put a/b c 1",
		"there is no directory /no/such/dir; name the one":   "--dir /no/such/dir ls ns",
		"there is no directory /no/such/dir; name":           "--dir /no/such/dir ping",
	} {
		s.fails(exitInvalid, text, strings.Fields(args)...)
	}
	require.Empty(t, fileNames(t, s.dir()))
}

func TestHelp(t *testing.T) {
	s := jsonShell(t)
	help := s.ok("--help")
	for _, text := range []string{
		"Without any configuration it works on the files in ./nano_graphrag_cache", "kv demo",
		"STORAGE_KV_BACKEND", "STORAGE_WORKING_DIR", "REDIS_URL", "REDIS_PASSWORD", "Exit codes:", "130  interrupted",
	} {
		require.Contains(t, help, text)
	}
	for _, command := range []string{"demo", "ls", "get", "put", "rm", "count", "stats", "top", "inspect", "doctor", "drop", "repair",
		"migrate", "verify", "export", "import", "ping", "config"} {
		require.Contains(t, help, "\n  "+command+" ")
		require.Contains(t, s.ok(command, "--help"), "\n    kv ", "an example of %s", command)
	}
	r := s.run()
	require.Equal(t, result{exitInvalid, "", help}, r)
	require.Regexp(t, `^kv \S+.* go1\.\d+`, s.ok("--version"))
}

func TestUnreachable(t *testing.T) {
	env := []string{"STORAGE_KV_BACKEND=redis", "REDIS_URL=redis://user:secret@127.0.0.1:1"}
	for _, args := range []string{"ls ns", "get ns a", "put ns a 1", "rm ns a", "count ns", "stats ns", "drop ns -y", "ping", "demo"} {
		r := shell{t: t, env: env}.run(strings.Fields(args)...)
		require.Equal(t, exitUnavailable, r.code, args)
		require.Contains(t, r.err, "backend unavailable: cannot connect to 127.0.0.1:1: connect: connection refused; see whether")
		require.Equal(t, 1, strings.Count(r.err, "\n"), r.err)
		require.NotContains(t, r.out+r.err, "secret")
		require.NotContains(t, r.err, pingNamespace)
	}
}

func TestLocked(t *testing.T) {
	s := jsonShell(t)
	s.service("ns", map[string]json.RawMessage{"a": []byte(`{"x":1}`)})
	before := fileNames(t, s.dir())
	for _, args := range []string{"put ns a 1", "rm ns a", "drop ns -y"} {
		s.fails(exitUnavailable, "locked: held by pid ", strings.Fields(args)...)
	}
	require.Equal(t, "a\n", s.ok("ls", "ns"))
	require.Equal(t, "{\"x\":1}\n", s.ok("get", "ns", "a"))
	require.Equal(t, "1\n", s.ok("count", "ns"))
	require.Contains(t, s.ok("stats"), "ns ")
	require.Equal(t, before, fileNames(t, s.dir()))
}

func TestCorrupt(t *testing.T) {
	s := jsonShell(t)
	s.write("kv_store_file.json", "[1]")
	s.write("kv_store_value.json", `{"nan": NaN, "good": 1}`)
	before := fileNames(t, s.dir())
	for _, args := range []string{"ls file", "get file a", "count file"} {
		s.fails(exitCorrupt, "kv_store_file.json is not a JSON object of documents", strings.Fields(args)...)
	}
	r := s.run("get", "value", "nan", "good", "zz")
	require.Equal(t, exitCorrupt, r.code)
	require.Equal(t, "1\n", r.out)
	require.Contains(t, r.err, `kv: corrupt: the document "nan" of value`)
	require.Contains(t, r.err, `kv: not found: value has no document "zz"`)
	require.Contains(t, r.err, "kv: warning: values in the document file are not JSON")
	require.Equal(t, before, fileNames(t, s.dir()))
	s.fails(exitCorrupt, "is not a JSON object of documents", "put", "file", "a", "1")

	s, server := redisShell(t)
	require.NoError(t, server.Set("nano_graphrag:ns:bad", "NaN"))
	s.fails(exitCorrupt, `corrupt: the document "bad" of ns`, "get", "ns", "bad")
}

// A brokenWriter is stdout of a process whose reader has gone, or whose disk
// is full.
type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestBrokenOutput(t *testing.T) {
	s := jsonShell(t)
	s.ok("put", "ns", "a", "1")
	for _, args := range []string{"ls ns", "get ns a", "count ns", "stats", "config", "config --json", "demo", "--help", "--version"} {
		var err bytes.Buffer
		std := streams{out: brokenWriter{syscall.EPIPE}, err: &err}
		require.Equal(t, exitOK, run(t.Context(), strings.Fields(args), s.env, std), args)
		require.Empty(t, err.String(), args)
	}
	var text bytes.Buffer
	std := streams{out: brokenWriter{syscall.ENOSPC}, err: &text}
	require.Equal(t, exitUnavailable, run(t.Context(), []string{"ls", "ns"}, s.env, std))
	require.Equal(t, "kv: cannot write the output: no space left on device\n", text.String())

	// A pipe to the backend that breaks is a failure.
	err := &kv.Error{Op: "get", Err: fmt.Errorf("%w: %w", kv.ErrUnavailable, syscall.EPIPE)}
	require.Equal(t, exitUnavailable, report(io.Discard, err))
}

// silent accepts connections and never answers.
func silent(t *testing.T) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

func TestTimeout(t *testing.T) {
	s := shell{t: t, env: []string{"STORAGE_KV_BACKEND=redis", "REDIS_SOCKET_TIMEOUT=0.2", "REDIS_URL=redis://" + silent(t)}}
	for _, args := range []string{"ping", "ls ns", "demo"} {
		r := s.run(append([]string{"--timeout", "20ms"}, strings.Fields(args)...)...)
		require.Equal(t, exitUnavailable, r.code)
		require.Equal(t, "kv: the backend took longer than 20ms; raise --timeout, or see kv ping\n", r.err)
	}
}

func TestInterrupted(t *testing.T) {
	s := shell{t: t, env: []string{"STORAGE_KV_BACKEND=redis", "REDIS_SOCKET_TIMEOUT=0.2", "REDIS_URL=redis://" + silent(t)}}
	ctx, cancel := context.WithCancel(t.Context())
	s.ctx = ctx
	time.AfterFunc(20*time.Millisecond, cancel)
	s.fails(exitInterrupted, "kv: interrupted\n", "ls", "ns")

	// So is the wait for somebody who types nothing.
	for _, args := range []string{"put ns a", "drop ns"} {
		s := jsonShell(t)
		s.ok("put", "ns", "a", "1")
		in, typist := io.Pipe()
		s.in, s.terminal = in, true
		s.ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		r := s.run(strings.Fields(args)...)
		require.NoError(t, typist.Close())
		require.Equal(t, exitInterrupted, r.code)
		require.True(t, strings.HasSuffix(r.err, "\nkv: interrupted\n"), r.err)
	}
}

func TestCutShort(t *testing.T) {
	write := &kv.Error{Op: "upsert", Namespace: "ns", Err: context.Canceled}
	const look = "; the write may or may not have been made: look before you repeat it"
	require.Equal(t, "interrupted"+look, message(fmt.Errorf("%w: %w", errInterrupted, write), exitInterrupted))
	require.Contains(t, message(&slowError{time.Second, write}, exitUnavailable), "longer than 1s"+look)
	lost := errors.Join(fmt.Errorf("%w: %w", kv.ErrOutcomeUnknown, kv.ErrUnavailable))
	require.Equal(t, exitUnavailable, exitCode(&kv.Error{Op: "insert", Err: lost}))
}

// A pager may take its time.
func TestSlowReader(t *testing.T) {
	s := jsonShell(t)
	s.ok("put", "ns", strings.Repeat("x", 5000), "1")
	s.ok("put", "ns", "y", "1")
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		std := streams{out: slowWriter{&out}, err: io.Discard}
		require.Equal(t, exitOK, run(t.Context(), []string{"ls", "ns", "--timeout", "30s"}, s.env, std))
		require.Equal(t, 5003, out.Len())
	})
}

type slowWriter struct{ io.Writer }

func (w slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Minute) // Of the bubble's clock.
	return w.Writer.Write(p)
}
