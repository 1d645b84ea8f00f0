package kv_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// The variable is on, off or wait, and any other word is an error that says so.
func TestImportVariable(t *testing.T) {
	for text, want := range map[string][2]bool{"": {}, "on": {}, "OFF # for now": {true, false}, "wait": {false, true}} {
		cfg, err := fromMap(map[string]string{"STORAGE_KV_MIGRATE": text})
		require.NoError(t, err)
		require.Equal(t, want, [2]bool{cfg.NoMigrate, cfg.MigrateWait}, text)
	}
	_, err := fromMap(map[string]string{"STORAGE_KV_MIGRATE": "perhaps"})
	require.ErrorIs(t, err, kv.ErrInvalid)
	require.ErrorContains(t, err, `STORAGE_KV_MIGRATE: "perhaps" is neither on nor off nor wait`)
}

// A record that a newer version wrote, or nobody, is an error that says what
// to do, and not a reason to import anew.
func TestImportRecordOfOthers(t *testing.T) {
	server, dir := redistest.Start(t), t.TempDir()
	writeDocument(t, dir, "docs", `{"a": 1}`)
	key := "kv-import:{nano_graphrag:docs}"
	for text, want := range map[string]string{
		`{"version": 3, "imports": []}`: "use the newer kv",
		`{"version": "x"}`:              "does not say what files and Redis had in common",
		`nonsense`:                      "does not say what files and Redis had in common",
	} {
		require.NoError(t, server.Client().Set(t.Context(), key, text, 0).Err())
		_, err := kv.Open(t.Context(), importCfg(server.URL(), dir), "docs")
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
		_, err := kv.Open(t.Context(), cfg, "docs")
		require.ErrorContains(t, err, "~kv-import:* ~kv-lease:* +eval", name)
		require.ErrorContains(t, err, "STORAGE_KV_MIGRATE=off")
	}
	cfg := importCfg(server.URL(), dir)
	cfg.Redis.Username, cfg.Redis.Password = "all", "pw"
	require.Equal(t, map[string]string{"a": "1"}, documents(t, openRedisStore(t, cfg, "docs")))
}
