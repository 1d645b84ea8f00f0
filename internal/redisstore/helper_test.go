package redisstore

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/quietlog"
	"github.com/ngraf/kv/internal/testkit"
)

func TestMain(m *testing.M) {
	logging.Disable() // Of go-redis: what it says of servers that die drowns what tests say.
	testkit.Main(m)
}

// settled are the options for a URL of redistest, with the defaults that kv
// has for the others. An empty URL is for a client that is given.
func settled(text string) Options {
	o := Options{
		Protocol:            3,
		MaxConnections:      50,
		ConnectionTimeout:   5 * time.Second,
		SocketTimeout:       5 * time.Second,
		HealthCheckInterval: 30 * time.Second,
		CircuitCooldown:     5 * time.Second,
		KeyPrefix:           "nano_graphrag",
	}
	logTo(slog.New(slog.DiscardHandler))(&o)
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	query := u.Query()
	o.TLS = u.Scheme == "rediss"
	o.Username = u.User.Username()
	o.Password, _ = u.User.Password()
	o.MasterName = query.Get("master_name")
	o.Cluster = query.Get("cluster") == "true"
	o.Addrs = append([]string{u.Host}, query["addr"]...)
	if u.Scheme == "unix" {
		o.Addrs = []string{u.Path}
	}
	return o
}

// A change is made to the options before they are used.
type change func(o *Options)

func unshared(o *Options) { o.Unshared = true }

func given(client redis.UniversalClient) change { return func(o *Options) { o.Given = client } }

// logTo has what is said come to l as from a factory: repeats are left out,
// but not of states.
func logTo(l *slog.Logger) change {
	return func(o *Options) {
		o.Logger = quietlog.WithoutRepeats(l)
		o.States = quietlog.WithRepeats(o.Logger)
	}
}

// openEngine opens a namespace over a client of its own. The test closes both.
func openEngine(t *testing.T, o Options, namespace string, changes ...change) *enginetest.Store {
	t.Helper()
	for _, change := range changes {
		change(&o)
	}
	client, err := Connect(o)
	require.NoError(t, err)
	e := New(client, o, namespace, client.Close)
	require.NoError(t, e.Begin(t.Context()))
	s := enginetest.Wrap(e)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func engineOf(s *enginetest.Store) *Engine { return s.Engine.(*Engine) }

func figures(s *enginetest.Store) Figures { return *engineOf(s).Figures() }

// listed returns the ids that Keys yields, sorted and with their repeats.
func listed(t *testing.T, s *enginetest.Store) []string {
	t.Helper()
	var ids []string
	for id, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// operations are all methods that talk to the server.
var operations = map[string]func(ctx context.Context, s *enginetest.Store) error{
	"get": func(ctx context.Context, s *enginetest.Store) error { _, err := s.Get(ctx, "a"); return err },
	"getmany": func(ctx context.Context, s *enginetest.Store) error {
		_, err := s.GetMany(ctx, []string{"a", "b"})
		return err
	},
	"missing": func(ctx context.Context, s *enginetest.Store) error {
		_, err := s.Missing(ctx, []string{"a", "b"})
		return err
	},
	"keys": func(ctx context.Context, s *enginetest.Store) (err error) {
		for _, err = range s.Keys(ctx) {
		}
		return err
	},
	"upsert": func(ctx context.Context, s *enginetest.Store) error { return s.Upsert(ctx, testkit.OneDoc) },
	"upsertttl": func(ctx context.Context, s *enginetest.Store) error {
		return s.UpsertTTL(ctx, testkit.OneDoc, time.Hour)
	},
	"insert": func(ctx context.Context, s *enginetest.Store) error {
		_, err := s.Insert(ctx, testkit.OneDoc)
		return err
	},
	"delete": func(ctx context.Context, s *enginetest.Store) error { _, err := s.Delete(ctx, "a"); return err },
	"drop":   func(ctx context.Context, s *enginetest.Store) error { return s.Drop(ctx) },
	"flush":  func(ctx context.Context, s *enginetest.Store) error { return s.Flush(ctx) },
	"ping":   func(ctx context.Context, s *enginetest.Store) error { return s.Ping(ctx) },
	"ttl":    func(ctx context.Context, s *enginetest.Store) error { _, err := s.TTL(ctx, "a"); return err },
}
