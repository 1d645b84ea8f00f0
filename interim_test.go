package kv

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/health"
	"github.com/ngraf/kv/internal/redistest"
)

// What tests of this package, which are on their way out of it, share with
// those of kv_test.

// computeBackends open one namespace as often as asked, each time as another
// process would where the backend allows for it.
var computeBackends = map[string]func(t *testing.T, ttl time.Duration) (open func() *store){
	"json": func(t *testing.T, ttl time.Duration) func() *store {
		return openerOf(t, Config{WorkingDir: t.TempDir(), TTL: map[string]time.Duration{"docs": ttl}}, true)
	},
	"miniredis": func(t *testing.T, ttl time.Duration) func() *store {
		m := miniredis.RunT(t)
		// A script that publishes may block miniredis for good, and so those
		// that wait are not told here, but ask.
		m.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
			if cmd != "SUBSCRIBE" {
				return false
			}
			c.WriteError("NOPERM this user has no permissions to access one of the channels used as arguments")
			return true
		})
		cfg := redisCfg("redis://" + m.Addr())
		cfg.TTL = map[string]time.Duration{"docs": ttl}
		return openerOf(t, cfg, false)
	},
	"redis": func(t *testing.T, ttl time.Duration) func() *store {
		cfg := redisCfg(redistest.Start(t).URL())
		cfg.TTL = map[string]time.Duration{"docs": ttl}
		return openerOf(t, cfg, false)
	},
}

func openerOf(t *testing.T, cfg Config, together bool) func() *store {
	var f *Factory
	return func() *store {
		if f == nil || !together {
			var err error
			f, err = NewFactory(cfg, WithLogger(slog.New(slog.DiscardHandler)))
			require.NoError(t, err)
			opened := f
			t.Cleanup(func() { require.NoError(t, opened.Close()) })
		}
		s, err := f.Open(t.Context(), "docs")
		require.NoError(t, err)
		return s.(*store)
	}
}

func onComputeBackends(t *testing.T, ttl time.Duration, test func(t *testing.T, open func() *store)) {
	for name, backend := range computeBackends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, backend(t, ttl))
		})
	}
}

func computeStats(t *testing.T, s *store) ComputeStats {
	t.Helper()
	return figures(t, s).Compute
}

// giving is an fn that counts its calls.
func giving[T any](calls *atomic.Int64, v T, err error) func(context.Context) (T, error) {
	return func(context.Context) (T, error) {
		calls.Add(1)
		return v, err
	}
}

// upper is an fn of ComputeMany that counts its calls.
func upper(calls *atomic.Int64, asked *[]string) func(context.Context, []string) (map[string]string, error) {
	return func(_ context.Context, ids []string) (map[string]string, error) {
		calls.Add(1)
		got := make(map[string]string, len(ids))
		for _, id := range ids {
			got[id] = strings.ToUpper(id)
		}
		if asked != nil {
			*asked = append(*asked, ids...)
		}
		return got, nil
	}
}

// planted stands in ids, values and passwords, and must not be in a finding.
const planted = "GEHEIM"

// found checks a store, and each finding by the rules for all of them. It
// returns the codes.
func found(t *testing.T, s Store) []string {
	t.Helper()
	return sound(t, Check(t.Context(), s))
}

func sound(t *testing.T, list []Finding) []string {
	t.Helper()
	codes := []string{}
	last := SeverityDanger
	for _, f := range list {
		codes = append(codes, f.Code)
		i := slices.IndexFunc(health.Table[:], func(a health.About) bool { return a.Name == f.Code })
		require.GreaterOrEqual(t, i, 0, f.Code)
		require.Equal(t, Severity(health.Table[i].Severity), f.Severity, f.Code)
		require.Equal(t, health.Table[i].Namespace, f.Namespace != "", f.Code)
		require.Regexp(t, `^[A-Z][^\n]*[^.]\.$`, f.Text)
		require.Regexp(t, `^[A-Z][^\n]*[^.]\.$`, f.Remedy)
		require.NotContains(t, fmt.Sprintf("%+v", f), planted)
		require.LessOrEqual(t, f.Severity, last, "the gravest come first")
		last = f.Severity
	}
	return codes
}

type wrappedStore struct{ Store }

func (w wrappedStore) Unwrap() Store { return w.Store }
