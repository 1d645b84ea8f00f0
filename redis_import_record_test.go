package kv

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/firstuse"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// A state covers the document file, the times to live and every journal:
// their names, sizes, times and ends.
func TestImportState(t *testing.T) {
	dir, at := t.TempDir(), time.Now()
	names := jsonstore.FileNames("docs")
	write := func(name, text string) func() {
		return func() {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			require.NoError(t, os.Chtimes(path, at, at))
		}
	}
	middle := strings.Repeat("-", 1<<20)
	steps := map[string]func(){
		"0 nothing":        func() {},
		"1 another's":      write("kv_store_docs.more.json", "{}"),
		"2 document":       write(names.Document(), "{a"+middle+"}"),
		"3 head":           write(names.Document(), "{b"+middle+"}"),
		"4 tail":           write(names.Document(), "{b"+middle+"]"),
		"5 size":           write(names.Document(), "{b-"+middle+"]"),
		"6 time":           func() { at = at.Add(time.Second); write(names.Document(), "{b-"+middle+"]")() },
		"7 journal":        write(names.Journal(7), "x"),
		"8 second journal": write(names.Journal(8), "x"),
		"9 its content":    write(names.Journal(8), "y"),
		"A ttl":            write(names.TTL(), "x"),
		"B journals only":  func() { require.NoError(t, os.Remove(filepath.Join(dir, names.Document()))) },
	}
	seen := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		steps[name]()
		state, err := jsonstore.StateOf(dir, "docs")
		require.NoError(t, err)
		if name < "2" {
			require.Empty(t, state, name)
			continue
		}
		require.NotEmpty(t, state, name)
		require.Empty(t, seen[state], name)
		seen[state] = name
	}
}

// The variable is on or off, and any other word is an error that says so.
func TestImportVariable(t *testing.T) {
	for text, off := range map[string]bool{"": false, "on": false, "OFF # for now": true} {
		cfg, err := fromMap(map[string]string{"STORAGE_KV_MIGRATE": text})
		require.NoError(t, err)
		require.Equal(t, off, cfg.NoMigrate, text)
	}
	_, err := fromMap(map[string]string{"STORAGE_KV_MIGRATE": "perhaps"})
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, `STORAGE_KV_MIGRATE: "perhaps" is neither on nor off`)
}

// A record that a newer version wrote, or nobody, is an error that says what
// to do, and not a reason to import anew.
func TestImportRecordOfOthers(t *testing.T) {
	server, dir := redistest.Start(t), t.TempDir()
	writeDocument(t, dir, "docs", `{"a": 1}`)
	key := "kv-import:{nano_graphrag:docs}"
	for text, want := range map[string]string{
		`{"version": 2, "imports": []}`: "use the newer kv",
		`{"version": "x"}`:              "does not say what was imported",
		`nonsense`:                      "does not say what was imported",
	} {
		require.NoError(t, server.Client().Set(t.Context(), key, text, 0).Err())
		_, err := Open(t.Context(), importCfg(server.URL(), dir), "docs")
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, key)
		require.ErrorContains(t, err, "STORAGE_KV_MIGRATE=off")
		require.Equal(t, []string{key}, testkit.AllKeys(t, server.Client()))
	}
}

// Where rights are missing, the error names what to grant. A user without
// files needs nothing more than without an import.
func TestImportRights(t *testing.T) {
	server, dir := redistest.Start(t), t.TempDir()
	writeDocument(t, dir, "docs", `{"a": 1}`)
	least := []string{"~nano_graphrag:*", "+get", "+mget", "+set", "+mset", "+unlink", "+exists", "+scan", "+ping", "+hello", "+auth", "+select", "+client|tracking", "+pttl"}
	for name, grant := range map[string][]string{
		"least": nil, "record": {"~kv-import:*", "+eval"}, "lease": {"~kv-lease:*", "+eval"}, "keys": {"~kv-lease:*", "~kv-import:*"},
		"all": {"~kv-lease:*", "~kv-import:*", "+eval"},
	} {
		server.ACL(name, "pw", append(grant, least...)...)
		cfg := importCfg(server.URL(), dir)
		cfg.Redis.Username, cfg.Redis.Password = name, "pw"
		openRedisStore(t, cfg, "nothing")
		if name == "all" {
			continue
		}
		_, err := Open(t.Context(), cfg, "docs")
		require.ErrorContains(t, err, "~kv-import:* ~kv-lease:* +eval", name)
		require.ErrorContains(t, err, "STORAGE_KV_MIGRATE=off")
	}
	cfg := importCfg(server.URL(), dir)
	cfg.Redis.Username, cfg.Redis.Password = "all", "pw"
	require.Equal(t, map[string]string{"a": "1"}, documents(t, openRedisStore(t, cfg, "docs")))
}

// The token of an import says which process holds the lease.
func TestImportToken(t *testing.T) {
	pid, host := firstuse.ReadHolder(firstuse.NewImporter(firstuse.Options{}).Token)
	require.Equal(t, fmt.Sprint(os.Getpid()), pid)
	require.NotEmpty(t, host)
}
