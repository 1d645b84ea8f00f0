package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

// besideShell is a Redis that has nothing yet, with files of docs beside it.
func besideShell(t *testing.T, text string) (s shell, keys func() []string) {
	s, server := redisShell(t)
	dir := t.TempDir()
	s.env = append([]string{"STORAGE_WORKING_DIR=" + dir}, s.env...)
	s.write("kv_store_docs.json", text)
	return s, server.Keys
}

// Commands do what they say and no more: none of these brings the files to
// Redis by itself, as a service does that opens a namespace there.
func TestCommandsDoNotImport(t *testing.T) {
	from := jsonShell(t)
	from.ok("put", "docs", "x", "1")
	export := filepath.Join(t.TempDir(), "x")
	from.ok("export", export)
	for name, c := range map[string]struct {
		args []string
		keys []string
		code int
		text string // of the files
	}{
		"put":     {[]string{"put", "docs", "new", "1"}, []string{"nano_graphrag:docs:new"}, exitOK, `{"a": 1}`},
		"rm":      {[]string{"rm", "docs", "a"}, []string{}, exitNothing, `{"a": 1}`},
		"drop":    {[]string{"drop", "docs", "--yes"}, []string{}, exitOK, `{"a": 1}`},
		"import":  {[]string{"import", export}, []string{"nano_graphrag:docs:x"}, exitOK, `{"a": 1}`},
		"replace": {[]string{"import", export, "--mode", "replace"}, []string{"nano_graphrag:docs:x"}, exitOK, `{"a": 1}`},
		// Into an empty Redis, which the files would have filled before it is looked at.
		"if-empty": {[]string{"import", export, "--mode", "if-empty"}, []string{"nano_graphrag:docs:x"}, exitOK, `{"a": 1}`},

		// What is wrong with the files is no reason to refuse what is about Redis.
		"put beside damage":      {[]string{"put", "docs", "new", "1"}, []string{"nano_graphrag:docs:new"}, exitOK, `{"a": `},
		"rm beside damage":       {[]string{"rm", "docs", "a"}, []string{}, exitNothing, `{"a": `},
		"drop beside damage":     {[]string{"drop", "docs", "--yes"}, []string{}, exitOK, `{"a": `},
		"if-empty beside damage": {[]string{"import", export, "--mode", "if-empty"}, []string{"nano_graphrag:docs:x"}, exitOK, `{"a": `},
	} {
		t.Run(name, func(t *testing.T) {
			s, keys := besideShell(t, c.text)
			r := s.run(c.args...)
			require.Equal(t, c.code, r.code, r.err)
			require.Equal(t, c.keys, append([]string{}, keys()...))
			require.Equal(t, []string{"kv_store_docs.json"}, fileNames(t, s.dir()))
		})
	}
}

// To drop a namespace on Redis says what that means for its files, before it
// asks, and nothing where there are none.
func TestDropSaysWhatBecomesOfTheFiles(t *testing.T) {
	s, _ := besideShell(t, `{"a": 1}`)
	note := "kv: note: the files of docs in " + s.dir() + " stay as they are. "
	s.ok("put", "docs", "b", "1")
	r := s.run("drop", "docs", "--yes")
	require.Equal(t, exitOK, r.code)
	require.Contains(t, r.err, note)
	require.Contains(t, r.err, "when a service next opens docs there, unless STORAGE_KV_MIGRATE=off")
	s.terminal = true
	r = s.stdin("no\n").run("drop", "docs")
	require.Equal(t, exitNothing, r.code)
	require.Contains(t, r.err, note)
	s.terminal = false

	s.ok("put", "other", "b", "1")
	require.Equal(t, "dropped other\n", s.ok("drop", "other", "--yes"))
	files := jsonShell(t)
	files.ok("put", "docs", "a", "1")
	require.Equal(t, "dropped docs\n", files.ok("drop", "docs", "--yes"))
}

// And it is true: what Redis has had stays gone when a service opens the
// namespace there, though the file was changed or touched since; and the others
// come.
func TestDropOnRedisStays(t *testing.T) {
	s, _ := besideShell(t, `{"a": 1, "b": 2}`)
	serve := func() {
		t.Helper()
		url := strings.TrimPrefix(s.env[2], "REDIS_URL=")
		store, err := kv.Open(t.Context(), kv.Config{Backend: "redis", WorkingDir: s.dir(), Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}, "docs")
		require.NoError(t, err)
		require.NoError(t, store.Close())
	}
	serve()
	require.Equal(t, "2\n", s.ok("count", "docs"))
	require.Equal(t, exitOK, s.run("drop", "docs", "--yes").code)
	s.write("kv_store_docs.json", `{"a": 1, "b": 20, "c": 3}`)
	serve()
	require.Equal(t, "c\n", s.ok("ls", "docs"))
}
