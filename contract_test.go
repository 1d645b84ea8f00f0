package kv_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/kvtest"
)

// Limits of values in the contract runs: one that has room for the largest
// values of the suite, and one that is small enough to be tested itself.
const (
	roomy = 32 << 20
	tight = 1 << 20
)

func TestContractJSON(t *testing.T) {
	t.Parallel()
	kvtest.Run(t, func(t *testing.T) kvtest.Harness { return jsonHarness(t, roomy, same) })
}

// A wrapper hides nothing: every case that passes on a store passes on a
// store that is wrapped.
func TestContractWrapped(t *testing.T) {
	t.Parallel()
	kvtest.Run(t, func(t *testing.T) kvtest.Harness { return jsonHarness(t, tight, wrap) })
}

// Here every command travels alone, in the next test with those of others.
func TestContractMiniredis(t *testing.T) {
	t.Parallel()
	kvtest.Run(t, func(t *testing.T) kvtest.Harness {
		server := miniredis.RunT(t)
		h := redisHarness(t, tight, "redis://"+server.Addr(), kv.WithoutAutoPipelining())
		h.Advance = server.FastForward
		h.Plant = func(namespace string, raw map[string][]byte) error {
			for id, value := range raw {
				if err := server.Set("nano_graphrag:"+namespace+":"+id, string(value)); err != nil {
					return err
				}
			}
			return nil
		}
		h.Away = func() error { server.Close(); return nil }
		h.Back = server.Restart
		return h
	})
}

func TestContractRedis(t *testing.T) {
	t.Parallel()
	contractOnServer(t, 0)
}

// The client-side cache changes nothing that a client can see.
func TestContractRedisCached(t *testing.T) {
	t.Parallel()
	contractOnServer(t, 64<<20)
}

// contractOnServer runs the suite on a server that keeps what it has
// acknowledged when it is killed, and begins each case empty.
func contractOnServer(t *testing.T, cache int64) {
	server := redistest.Start(t, redistest.AppendFsyncAlways())
	cfg := kv.Config{Backend: "redis", Redis: kv.RedisConfig{URL: kv.RedisURL(server.URL()), ClientCache: cache}, MaxValueBytes: roomy}
	kvtest.Run(t, func(t *testing.T) kvtest.Harness {
		admin := server.Client()
		require.NoError(t, admin.FlushAll(t.Context()).Err())
		return kvtest.Harness{
			Open:          newOpener(t, cfg, same).open,
			Persistent:    true,
			MaxValueBytes: roomy,
			Plant: func(namespace string, raw map[string][]byte) error {
				for id, value := range raw {
					if err := admin.Set(t.Context(), "nano_graphrag:"+namespace+":"+id, value, 0).Err(); err != nil {
						return err
					}
				}
				return nil
			},
			Away: func() error { server.Kill(); return nil },
			Back: server.Relaunch,
		}
	})
}

// A store whose writes wait for replicas keeps the same contract.
func TestContractReplicated(t *testing.T) {
	t.Parallel()
	master, replica := redistest.Start(t), redistest.Start(t)
	host, port, err := net.SplitHostPort(master.Addr)
	require.NoError(t, err)
	require.NoError(t, replica.Client().Do(t.Context(), "replicaof", host, port).Err())
	kvtest.Run(t, func(t *testing.T) kvtest.Harness {
		require.NoError(t, master.Client().FlushAll(t.Context()).Err())
		cfg := kv.Config{Backend: "redis", Redis: kv.RedisConfig{URL: kv.RedisURL(master.URL()), WaitReplicas: 1}, MaxValueBytes: tight}
		return kvtest.Harness{Open: newOpener(t, cfg, same).open, Persistent: true, MaxValueBytes: tight}
	})
}

// opener opens each namespace by a factory of its own, since a factory has
// one time to live for it.
type opener struct {
	t    *testing.T
	ctx  context.Context // to open with
	cfg  kv.Config
	opts []kv.Option
	wrap func(kv.Store) kv.Store

	mu        sync.Mutex
	factories map[string]*kv.Factory
}

