package kv_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/strangers"
	"github.com/ngraf/kv/internal/testkit"
)

// strangersKinds are the ways to Redis on which callers are strangers to each
// other, with the servers that faults come to.
var strangersKinds = map[string]func(t *testing.T) (kv.Config, []*redistest.Server, *testkit.Link, []kv.Option){
	"server": func(t *testing.T) (kv.Config, []*redistest.Server, *testkit.Link, []kv.Option) {
		server := redistest.Start(t)
		link := testkit.StartLink(t, server.Addr, 0)
		return redisCfg("redis://" + link.Addr), []*redistest.Server{server}, link, nil
	},
	"not shared": func(t *testing.T) (kv.Config, []*redistest.Server, *testkit.Link, []kv.Option) {
		server := redistest.Start(t)
		link := testkit.StartLink(t, server.Addr, 0)
		return redisCfg("redis://" + link.Addr), []*redistest.Server{server}, link, []kv.Option{kv.WithoutAutoPipelining()}
	},
	"client cache": func(t *testing.T) (kv.Config, []*redistest.Server, *testkit.Link, []kv.Option) {
		server := redistest.Start(t)
		link := testkit.StartLink(t, server.Addr, 0)
		cfg := redisCfg("redis://" + link.Addr)
		cfg.Redis.ClientCache = 1 << 20
		return cfg, []*redistest.Server{server}, link, nil
	},
	"Sentinel": func(t *testing.T) (kv.Config, []*redistest.Server, *testkit.Link, []kv.Option) {
		group := redistest.StartSentinel(t, 1, 1)
		return redisCfg(group.URL()), []*redistest.Server{group.Master()}, nil, nil
	},
	"Cluster": func(t *testing.T) (kv.Config, []*redistest.Server, *testkit.Link, []kv.Option) {
		group := redistest.StartCluster(t, 3, 0)
		return redisCfg(group.URL()), group.Nodes, nil, nil
	},
}

// Nobody gets a stranger's value, and no read is answered with something older
// than what the same caller was acknowledged: 200 callers with little patience,
// connections that are killed, servers that stop, a link that is slow and cut.
func TestRedisStrangers(t *testing.T) {
	seconds := testkit.Soak("KV_SOAK_STRANGERS", 0)
	for name, open := range strangersKinds {
		t.Run(name, func(t *testing.T) {
			cfg, servers, link, opts := open(t)
			f, err := kv.NewFactory(cfg, append(opts, quietly())...)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, f.Close()) })
			end := time.Now().Add(time.Duration(seconds) * time.Second)
			r := strangers.Run{
				Owners: 200, Servers: servers, Link: link,
				Open: func(namespace string) strangers.Namespace {
					s, err := f.Open(t.Context(), namespace)
					require.NoError(t, err)
					return strangersNamespace(s)
				},
				Go: func(rounds int, _ *strangers.Report) bool {
					return rounds < 2 || rounds < 6/testkit.Stride() || time.Now().Before(end)
				},
			}.Do(t)
			t.Log(r)
			require.Empty(t, r.Wrong())
			require.Empty(t, r.Older())
			for what, n := range map[string]int64{"gave up": r.GaveUp.Load(), "acknowledged": r.Acknowledged.Load(), "kills": r.Kills.Load(), "stops": r.Stops.Load()} {
				require.NotZero(t, n, what)
			}
		})
	}
}

func strangersNamespace(s kv.Store) strangers.Namespace {
	view := kv.For[json.RawMessage](s).With(kv.ComputeOptions[json.RawMessage]{Lease: strangers.Lease})
	return strangers.Namespace{
		Store:   s,
		GetMany: func(ctx context.Context, ids []string) ([]json.RawMessage, error) { return s.GetMany(ctx, ids) },
		Compute: func(ctx context.Context, id string, fn func() json.RawMessage) (json.RawMessage, error) {
			return view.Compute(ctx, id, func(context.Context) (json.RawMessage, error) { return fn(), nil })
		},
	}
}
