package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	miniserver "github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
)

// privateShell has a directory that doctor has nothing to say of.
func privateShell(t *testing.T) shell {
	s := jsonShell(t)
	require.NoError(t, os.Chmod(s.dir(), 0o700))
	return s
}

// What doctor prints of files: nothing that is wrong, and things that are.
func TestDoctorOnFiles(t *testing.T) {
	s := privateShell(t)
	s.ok("put", "docs", "GEHEIM", `"GEHEIM"`)
	require.Equal(t, "json, looked at docs: danger 0, warning 0, info 0\n", s.ok("doctor"))
	require.Empty(t, s.ok("doctor", "--json"))

	s.write("kv_store_a.json", `{"GEHEIM": NaN}`)
	s.write("kv_store_community_reports.json", `{}`)
	s.env = append(s.env, "STORAGE_TTL_COMMUNITY_REPORTS=1d")
	require.NoError(t, os.Chmod(filepath.Join(s.dir(), "kv_store_a.json"), 0o644))
	require.NoError(t, os.Chmod(filepath.Join(s.dir(), "kv_store_docs.json"), 0o644))
	const golden = `settings
  warning  documents-expire (community_reports)
           Documents of community_reports are gone 24h0m0s after they were written, and nothing makes them again.
           Set STORAGE_TTL_ and the namespace's name in upper case to 0, unless your program writes them anew in time.
DIR
  warning  json-foreign-values (a)
           Values in the document file are not JSON, such as NaN: 1 of them.
           Store or delete these documents; Get names them by ErrCorrupt.
  warning  json-open-files (a, docs)
           Other users can open files of the namespace: 1 of them, with mode 0644.
           Make them 0600.

json, looked at a, community_reports, docs: danger 0, warning 3, info 0
`
	r := s.run("doctor")
	require.Equal(t, strings.ReplaceAll(golden, "DIR", s.dir()), r.out)
	require.Equal(t, exitOK, r.code, "warnings are no danger")
	require.Contains(t, s.run("doctor", "a", "--json").out, `{"code":"json-foreign-values","severity":"warning","where":"`+s.dir()+
		`","namespaces":["a"],"text":"Values in the document file are not JSON, such as NaN: 1 of them.","remedy":"Store or delete these documents; Get names them by ErrCorrupt."}`+"\n")

	// One that does not open does not hide the others.
	s.write("kv_store_bad.json", `[]`)
	r = s.run("doctor")
	require.Equal(t, exitCorrupt, r.code)
	require.Contains(t, r.err, "kv repair bad")
	require.Contains(t, r.out, "looked at a, community_reports, docs:")
	s.fails(exitCorrupt, "kv repair bad", "doctor", "bad")
}

// doctor works, and changes nothing, while a service has the namespace.
func TestDoctorBesideAService(t *testing.T) {
	s := privateShell(t)
	s.service("docs", nil)
	before := fileNames(t, s.dir())
	r := s.run("doctor", "docs")
	require.Equal(t, exitOK, r.code)
	require.Contains(t, r.out, "looked at docs: danger 0, warning 0")
	require.Equal(t, before, fileNames(t, s.dir()))
}

// What doctor prints of a server: what is the server's once for all
// namespaces, and the exit code of a danger.
func TestDoctorOnRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Password("GEHEIM"), redistest.Arg("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"))
	s := shell{t: t, env: []string{"STORAGE_KV_BACKEND=redis", "REDIS_URL=" + server.URL(), "REDIS_MAX_CONNECTIONS=20000", "STORAGE_TTL_COMMUNITY_REPORTS=1d"}}
	const golden = `settings
  warning  documents-expire (community_reports)
           Documents of community_reports are gone 24h0m0s after they were written, and nothing makes them again.
           Set STORAGE_TTL_ and the namespace's name in upper case to 0, unless your program writes them anew in time.
SERVER
  danger   redis-evicts-documents (full_docs, text_chunks)
           Under maxmemory-policy allkeys-lru the server drops documents that should live for ever when memory is short.
           Set maxmemory-policy to noeviction, or to volatile-lru where caches share the server.
  warning  redis-clients
           The server allows 10000 clients (maxclients), and this process alone may open 20000 connections.
           Raise maxclients, or lower REDIS_MAX_CONNECTIONS of the workers.
  warning  redis-not-durable (full_docs, text_chunks)
           The server keeps nothing on disk (appendonly no, save ""): a restart loses every document.
           Set appendonly to yes.
  info     redis-evicts-early (community_reports, llm_response_cache)
           Under maxmemory-policy allkeys-lru the server drops documents before their time to live has passed when memory is short; it has evicted 0 since it was started.
           Nothing, if what has a time to live can be made again, as cached answers can.

redis, looked at full_docs, text_chunks, community_reports, llm_response_cache: danger 1, warning 3, info 1
`
	r := s.run("doctor")
	require.Equal(t, result{exitNothing, strings.ReplaceAll(golden, "SERVER", server.Addr), ""}, r)
	r = s.run("doctor", "full_docs", "--json")
	require.Equal(t, exitNothing, r.code)
	require.Equal(t, 3, strings.Count(r.out, "\n"))

	// Other commands speak of the danger, and of nothing else.
	r = s.run("put", "full_docs", "a", "1")
	require.Equal(t, exitOK, r.code)
	require.Contains(t, r.err, "redis-evicts-documents")
	require.Empty(t, s.run("put", "community_reports", "a", "1").err)

	server.Kill()
	s.fails(exitUnavailable, "cannot connect to "+server.Addr, "doctor")
}

// A check that the timeout cuts short is no sign of health.
func TestDoctorTimeout(t *testing.T) {
	s := shell{t: t, env: []string{"STORAGE_KV_BACKEND=redis", "REDIS_SOCKET_TIMEOUT=0.2", "REDIS_URL=redis://" + silent(t)}}
	s.fails(exitUnavailable, "longer than 20ms", "doctor", "--timeout", "20ms")

	s, server := redisShell(t)
	held := make(chan struct{})
	server.Server().SetPreHook(func(_ *miniserver.Peer, command string, _ ...string) bool {
		if command == "INFO" {
			<-held
		}
		return command == "INFO" // It is never answered.
	})
	r := s.run("doctor", "docs", "--timeout", "1s")
	close(held)
	require.Equal(t, exitUnavailable, r.code)
	require.Contains(t, r.out, "check-cut-short")
	require.Contains(t, r.err, "longer than 1s")
}

// Findings of all namespaces are one, where they are the same.
func TestCollect(t *testing.T) {
	var all []finding
	for _, f := range []kv.Finding{
		{Code: "a", Where: "1", Text: "x."}, {Code: "a", Where: "1", Text: "y."}, {Code: "a", Where: "2", Text: "x."},
		{Code: "b", Where: "1", Namespace: "n", Text: "x."}, {Code: "b", Where: "1", Namespace: "m", Text: "x."}, {Code: "b", Where: "1", Namespace: "o", Text: "y."},
	} {
		all = collect(all, f)
	}
	require.Len(t, all, 4)
	require.Equal(t, []string{}, all[0].Namespaces)
	require.Equal(t, []string{"n", "m"}, all[2].Namespaces)
	require.Equal(t, []string{"o"}, all[3].Namespaces)
}
