package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// slowStore is a store at the end of a link.
func slowStore(t *testing.T, o Options) *enginetest.Store {
	t.Helper()
	o.Protocol, o.KeyPrefix, o.MaxConnections = 3, "p", 50
	o.ConnectionTimeout, o.HealthCheckInterval = 5*time.Second, 30*time.Second
	o.Logger = slog.New(slog.DiscardHandler)
	o.States = o.Logger
	client, err := Connect(o)
	require.NoError(t, err)
	s := enginetest.Wrap(New(client, o, "docs", client.Close))
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// sizedDocs are n documents of a size, each of which names its id.
func sizedDocs(name string, n, size int) (ids []string, docs map[string]json.RawMessage) {
	docs = make(map[string]json.RawMessage, n)
	for i := range n {
		id := fmt.Sprintf("%s-%d", name, i)
		ids = append(ids, id)
		docs[id] = json.RawMessage(fmt.Sprintf(`{"id":%q,"pad":%q}`, id, strings.Repeat("x", size)))
	}
	return ids, docs
}

func requireDocs(t *testing.T, ids []string, docs map[string]json.RawMessage, values []json.RawMessage) {
	t.Helper()
	require.Len(t, values, len(ids))
	for i, id := range ids {
		if string(values[i]) != string(docs[id]) { // Testify would print them.
			t.Fatalf("%s is one of %d bytes", id, len(values[i]))
		}
	}
}

// farRead has documents read over a slow link with a way to read them.
func farRead(t *testing.T, o Options, server *redistest.Server, n, size int, read func(e *Engine, ids []string) ([]json.RawMessage, error)) error {
	const rate = 12 << 20
	ids, docs := sizedDocs("id", n, size)
	near := o
	near.Addrs, near.SocketTimeout = []string{server.Addr}, 5*time.Second
	s := slowStore(t, near)
	require.NoError(t, s.Drop(t.Context()))
	require.NoError(t, s.Upsert(t.Context(), docs))
	link := testkit.StartLink(t, server.Addr, rate)
	if o.Cluster { // Whose nodes say where they are.
		_, port, err := net.SplitHostPort(link.Addr)
		require.NoError(t, err)
		require.NoError(t, server.Client().ConfigSet(t.Context(), "cluster-announce-port", port).Err())
	}
	o.Addrs = []string{link.Addr}
	values, err := read(slowStore(t, o).Engine.(*Engine), append(ids, "none"))
	if err == nil {
		require.Nil(t, values[n])
		requireDocs(t, ids, docs, values[:n])
	}
	return err
}

// A read that takes longer than the socket timeout over a slow link succeeds,
// in parts that fit the link, down to one document; on a Cluster, too.
func TestSlowLinkLargeGetMany(t *testing.T) {
	t.Parallel()
	readMany := func(e *Engine, ids []string) ([]json.RawMessage, error) { return e.GetMany(t.Context(), ids) }
	for name, tc := range map[string]struct {
		n, size int
		timeout time.Duration
	}{
		"one part":                    {100, 300 << 10, 500 * time.Millisecond},
		"several parts":               {1200, 24 << 10, 500 * time.Millisecond},
		"a document for each timeout": {4, 3 << 20, 600 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, farRead(t, Options{SocketTimeout: tc.timeout}, redistest.Start(t), tc.n, tc.size, readMany))
		})
	}
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		o := Options{SocketTimeout: 500 * time.Millisecond, Cluster: true}
		require.NoError(t, farRead(t, o, redistest.StartCluster(t, 1, 0).Nodes[0], 100, 300<<10, readMany))
	})
}

// The first part of the first call is small, since sizes are not known then:
// no reply is asked for that cannot come in time, and no server holds one.
func TestSlowLinkFirstPart(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *redistest.Server{
		"server":  func(t *testing.T) *redistest.Server { return redistest.Start(t) },
		"Cluster": func(t *testing.T) *redistest.Server { return redistest.StartCluster(t, 1, 0).Nodes[0] },
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			o := Options{SocketTimeout: 2 * time.Second, Cluster: name == "Cluster"}
			require.NoError(t, farRead(t, o, server, 100, 300<<10, func(e *Engine, ids []string) ([]json.RawMessage, error) {
				values, err := e.GetMany(t.Context(), ids)
				require.Zero(t, e.Figures().Retries)
				return values, err
			}))
		})
	}
}

