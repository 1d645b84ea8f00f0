package kvprom_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvprom"
)

func ExampleNewCollector() {
	dir, err := os.MkdirTemp("", "kvprom-example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	factory, err := kv.NewFactory(kv.Config{WorkingDir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer factory.Close()
	collector := kvprom.NewCollector(factory)
	defer func() { _ = collector.Close() }()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector)
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{}) // For your mux, under /metrics.

	ctx := context.Background()
	docs, err := factory.Open(ctx, "full_docs") // Namespaces may be opened at any time.
	if err != nil {
		log.Fatal(err)
	}
	_, _ = docs.Get(ctx, "doc-1")
	page := httptest.NewRecorder()
	metrics.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(page.Body.String()) {
		if strings.HasPrefix(line, "kv_misses_total") || strings.HasPrefix(line, "kv_up") {
			fmt.Print(line)
		}
	}
	// Output:
	// kv_misses_total{backend="json",namespace="full_docs"} 1
	// kv_up{backend="json",namespace="full_docs"} 1
}
