package monitoring_test

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvprom"
)

// kv top reads what kvprom serves, which it has a reader of its own for.
func TestTop(t *testing.T) {
	server := redistest.Start(t)
	f, err := kv.NewFactory(kv.Config{Backend: "redis", NoMigrate: true, Redis: kv.RedisConfig{URL: kv.RedisURL(server.URL())}},
		kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer f.Close()
	store, err := f.Open(t.Context(), "docs")
	require.NoError(t, err)
	require.NoError(t, store.Upsert(t.Context(), map[string]json.RawMessage{"a": json.RawMessage(`1`)}))
	for range 10 {
		_, err = store.Get(t.Context(), "a")
		require.NoError(t, err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(kvprom.NewCollector(f))
	web := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer web.Close()

	bin := filepath.Join(t.TempDir(), "kv")
	out, err := exec.Command("go", "build", "-C", "..", "-o", bin, "./cmd/kv").CombinedOutput()
	require.NoError(t, err, string(out))
	top := exec.Command(bin, "top", "-n", "2", "--every", "100ms", "--metrics", web.URL)
	top.Env = append(os.Environ(), "STORAGE_KV_BACKEND=redis", "REDIS_URL="+server.URL(), "STORAGE_KV_MIGRATE=off")
	out, err = top.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Regexp(t, `(?m)^127\.0\.0\.1:\d+  +\d+  .* master$`, string(out))
	require.Regexp(t, `(?m)^docs +1 +2 B +0 +0s ago$`, string(out))
	require.Regexp(t, `(?m)^docs +- +- +100\.0 % +\S+ .s +\S+ .s$`, string(out))
	require.Regexp(t, `(?m)^pool: \d+ in use, \d+ idle, limit 50;`, string(out))
}
