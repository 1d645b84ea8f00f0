package kvmove_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/testkit"
)

// No goroutine is left when all tests are done.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// What other packages' tests need, too.
var (
	testData = testkit.Data
	members  = testkit.Members
	compact  = testkit.Compact
	namesIn  = testkit.NamesIn
	sample   = testkit.Sample
)

// A builtin has what the stores of the built-in backends have.
type builtin interface {
	kv.Store
	kv.Inserter
	kv.Expirer
	kv.Statser
}

// redisCfg has a working directory without files that would be imported.
func redisCfg(url string) kv.Config {
	return kv.Config{Backend: "redis", WorkingDir: filepath.Join("testdata", "none"), Redis: kv.RedisConfig{URL: kv.RedisURL(url)}}
}

// quiet keeps what is logged out of the output.
func quiet() kv.Option { return kv.WithLogger(slog.New(slog.DiscardHandler)) }

// closeable opens a namespace that the test closes itself.
func closeable(t *testing.T, cfg kv.Config, namespace string, opts ...kv.Option) kv.Store {
	t.Helper()
	s, err := kv.Open(t.Context(), cfg, namespace, append(opts, quiet())...)
	require.NoError(t, err)
	return s
}

// openRedisStore opens a namespace that is closed with the test.
func openRedisStore(t *testing.T, cfg kv.Config, namespace string) builtin {
	t.Helper()
	s := closeable(t, cfg, namespace)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.(builtin)
}

// openFiles opens a namespace of a directory until the test ends.
func openFiles(t *testing.T, dir, namespace string, opts ...kv.Option) builtin {
	t.Helper()
	s := closeable(t, kv.Config{WorkingDir: dir}, namespace, opts...)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.(builtin)
}

// listed returns the ids that Keys yields, sorted and with their repeats.
func listed(t *testing.T, s kv.Store) []string {
	t.Helper()
	var ids []string
	for id, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func fileOf(t *testing.T, dir, namespace string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "kv_store_"+namespace+".json"))
	require.NoError(t, err)
	return text
}
