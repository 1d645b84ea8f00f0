package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/enginetest"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

const (
	goneDocs     = 100
	goneCallers  = 64
	gonePause    = 300 * time.Millisecond // shorter than what makes anybody else the master
	gonePatience = 20 * time.Millisecond
)

// versions returns documents that say which version they are.
func versions(version string) map[string]json.RawMessage {
	items := make(map[string]json.RawMessage, goneDocs)
	for i := range goneDocs {
		items[fmt.Sprintf("id-%d", i)] = json.RawMessage(fmt.Sprintf(`{"version":%q}`, version))
	}
	return items
}

// giveUp has callers write, each with little patience: half of them have a
// deadline, the others are cancelled. It returns how many gave up.
func giveUp(t *testing.T, call func(ctx context.Context, i int) error) int {
	t.Helper()
	var mu sync.Mutex
	gaveUp := 0
	end := time.Now().Add(gonePause)
	testkit.Together(t, goneCallers, func(worker int) {
		for i := worker; time.Now().Before(end); i += goneCallers {
			ctx, cancel := context.WithCancel(context.Background())
			if i/goneCallers%2 == 0 {
				ctx, cancel = context.WithTimeout(context.Background(), gonePatience)
			} else {
				time.AfterFunc(gonePatience, cancel)
			}
			err := call(ctx, i)
			cancel()
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				mu.Lock()
				gaveUp++
				mu.Unlock()
			} else if err != nil {
				t.Errorf("%v", err)
			}
		}
	})
	return gaveUp
}

// older are the writes that are given up.
func older(s *enginetest.Store) func(ctx context.Context, i int) error {
	old := json.RawMessage(`{"version":"old"}`)
	return func(ctx context.Context, i int) error {
		a, b := fmt.Sprintf("id-%d", i%goneDocs), fmt.Sprintf("id-%d", (i+1)%goneDocs)
		switch i % 5 {
		case 0:
			return s.Upsert(ctx, map[string]json.RawMessage{a: old, b: old})
		case 1:
			_, err := s.Delete(ctx, a)
			return err
		case 2:
			_, err := s.Delete(ctx, a, b)
			return err
		}
		return s.Upsert(ctx, map[string]json.RawMessage{a: old})
	}
}

// undone has older writes given up while servers are stopped, lets the servers
// go on and overwrites all. It returns what looks for documents that have been
// undone since.
func undone(t *testing.T, s *enginetest.Store, servers ...*redistest.Server) func() []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	require.NoError(t, s.Upsert(ctx, versions("first")))
	stopped(servers, func() {
		require.Greater(t, giveUp(t, older(s)), goneDocs)
	})
	require.NoError(t, s.Upsert(ctx, versions("new")))
	return func() []string { return notNew(s) }
}

// notNew returns the documents that are not the newest version.
func notNew(s *enginetest.Store) (wrong []string) {
	for id, want := range versions("new") {
		value, err := s.Get(context.Background(), id)
		if err != nil || string(value) != string(want) {
			wrong = append(wrong, fmt.Sprintf("%s is %s, %v", id, value, err))
		}
	}
	return wrong
}

func stopped(servers []*redistest.Server, do func()) {
	for _, server := range servers {
		server.Pause()
	}
	defer func() {
		for _, server := range servers {
			server.Resume()
		}
	}()
	do()
}

// leftBehind waits until no call runs any more that its caller has left.
func leftBehind(s *enginetest.Store) {
	engineOf(s).way.calls.running.Wait()
}

