// Package monitoring_test checks that what stands in this directory agrees
// with what there is to watch.
package monitoring_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/dashboard"
	"github.com/ngraf/kv/kvprom"
)

// rules are Prometheus' file of alerts.
type rules struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Alert, Expr string
	Labels      map[string]string
	Annotations map[string]string
}

func readYAML(t *testing.T, file string, into any) {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into))
}

func alerts(t *testing.T) (list []rule) {
	var r rules
	readYAML(t, "alerts.yml", &r)
	for _, group := range r.Groups {
		list = append(list, group.Rules...)
	}
	return list
}

// The dashboard in the repository is the one that the code makes.
func TestDashboardIsGenerated(t *testing.T) {
	want, err := dashboard.JSON()
	require.NoError(t, err)
	got, err := os.ReadFile("grafana/dashboards/kv.json")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run make dashboards")
}

// A row has room for its panels, and each says what to make of it.
func TestDashboardPanels(t *testing.T) {
	titles := make(map[string]bool)
	for _, row := range dashboard.Rows() {
		for _, p := range row.Panels {
			require.False(t, titles[p.Title], "%s stands twice", p.Title)
			titles[p.Title] = true
			require.NotEmpty(t, p.Queries, p.Title)
			require.True(t, strings.HasSuffix(p.Help, "."), "%s: %s", p.Title, p.Help)
		}
	}
	var b struct {
		Panels []struct{ GridPos struct{ X, Y, W, H int } }
	}
	text, err := os.ReadFile("grafana/dashboards/kv.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &b))
	taken := make(map[[2]int]bool)
	for _, p := range b.Panels {
		at := p.GridPos
		require.LessOrEqual(t, at.X+at.W, 24)
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				require.False(t, taken[[2]int{x, y}], "two panels at %d, %d", x, y)
				taken[[2]int{x, y}] = true
			}
		}
	}
}

// exported are the metrics of redis_exporter that are used. That it has them
// is seen by TestLive.
var exported = []string{"redis_up", "redis_memory_used_bytes", "redis_memory_max_bytes", "redis_expired_keys_total",
	"redis_evicted_keys_total", "redis_key_group_memory_usage_bytes", "redis_instance_info", "redis_rdb_last_bgsave_status",
	"redis_aof_last_write_status"}

// known are the names that a query may have.
func known(t *testing.T) []string {
	f, err := kv.NewFactory(kv.Config{WorkingDir: t.TempDir()})
	require.NoError(t, err)
	defer f.Close()
	descs := make(chan *prometheus.Desc, 100)
	kvprom.NewCollector(f).Describe(descs)
	close(descs)
	names := slices.Clone(exported)
	for d := range descs {
		name := regexp.MustCompile(`fqName: "([a-z_]+)"`).FindStringSubmatch(d.String())
		require.NotNil(t, name, d)
		names = append(names, name[1], name[1]+"_bucket", name[1]+"_sum", name[1]+"_count")
	}
	return names
}

// metricsOf returns the names of metrics in an expression: what is no label, no
// function and no keyword.
func metricsOf(expr string) []string {
	expr = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]|(by|on) \([^)]*\)|"[^"]*"|offset \w+`).ReplaceAllString(expr, " ")
	var names []string
	for _, m := range regexp.MustCompile(`\b[a-zA-Z_][a-zA-Z0-9_]*\b(\s*\()?`).FindAllString(expr, -1) {
		if !strings.HasSuffix(m, "(") && !slices.Contains([]string{"and", "or", "unless", "sum", "min", "max", "by", "on", "up"}, m) {
			names = append(names, m)
		}
	}
	return names
}

// Every query of the dashboard and every alert names metrics that there are.
func TestMetricsExist(t *testing.T) {
	names := known(t)
	check := func(what, expr string) {
		used := metricsOf(expr)
		for _, name := range used {
			require.True(t, slices.Contains(names, name), "%s: nobody exports %s", what, name)
		}
		require.True(t, len(used) > 0 || strings.HasPrefix(expr, "up{"), "%s: %s", what, expr)
	}
	for _, row := range dashboard.Rows() {
		for _, p := range row.Panels {
			for _, q := range p.Queries {
				check(p.Title, q.Expr)
			}
		}
	}
	for _, r := range alerts(t) {
		check(r.Alert, r.Expr)
		require.Contains(t, []string{"critical", "warning"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
	}
}

// docs/monitoring.md says about each alert what to do.
func TestAlertsAreExplained(t *testing.T) {
	doc, err := os.ReadFile("../docs/monitoring.md")
	require.NoError(t, err)
	for _, r := range alerts(t) {
		row := regexp.MustCompile("(?m)^\\| `" + r.Alert + "` \\| " + r.Labels["severity"] + " \\| .+ \\| .+ \\|$")
		require.True(t, row.Match(doc), "%s is not in the table of alerts", r.Alert)
	}
}

// Each alert is tested with data at which it fires and with data at which it
// is silent, and Prometheus finds that it does.
func TestAlerts(t *testing.T) {
	var file struct {
		Tests []struct {
			Alerts []struct {
				Name     string `yaml:"alertname"`
				Expected []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, "alerts_test.yml", &file)
	fires, silent := make(map[string]bool), make(map[string]bool)
	for _, test := range file.Tests {
		for _, a := range test.Alerts {
			if len(a.Expected) > 0 {
				fires[a.Name] = true
			} else {
				silent[a.Name] = true
			}
		}
	}
	for _, r := range alerts(t) {
		require.True(t, fires[r.Alert], "%s is not seen to fire", r.Alert)
		require.True(t, silent[r.Alert], "%s is not seen to be silent", r.Alert)
	}
	promtool := program(t, "promtool")
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		out, err := exec.Command(promtool, args...).CombinedOutput()
		require.NoError(t, err, "promtool %v\n%s", args, out)
	}
}

// program returns the path of a program of Debian's package prometheus or
// prometheus-redis-exporter. Without it the test is skipped, unless it is
// required.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	const hint = "make prometheus, or apt-get install prometheus prometheus-redis-exporter"
	if os.Getenv("KV_TEST_PROMETHEUS") == "require" {
		t.Fatalf("%s is not installed, and KV_TEST_PROMETHEUS=require; %s", name, hint)
	}
	t.Skipf("%s is not installed; %s", name, hint)
	return ""
}

// Grafana finds the data source and the dashboards where the compose file puts
// them.
func TestProvisioning(t *testing.T) {
	var sources struct {
		Datasources []struct{ Name, Type, URL string }
	}
	readYAML(t, "grafana/provisioning/datasources/prometheus.yml", &sources)
	require.Equal(t, "http://prometheus:9090", sources.Datasources[0].URL)
	var dashboards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	readYAML(t, "grafana/provisioning/dashboards/kv.yml", &dashboards)
	compose, err := os.ReadFile("../docker-compose-redis.yml")
	require.NoError(t, err)
	require.Contains(t, string(compose), "./monitoring/grafana/dashboards:"+dashboards.Providers[0].Options.Path+":ro")
	files, err := filepath.Glob("grafana/dashboards/*.json")
	require.NoError(t, err)
	require.Len(t, files, 1)
}