func (o *opener) open(namespace string, ttl time.Duration) (kv.Store, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.factories[namespace]
	if f == nil {
		cfg := o.cfg
		cfg.TTL = map[string]time.Duration{namespace: ttl}
		var err error
		if f, err = kv.NewFactory(cfg, o.opts...); err != nil {
			return nil, err
		}
		o.t.Cleanup(func() { _ = f.Close() })
		o.factories[namespace] = f
	}
	s, err := f.Open(o.ctx, namespace)
	if err != nil {
		return nil, err
	}
	return o.wrap(s), nil
}

func newOpener(t *testing.T, cfg kv.Config, wrap func(kv.Store) kv.Store, opts ...kv.Option) *opener {
	opts = append([]kv.Option{kv.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	return &opener{t: t, ctx: t.Context(), cfg: cfg, opts: opts, wrap: wrap, factories: make(map[string]*kv.Factory)}
}

func jsonHarness(t *testing.T, limit int64, wrap func(kv.Store) kv.Store, opts ...kv.Option) kvtest.Harness {
	dir := t.TempDir()
	var ahead atomic.Int64
	o := newOpener(t, kv.Config{WorkingDir: dir, MaxValueBytes: limit}, wrap, opts...)
	o.ctx = jsonstore.WithClock(o.ctx, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	return kvtest.Harness{
		Open:          o.open,
		Persistent:    true,
		MaxValueBytes: limit,
		Advance:       func(d time.Duration) { ahead.Add(int64(d)) },
		Plant: func(namespace string, raw map[string][]byte) error {
			return plantFile(filepath.Join(dir, "kv_store_"+namespace+".json"), raw)
		},
	}
}

// plantFile writes a document file with values that are not JSON. Only those
// can stand in one whose end can be told, such as Python's NaN.
func plantFile(path string, raw map[string][]byte) error {
	var b bytes.Buffer
	b.WriteString("{")
	sep := ""
	for id, value := range raw {
		numbers := strings.NewReplacer("-Infinity", "0", "Infinity", "0", "NaN", "0").Replace(string(value))
		if !json.Valid([]byte(numbers)) {
			return errors.ErrUnsupported
		}
		name, err := json.Marshal(id)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s%s: %s", sep, name, value)
		sep = ", "
	}
	b.WriteString("}")
	return os.WriteFile(path, b.Bytes(), 0o600)
}

func redisHarness(t *testing.T, limit int64, url string, opts ...kv.Option) kvtest.Harness {
	cfg := kv.Config{Backend: "redis", Redis: kv.RedisConfig{URL: kv.RedisURL(url)}, MaxValueBytes: limit}
	o := newOpener(t, cfg, same, opts...)
	return kvtest.Harness{Open: o.open, Persistent: true, MaxValueBytes: limit}
}

func same(s kv.Store) kv.Store { return s }

// A passThrough is the least a wrapper can be.
type passThrough struct{ kv.Store }

func (p passThrough) Unwrap() kv.Store { return p.Store }

func (p passThrough) MapID(id string) string { return id }

func wrap(s kv.Store) kv.Store { return passThrough{s} }

func TestAsFindsThroughWrappers(t *testing.T) {
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, "docs")
	require.NoError(t, err)
	defer s.Close()
	wrapped := wrap(wrap(s))
	_, direct := wrapped.(kv.Inserter)
	require.False(t, direct)
	in, ok := kv.As[kv.Inserter](wrapped)
	require.True(t, ok)
	n, err := in.Insert(context.Background(), map[string]json.RawMessage{"a": json.RawMessage("1")})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, ok = kv.As[interface{ Nothing() }](wrapped)
	require.False(t, ok)
	_, ok = kv.As[kv.Pinger](nil)
	require.False(t, ok)
}