// goneKinds are all ways to a server. Each returns a store, and the servers
// that are stopped.
var goneKinds = map[string]func(t *testing.T) (*enginetest.Store, []*redistest.Server){
	"shared": func(t *testing.T) (*enginetest.Store, []*redistest.Server) {
		server := redistest.Start(t)
		return openEngine(t, settled(server.URL()), "docs"), []*redistest.Server{server}
	},
	"not shared": func(t *testing.T) (*enginetest.Store, []*redistest.Server) {
		server := redistest.Start(t)
		return openEngine(t, settled(server.URL()), "docs", unshared), []*redistest.Server{server}
	},
	"with a client cache": func(t *testing.T) (*enginetest.Store, []*redistest.Server) {
		server := redistest.Start(t)
		cfg := settled(server.URL())
		cfg.ClientCache = 1 << 20
		return openEngine(t, cfg, "docs"), []*redistest.Server{server}
	},
	"a given client": func(t *testing.T) (*enginetest.Store, []*redistest.Server) { return openGiven(t, false) },
	"a given client that sees deadlines": func(t *testing.T) (*enginetest.Store, []*redistest.Server) {
		return openGiven(t, true)
	},
	"Sentinel": func(t *testing.T) (*enginetest.Store, []*redistest.Server) {
		group := redistest.StartSentinel(t, 1, 1)
		return openEngine(t, settled(group.URL()), "docs"), []*redistest.Server{group.Master()}
	},
	"Sentinel and replicas": func(t *testing.T) (*enginetest.Store, []*redistest.Server) {
		group := redistest.StartSentinel(t, 1, 1)
		return openEngine(t, settled(group.URL()), "docs", waiting), []*redistest.Server{group.Master()}
	},
	"Cluster, all stopped": func(t *testing.T) (*enginetest.Store, []*redistest.Server) {
		group := redistest.StartCluster(t, 3, 0)
		return openEngine(t, settled(group.URL()), "docs"), group.Nodes
	},
	"Cluster, one stopped": func(t *testing.T) (*enginetest.Store, []*redistest.Server) {
		group := redistest.StartCluster(t, 3, 0)
		return openEngine(t, settled(group.URL()), "docs"), group.Nodes[:1]
	},
	"Cluster, not shared": func(t *testing.T) (*enginetest.Store, []*redistest.Server) {
		group := redistest.StartCluster(t, 3, 0)
		return openEngine(t, settled(group.URL()), "docs", unshared), group.Nodes
	},
	"Cluster and replicas": func(t *testing.T) (*enginetest.Store, []*redistest.Server) {
		group := redistest.StartCluster(t, 3, 1)
		return openEngine(t, settled(group.URL()), "docs", waiting), masters(group)
	},
}

// waiting has writes wait for a replica, for 2.4 s.
func waiting(o *Options) { o.WaitReplicas, o.SocketTimeout = 1, 3*time.Second }

func masters(group *redistest.Cluster) (list []*redistest.Server) {
	for _, slot := range []int{0, 8000, 16000} {
		list = append(list, group.MasterOf(slot))
	}
	return list
}

func openGiven(t *testing.T, seesDeadlines bool) (*enginetest.Store, []*redistest.Server) {
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: seesDeadlines})
	t.Cleanup(func() { _ = client.Close() })
	return openEngine(t, settled(""), "docs", given(client)), []*redistest.Server{server}
}

// A command whose caller has gone is never put on the wire: writes that were
// given up while servers were stopped do not come over a newer one that was
// acknowledged, remove nothing, and bring nothing back after a Drop.
func TestRedisGoneCallersUndoNothing(t *testing.T) {
	t.Parallel()
	for name, open := range goneKinds {
		t.Run(name, func(t *testing.T) {
			s, servers := open(t)
			look := undone(t, s, servers...)
			leftBehind(s)
			require.Empty(t, look())

			old := versions("old")
			stopped(servers, func() {
				giveUp(t, func(ctx context.Context, i int) error {
					id := fmt.Sprintf("id-%d", i%goneDocs)
					return s.Upsert(ctx, map[string]json.RawMessage{id: old[id]})
				})
			})
			require.NoError(t, s.Drop(t.Context()))
			leftBehind(s)
			require.Empty(t, listed(t, s))
		})
	}
}

