// Command demo is a service that uses kv and can be watched: it serves
// /metrics for Prometheus, /livez and /readyz, and has four namespaces under
// load. The environment says where they are; on Redis the keys begin with
// kv_demo_ and a random number, and are removed at the end, and files are in a
// temporary directory.
//
//	go run -C monitoring ./demo
//	STORAGE_KV_BACKEND=redis REDIS_CLIENT_CACHE=1048576 go run -C monitoring ./demo -listen 172.17.0.1:9464
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvprom"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9464", "address to serve on; port 0 takes a free one")
	workers := flag.Int("workers", 4, "goroutines that make load")
	inspect := flag.Duration("inspect", 15*time.Second, "how often to look into the namespaces")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *workers, *inspect); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen string, workers int, inspect time.Duration) (err error) {
	cfg, err := kv.FromEnv()
	if err != nil {
		return err
	}
	if cfg.WorkingDir, err = os.MkdirTemp("", "kv-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.WorkingDir)) }()
	cfg.Redis.KeyPrefix = fmt.Sprintf("kv_demo_%08x", rand.Uint32())
	cfg.TTL = map[string]time.Duration{"llm_response_cache": 30 * time.Second, "community_reports": 0}

	factory, err := kv.NewFactory(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, factory.Close()) }()
	stores, err := open(ctx, factory)
	if err != nil {
		return err
	}
	if cfg.Backend == "redis" {
		defer func() { err = errors.Join(err, stores.drop()) }()
	}

	collector := kvprom.NewCollector(factory, kvprom.WithInspect(inspect, 500))
	defer func() { err = errors.Join(err, collector.Close()) }()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector)

	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(registry, stores), ReadHeaderTimeout: time.Second}
	defer func() { _ = server.Close() }()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Printf("http://%s/metrics\n", listener.Addr())

	loaded := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(loaded)
		stores.load(ctx, workers)
	}()
	defer func() { cancel(); <-loaded }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return err
	}
}

// handler serves what others watch the service by.
func handler(registry *prometheus.Registry, stores *stores) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		for _, s := range stores.all() {
			if err := kv.Healthy(ctx, s); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
