package kv_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ngraf/kv/internal/redistest"
)

type composeFile struct {
	Version  string
	Services map[string]struct {
		Image         string
		ContainerName string `yaml:"container_name"`
		Command       []string
		Environment   map[string]string
		Ports         []string
		SecurityOpt   []string `yaml:"security_opt"`
		Healthcheck   struct{ Test []string }
		Profiles      []string
		Volumes       []string
	}
	Volumes map[string]any
}

func readCompose(t *testing.T) composeFile {
	text, err := os.ReadFile("docker-compose-redis.yml")
	require.NoError(t, err)
	var c composeFile
	require.NoError(t, yaml.Unmarshal(text, &c))
	require.Contains(t, c.Services, "redis")
	require.Contains(t, c.Services, "redisinsight")
	return c
}

// Each fault of the original's compose file stays mended.
func TestComposeFile(t *testing.T) {
	c := readCompose(t)
	require.Empty(t, c.Version, "the version key is obsolete")
	known := regexp.MustCompile(`^(REDISCLI_AUTH|RI_APP_HOST|RI_APP_PORT|RI_REDIS_(HOST|PORT|ALIAS|PASSWORD|USERNAME)|REDIS_(ADDR|PASSWORD)|` +
		`GF_(SECURITY_ADMIN_PASSWORD|ANALYTICS_(REPORTING_ENABLED|CHECK_FOR_UPDATES)|DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH))$`)
	exporter := regexp.MustCompile(`^redis_(keys_)?exporter$`)
	for name, s := range c.Services {
		require.Regexp(t, `^[a-z0-9/_]+:v?\d+\.\d+\.\d+$`, s.Image, "%s: pin the whole version", name)
		require.Empty(t, s.ContainerName, "%s: a fixed name allows one copy a machine", name)
		require.Contains(t, s.SecurityOpt, "no-new-privileges:true", name)
		require.Equal(t, exporter.MatchString(name), len(s.Ports) == 0, "%s: an exporter is for Prometheus alone", name)
		for _, port := range s.Ports {
			require.True(t, strings.HasPrefix(port, "127.0.0.1:"), "%s: port %s is open to the network", name, port)
		}
		for variable, value := range s.Environment {
			require.Regexp(t, known, variable, "%s: the image does not know it", name)
			if strings.Contains(variable, "PASSWORD") || strings.Contains(variable, "AUTH") {
				require.Contains(t, value, "${REDIS_PASSWORD:?", "%s: no password stands in the file", name)
			}
		}
	}
	redis := c.Services["redis"]
	require.Contains(t, strings.Join(redis.Command, " "), "--maxmemory ${REDIS_MAXMEMORY:-2gb}")
	require.Contains(t, strings.Join(redis.Command, " "), "--requirepass ${REDIS_PASSWORD:?")
	require.Contains(t, strings.Join(redis.Healthcheck.Test, " "), "aof_enabled:1")
	require.Equal(t, []string{"127.0.0.1:5540:5540"}, c.Services["redisinsight"].Ports)
}

// The profile "monitoring" is what it says and nobody gets it unasked; what is
// mounted is there, and cannot be written to.
func TestComposeMonitoring(t *testing.T) {
	c := readCompose(t)
	var monitoring []string
	for name, s := range c.Services {
		if len(s.Profiles) > 0 {
			require.Equal(t, []string{"monitoring"}, s.Profiles)
			monitoring = append(monitoring, name)
		}
		for _, volume := range s.Volumes {
			from, to, _ := strings.Cut(volume, ":")
			if !strings.HasPrefix(from, "./") {
				require.Contains(t, c.Volumes, from, "%s: no such volume", name)
				continue
			}
			_, err := os.Stat(from)
			require.NoError(t, err, name)
			require.True(t, strings.HasSuffix(to, ":ro"), "%s: %s can be written to", name, from)
		}
	}
	require.ElementsMatch(t, []string{"prometheus", "grafana", "redis_exporter", "redis_keys_exporter"}, monitoring)
	home := c.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	require.FileExists(t, strings.Replace(home, "/var/lib/grafana", "monitoring/grafana", 1))
}

// A real server takes the flags and has the settings they stand for.
func TestComposeFlags(t *testing.T) {
	var flags []string
	args := readCompose(t).Services["redis"].Command[1:]
	for i := 0; i < len(args); i += 2 {
		switch {
		case args[i] == "--requirepass": // redistest has its own.
		case strings.HasPrefix(args[i+1], "${"):
			flags = append(flags, args[i], "2gb")
		default:
			flags = append(flags, args[i], args[i+1])
		}
	}
	client := redistest.Start(t, redistest.Arg(flags...)).Client()
	for name, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "everysec", "maxmemory": "2147483648", "maxmemory-policy": "volatile-lru",
	} {
		got, err := client.ConfigGet(t.Context(), name).Result()
		require.NoError(t, err)
		require.Equal(t, want, got[name])
	}
}
