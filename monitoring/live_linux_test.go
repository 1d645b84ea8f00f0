package monitoring_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ngraf/kv/internal/dashboard"
	"github.com/ngraf/kv/internal/redistest"
)

const password = "sesame"

// A real Prometheus scrapes two demo services under load, on Redis and on
// files, and redis_exporter: every query of the dashboard returns data, every
// rule is evaluated, and nothing fires. Then Redis goes away, which is seen.
//
// With KV_TEST_FIGURES=FILE it goes on for a minute and writes what the panels
// show.
func TestLive(t *testing.T) {
	server := redistest.Start(t, redistest.Password(password), redistest.Arg("maxmemory", "64mb"), redistest.Arg("maxmemory-policy", "volatile-lru"))
	prom := startAll(t, server)

	for _, row := range dashboard.Rows() {
		for _, p := range row.Panels {
			for _, q := range p.Queries {
				prom.await(p.Title+": "+q.Expr, func() bool { return prom.hasData(q.Expr) })
			}
		}
	}
	var state struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	rulesLeft := func() bool {
		prom.get("/api/v1/rules", nil, &state)
		for _, group := range state.Groups {
			for _, r := range group.Rules {
				if r.Health == "unknown" {
					return false
				}
			}
		}
		return len(state.Groups) > 0
	}
	prom.await("the rules are evaluated", rulesLeft)
	for _, group := range state.Groups {
		for _, r := range group.Rules {
			require.Equal(t, "ok", r.Health, "%s: %s", r.Name, r.LastError)
			require.NotEqual(t, "firing", r.State, r.Name)
		}
	}
	for _, r := range alerts(t) {
		for _, name := range metricsOf(r.Expr) {
			require.True(t, prom.hasData(name), "%s: nobody exports %s", r.Alert, name)
		}
	}
	for _, query := range keyQueries(t) {
		prom.await(query, func() bool { return prom.hasData(query) })
	}
	if file := os.Getenv("KV_TEST_FIGURES"); file != "" {
		prom.writeFigures(file)
	}

	server.Kill()
	for _, expr := range []string{`kv_up{backend="redis"} == 0`, `redis_up{job="redis"} == 0`, `kv_redis_circuit_open == 1`} {
		prom.await(expr, func() bool { return prom.hasData(expr) })
	}
	require.False(t, prom.hasData(`kv_up{backend="json"} == 0`))
}

