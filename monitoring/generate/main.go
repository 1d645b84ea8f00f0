// Command generate writes the dashboard for Grafana. It is run in the
// directory monitoring, by make dashboards.
package main

import (
	"log"
	"os"

	"github.com/ngraf/kv/internal/dashboard"
)

func main() {
	text, err := dashboard.JSON()
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("grafana/dashboards/kv.json", text, 0o644); err != nil {
		log.Fatal(err)
	}
}