// A slowProxy forwards to a server, and can withhold what the server says on
// connections that are opened meanwhile, beginning with the greeting.
type slowProxy struct {
	net.Listener
	target string
	held   atomic.Pointer[chan struct{}]
	wg     sync.WaitGroup
}

func startSlowProxy(t *testing.T, target string) *slowProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &slowProxy{Listener: l, target: target}
	p.wg.Go(func() {
		for {
			conn, err := p.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(conn, p.held.Load()) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); p.wg.Wait() })
	return p
}

// hold withholds, until release is called.
func (p *slowProxy) hold(t *testing.T) (release func()) {
	held := make(chan struct{})
	p.held.Store(&held)
	release = sync.OnceFunc(func() {
		p.held.Store(nil)
		close(held)
	})
	t.Cleanup(release)
	return release
}

func (p *slowProxy) serve(client net.Conn, held *chan struct{}) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	p.wg.Go(func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	})
	if held != nil {
		<-*held
	}
	_, _ = io.Copy(client, server)
}

// undoneBeforeGreeting has older writes given up while no new connection is
// greeted, overwrites all, and returns what has been undone when the greetings
// have come.
func undoneBeforeGreeting(t *testing.T, s *enginetest.Store, proxy *slowProxy, other *enginetest.Store) []string {
	require.NoError(t, other.Upsert(t.Context(), versions("first")))
	release := proxy.hold(t)
	require.NotZero(t, giveUp(t, older(s)))
	require.NoError(t, other.Upsert(t.Context(), versions("new")))
	release()
	leftBehind(s)
	return notNew(other)
}

// What go-redis has let wait for the greeting of a connection is not written
// when the greeting comes, either: with whatever client, and whether the caller
// had a deadline or was cancelled.
func TestRedisGoneCallersBeforeTheGreeting(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := startSlowProxy(t, server.Addr)
	other := openEngine(t, settled(server.URL()), "docs")
	cfg := settled("redis://" + proxy.Addr().String())
	cfg.MaxConnections = 10
	given := func(seesDeadlines bool) *enginetest.Store {
		client := redis.NewClient(&redis.Options{Addr: proxy.Addr().String(), PoolSize: 10, ContextTimeoutEnabled: seesDeadlines})
		t.Cleanup(func() { _ = client.Close() })
		return openEngine(t, settled(""), "docs", given(client))
	}
	for name, open := range map[string]func() *enginetest.Store{
		"shared":                             func() *enginetest.Store { return openEngine(t, cfg, "docs") },
		"not shared":                         func() *enginetest.Store { return openEngine(t, cfg, "docs", unshared) },
		"a given client":                     func() *enginetest.Store { return given(false) },
		"a given client that sees deadlines": func() *enginetest.Store { return given(true) },
	} {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, undoneBeforeGreeting(t, open(), proxy, other))
		})
	}
}

// A done context ends a call, also one that asks a Cluster first which masters
// there are, while these are stopped.
func TestRedisContextEndsACallOfACluster(t *testing.T) {
	group := redistest.StartCluster(t, 3, 0)
	cfg := settled(group.URL())
	cfg.SocketTimeout, cfg.SaveOnFlush = 10*time.Second, true
	s := openEngine(t, cfg, "docs")
	defer leftBehind(s)
	stopped(group.Nodes, func() {
		var calling sync.WaitGroup
		for name, call := range operations {
			for end, want := range map[string]error{"deadline": context.DeadlineExceeded, "cancel": context.Canceled} {
				calling.Go(func() {
					ctx, cancel := context.WithCancel(t.Context())
					if end == "deadline" {
						ctx, cancel = context.WithTimeout(t.Context(), gonePatience)
					} else {
						time.AfterFunc(gonePatience, cancel)
					}
					defer cancel()
					began := time.Now()
					err := call(ctx, s)
					if took := time.Since(began); took > gonePatience+testkit.Slack || !errors.Is(err, want) {
						t.Errorf("%s, %s: %v after %v", name, end, err, took)
					}
				})
			}
		}
		calling.Wait()
	})
}
