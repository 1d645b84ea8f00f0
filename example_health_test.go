package kv_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/ngraf/kv"
)

// Two endpoints for Kubernetes or a load balancer. Liveness says that the
// process runs, and asks no backend: a restart would not bring that back.
// Readiness says whether requests should come here.
func ExampleHealthy() {
	cfg, clean := tempConfig()
	defer clean()
	store, err := kv.Open(context.Background(), cfg, "full_docs")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if err := kv.Healthy(ctx, store); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable) // It holds nothing secret.
			return
		}
		fmt.Fprintln(w, "ok")
	})

	probe := func(path string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Print(path, " ", w.Code, " ", w.Body)
	}
	probe("/livez")
	probe("/readyz")
	_ = store.Close() // Or Redis goes away, or the disk is full.
	probe("/livez")
	probe("/readyz")
	// Output:
	// /livez 200 ok
	// /readyz 200 ok
	// /livez 200 ok
	// /readyz 503 kv: ping full_docs: store is closed
}