// The check can fail: it sees parts that are asked for again as they were.
func TestSlowLinkGateParts(t *testing.T) {
	t.Parallel()
	stubborn := func(e *Engine, ids []string) (values []json.RawMessage, err error) {
		for range retryAttempts {
			values = make([]json.RawMessage, len(ids))
			if err = e.getTogether(t.Context(), ids, values).err; err == nil {
				break
			}
		}
		return values, err
	}
	o := Options{SocketTimeout: 500 * time.Millisecond}
	require.ErrorIs(t, farRead(t, o, redistest.Start(t), 100, 300<<10, stubborn), fault.ErrUnavailable)
}

// Small reads do not wait for the large ones of others until it is too late,
// over a slow link.
func TestSlowLinkSmallBesideLarge(t *testing.T) {
	const (
		neighbours = 20
		patience   = 3 * time.Second
		largeReads = 4 * neighbours
	)
	server := redistest.Start(t)
	near := slowStore(t, Options{Addrs: []string{server.Addr}, SocketTimeout: 5 * time.Second})
	large, docs := sizedDocs("large", neighbours, 1<<20)
	require.NoError(t, near.Upsert(t.Context(), docs))
	small, docs := sizedDocs("small", 10, 100)
	require.NoError(t, near.Upsert(t.Context(), docs))
	link := testkit.StartLink(t, server.Addr, 12<<20)
	for name, o := range map[string]Options{"shared": {}, "unshared": {Unshared: true}} {
		t.Run(name, func(t *testing.T) {
			far := slowStore(t, Options{Addrs: []string{link.Addr}, SocketTimeout: 5 * time.Second, Unshared: o.Unshared})
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			var running sync.WaitGroup
			known := make(chan struct{})
			var came, missed, slowest atomic.Int64
			for _, id := range large {
				running.Go(func() {
					for ctx.Err() == nil {
						if _, err := far.Get(ctx, id); err != nil {
							continue
						}
						switch came.Add(1) {
						case neighbours:
							close(known)
						case largeReads:
							stop()
						}
					}
				})
			}
			<-known // What the neighbours read.
			for _, id := range small {
				running.Go(func() {
					for ctx.Err() == nil {
						began := time.Now()
						mine, cancel := context.WithTimeout(context.Background(), patience)
						value, err := far.Get(mine, id)
						cancel()
						for took := int64(time.Since(began)); ; {
							if old := slowest.Load(); took <= old || slowest.CompareAndSwap(old, took) {
								break
							}
						}
						if errors.Is(err, context.DeadlineExceeded) {
							missed.Add(1)
						} else if err != nil || string(value) != string(docs[id]) {
							t.Errorf("%s, %v", value, err)
						}
					}
				})
			}
			running.Wait()
			t.Logf("slowest %v", time.Duration(slowest.Load()))
			require.Zero(t, missed.Load())
		})
	}
}

// What is written over a slow link goes in parts that are bounded in bytes, and
// large values one after the other.
func TestSlowLinkLargeUpsert(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		n, size int
		timeout time.Duration
	}{
		"parts of a MiB": {60, 300 << 10, 500 * time.Millisecond},
		"large values":   {6, 4 << 20, 600 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			link := testkit.StartLink(t, server.Addr, 12<<20)
			far := slowStore(t, Options{Addrs: []string{link.Addr}, SocketTimeout: tc.timeout})
			ids, docs := sizedDocs("id", tc.n, tc.size)
			require.NoError(t, far.Upsert(t.Context(), docs))
			near := slowStore(t, Options{Addrs: []string{server.Addr}, SocketTimeout: 5 * time.Second})
			values, err := near.GetMany(t.Context(), ids)
			require.NoError(t, err)
			requireDocs(t, ids, docs, values)
		})
	}
}