// keyQueries are those of the four key metrics in docs/monitoring.md.
func keyQueries(t *testing.T) (queries []string) {
	doc, err := os.ReadFile("../docs/monitoring.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(doc), "## The four key metrics\n")
	require.True(t, ok)
	rows := regexp.MustCompile(`(?m)^\|[^|]*\|([^|]*`+"`"+`[^|]*)\|`).FindAllStringSubmatch(section, -1)
	require.Len(t, rows, 4)
	for _, row := range rows {
		for _, q := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(row[1], -1) {
			queries = append(queries, strings.ReplaceAll(q[1], "[5m]", "[10s]"))
		}
	}
	return queries
}

// A promServer is a Prometheus that runs.
type promServer struct {
	t     *testing.T
	url   string
	began time.Time
}

// startAll starts what the compose file and the demo's help say.
func startAll(t *testing.T, server *redistest.Server) *promServer {
	exporter, bin := program(t, "prometheus-redis-exporter"), program(t, "prometheus")
	dir := t.TempDir()
	demo := filepath.Join(dir, "demo")
	out, err := exec.Command("go", "build", "-o", demo, "./demo").CombinedOutput()
	require.NoError(t, err, string(out))

	redisURL, err := url.Parse(server.URL())
	require.NoError(t, err)
	targets := map[string][]string{"kv": {
		serveDemo(t, demo, "STORAGE_KV_BACKEND=redis", "REDIS_URL="+server.URL(), "REDIS_CLIENT_CACHE=1048576",
			"REDIS_CIRCUIT_FAILURES=3", "REDIS_CIRCUIT_COOLDOWN=1s", "REDIS_MAX_CONNECTIONS=8"),
		serveDemo(t, demo, "STORAGE_KV_BACKEND=json"),
	}}
	var compose struct {
		Services map[string]struct{ Command []string }
	}
	readYAML(t, "../docker-compose-redis.yml", &compose)
	for job, service := range map[string]string{"redis": "redis_exporter", "redis_keys": "redis_keys_exporter"} {
		addr := freeAddr(t)
		args := append([]string{"-web.listen-address", addr}, compose.Services[service].Command...)
		start(t, exporter, args, []string{"REDIS_ADDR=redis://" + redisURL.Host, "REDIS_PASSWORD=" + password})
		targets[job] = []string{addr}
	}

	config := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, privateConfig(t, targets), 0o600))
	p := &promServer{t: t, url: "http://" + freeAddr(t), began: time.Now()}
	start(t, bin, []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"),
		"--web.listen-address=" + strings.TrimPrefix(p.url, "http://"), "--log.level=warn"}, nil)
	p.await("Prometheus serves", func() bool {
		resp, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

// privateConfig is prometheus.yml with other targets, and in a hurry.
func privateConfig(t *testing.T, targets map[string][]string) []byte {
	var config struct {
		Global    map[string]string `yaml:"global"`
		RuleFiles []string          `yaml:"rule_files"`
		Scrape    []struct {
			Job      string                `yaml:"job_name"`
			Interval string                `yaml:"scrape_interval,omitempty"`
			Timeout  string                `yaml:"scrape_timeout,omitempty"`
			Static   []map[string][]string `yaml:"static_configs"`
			Relabel  []map[string]any      `yaml:"metric_relabel_configs,omitempty"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "prometheus.yml", &config)
	config.Global = map[string]string{"scrape_interval": "1s", "evaluation_interval": "1s"}
	rules, err := filepath.Abs(config.RuleFiles[0])
	require.NoError(t, err)
	config.RuleFiles = []string{rules}
	require.Len(t, config.Scrape, len(targets))
	for i := range config.Scrape {
		job := &config.Scrape[i]
		require.Contains(t, targets, job.Job)
		job.Interval, job.Timeout = "1s", "1s"
		job.Static = []map[string][]string{{"targets": targets[job.Job]}}
	}
	text, err := yaml.Marshal(config)
	require.NoError(t, err)
	return text
}

// serveDemo starts a demo service and returns where it serves.
func serveDemo(t *testing.T, bin string, env ...string) string {
	out := start(t, bin, []string{"-listen", "127.0.0.1:0", "-inspect", "2s"}, env)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, out) }() // Until the process ends.
	at, err := url.Parse(strings.TrimSpace(line))
	require.NoError(t, err)
	return at.Host
}

// start starts a program, which ends with the test, however that ends, and
// returns what it prints.
func start(t *testing.T, bin string, args, env []string) io.Reader {
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, in, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = in
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // To this thread's end the kernel ties that of the child.
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = in.Close()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // The demo removes what it stored.
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = out.Close()
	})
	return out
}

// freeAddr is an address that nobody listened on just now.
func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// await waits until ok returns true.
func (p *promServer) await(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(200 * time.Millisecond) {
		require.True(p.t, time.Now().Before(deadline), what)
	}
}

// get asks the HTTP API, which must succeed.
func (p *promServer) get(path string, query url.Values, data any) {
	p.t.Helper()
	resp, err := http.Get(p.url + path + "?" + query.Encode())
	require.NoError(p.t, err)
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Equal(p.t, "success", answer.Status, "%s: %s", query, answer.Error)
}

// filled is an expression with the dashboard's variables filled in.
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "10s", "$instance", ".*", "$namespace", ".*").Replace(expr)
}

// hasData reports whether an expression has a value that is a number.
func (p *promServer) hasData(expr string) bool {
	var data struct {
		Result []struct{ Value sample }
	}
	p.get("/api/v1/query", url.Values{"query": {filled(expr)}}, &data)
	for _, r := range data.Result {
		if !math.IsNaN(r.Value.value) {
			return true
		}
	}
	return false
}

// A sample is a moment, in seconds since 1970, and a value.
type sample struct{ at, value float64 }

func (s *sample) UnmarshalJSON(text []byte) (err error) {
	var pair [2]json.RawMessage
	var value string
	if err := errors.Join(json.Unmarshal(text, &pair), json.Unmarshal(pair[0], &s.at), json.Unmarshal(pair[1], &value)); err != nil {
		return err
	}
	s.value, err = strconv.ParseFloat(value, 64)
	return err
}

func (s sample) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "[%v,%q]", s.at, fmt.Sprint(s.value)), nil
}

// figure is what a panel shows, for benchmarks/cmd/figures.
type figure struct {
	Row, Title, Unit string
	Lines            []line
}

type line struct {
	Legend string
	Points []sample
}

// writeFigures waits for a minute of data, and writes all panels.
func (p *promServer) writeFigures(file string) {
	until := p.began.Add(90 * time.Second)
	time.Sleep(time.Until(until)) // It is the clock that is drawn.
	var figures []figure
	for _, row := range dashboard.Rows() {
		for _, panel := range row.Panels {
			f := figure{Row: row.Title, Title: panel.Title, Unit: panel.Unit}
			for _, q := range panel.Queries {
				var data struct {
					Result []struct {
						Metric map[string]string
						Values []sample
					}
				}
				p.get("/api/v1/query_range", url.Values{"query": {filled(q.Expr)}, "step": {"3"},
					"start": {strconv.FormatInt(until.Add(-75*time.Second).Unix(), 10)}, "end": {strconv.FormatInt(until.Unix(), 10)}}, &data)
				for _, r := range data.Result {
					legend := q.Legend
					for name, value := range r.Metric {
						legend = strings.ReplaceAll(legend, "{{"+name+"}}", value)
					}
					f.Lines = append(f.Lines, line{legend, r.Values})
				}
			}
			figures = append(figures, f)
		}
	}
	text, err := json.Marshal(figures)
	require.NoError(p.t, err)
	require.NoError(p.t, os.WriteFile(file, text, 0o644))
}
