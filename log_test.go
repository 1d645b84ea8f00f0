package kv_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// What fails at every call is logged once, with the namespace.
func TestRepeatsOfAStore(t *testing.T) {
	server := redistest.Start(t)
	server.ACL("saver", "sesame", "+@all", "-bgsave", "~*", "&*")
	var book testkit.LogBook
	cfg := redisCfg(server.URL())
	cfg.Redis.Username, cfg.Redis.Password, cfg.Redis.SaveOnFlush = "saver", "sesame", true
	s := openRedisStore(t, cfg, "docs", kv.WithLogger(book.Logger()))
	for range 100 {
		require.NoError(t, s.Flush(t.Context()))
	}
	require.Equal(t, 1, strings.Count(book.Text(), "BGSAVE was refused"))
	require.Contains(t, book.Text(), "namespace=docs")
}
