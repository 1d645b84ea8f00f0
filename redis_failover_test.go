package kv_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

const failoverWriters = 16

// A ledger has what was acknowledged to goroutines that write all the time.
type ledger struct {
	t       *testing.T
	stop    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	acked  []string
	failed int
}

// startLedger has goroutines write numbered documents, each one once: most by
// themselves, some with an Insert, some together.
func startLedger(t *testing.T, s builtin) *ledger {
	l := &ledger{t: t, stop: make(chan struct{})}
	for w := range failoverWriters {
		l.running.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.stop:
					return
				case <-time.After(time.Millisecond): // Enough writes to lose, few enough to look for.
				}
				items := make(map[string]json.RawMessage)
				for i := range 1 + n%10/9*9 {
					id := fmt.Sprintf("w%d-%d-%d", w, n, i)
					items[id] = json.RawMessage(strconv.Quote(id))
				}
				var err error
				if n%5 == 0 {
					_, err = s.Insert(t.Context(), items)
				} else {
					err = s.Upsert(t.Context(), items)
				}
				l.note(items, err)
			}
		})
	}
	return l
}

func (l *ledger) note(items map[string]json.RawMessage, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.acked = slices.AppendSeq(l.acked, maps.Keys(items))
	} else {
		l.failed++
	}
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// more waits for acknowledgements of writes that begin now, or nearly so.
func (l *ledger) more(n int) {
	l.t.Helper()
	want := l.count() + n
	require.Eventually(l.t, func() bool { return l.count() >= want }, 60*time.Second, time.Millisecond)
}

// end stops the writers.
func (l *ledger) end() {
	close(l.stop)
	l.running.Wait()
}

// lost counts the acknowledged documents that a store does not have.
func (l *ledger) lost(s builtin) int {
	l.t.Helper()
	// For a second after its dials have failed go-redis repeats the error.
	require.Eventually(l.t, func() bool { return s.Ping(l.t.Context()) == nil }, 30*time.Second, 10*time.Millisecond)
	lost := 0
	for part := range slices.Chunk(l.acked, 1000) {
		values, err := s.GetMany(l.t.Context(), part)
		require.NoError(l.t, err)
		for i, value := range values {
			if value == nil {
				lost++
			} else {
				require.Equal(l.t, strconv.Quote(part[i]), string(value))
			}
		}
	}
	return lost
}

func failoverStore(t *testing.T, url string, want kv.Replicas) builtin {
	cfg := redisCfg(url)
	cfg.Redis.WaitReplicas, cfg.Redis.SocketTimeout, cfg.Redis.ConnectionTimeout = want, 2*time.Second, 2*time.Second
	return openRedisStore(t, cfg, "docs", kv.WithLogger(slog.New(slog.DiscardHandler)))
}

// A replica that is cut off becomes the master. WAIT for one of two replicas
// acknowledges what it does not have, and this harness sees it; WAIT for both,
// or for all, acknowledges nothing meanwhile.
func TestWaitOneOfTwoIsCaught(t *testing.T) {
	t.Parallel()
	for _, want := range []kv.Replicas{0, 1, 2, kv.AllReplicas} {
		t.Run(want.String(), func(t *testing.T) {
			group := startReplicated(t, 2)
			l := startLedger(t, failoverStore(t, group.master.URL(), want))
			l.more(100)
			behind := group.replicas[0]
			require.NoError(t, behind.Client().Do(t.Context(), "replicaof", "no", "one").Err())
			require.NoError(t, testkit.Await(func() bool { return group.online(t) == 1 }))
			if want == 0 || want == 1 {
				l.more(100)
			} else {
				require.NoError(t, testkit.Await(func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.failed >= failoverWriters }))
			}
			group.master.Kill()
			l.end()
			lost := l.lost(failoverStore(t, behind.URL(), 0))
			t.Logf("%d acknowledged, %d lost", len(l.acked), lost)
			if want == 0 || want == 1 {
				require.Positive(t, lost)
			} else {
				require.Zero(t, lost)
			}
		})
	}
}

// takeovers are what ends the rule of a master watched by Sentinels. Each leaves
// the group whole, with another master.
var takeovers = map[string]func(t *testing.T, s *redistest.Sentinel){
	"forced": func(_ *testing.T, s *redistest.Sentinel) { s.Failover() },
	"kill": func(t *testing.T, s *redistest.Sentinel) {
		old := s.Master()
		old.Kill()
		newMaster(t, s, old)
		old.Restart()
	},
	"stop": func(t *testing.T, s *redistest.Sentinel) {
		old := s.Master()
		old.Pause()
		newMaster(t, s, old)
		old.Resume()
	},
	// The replicas and the Sentinels cannot log in to the old master any more,
	// and the clients can.
	"partition": func(t *testing.T, s *redistest.Sentinel) {
		old := s.Master()
		u, err := url.Parse(s.URL())
		require.NoError(t, err)
		client := redis.NewClient(&redis.Options{Addr: old.Addr, Password: u.Query().Get("password")})
		defer client.Close()
		do := func(args ...any) { require.NoError(t, client.Do(t.Context(), args...).Err()) }
		do("acl", "setuser", "redistest", "off")
		do("client", "kill", "user", "redistest")
		newMaster(t, s, old)
		do("acl", "setuser", "redistest", "on")
		do("client", "kill", "type", "normal") // Sentinels log in anew.
		do("client", "kill", "type", "pubsub")
	},
}

func newMaster(t *testing.T, s *redistest.Sentinel, old *redistest.Server) {
	require.Eventually(t, func() bool { return s.Master() != old }, 60*time.Second, 20*time.Millisecond)
}

// soakRounds is how often each round is played in a long run, 0 in a normal one.
func soakRounds() int {
	n, _ := strconv.Atoi(os.Getenv("KV_SOAK_FAILOVERS"))
	return n
}

// Sentinel: kill, stop, forced, partition; with and without WAIT for all;
// every acknowledgement is accounted for. With it none is lost. The normal run
// has the fault that loses most.
func TestSentinelFailoverRounds(t *testing.T) {
	t.Parallel()
	kinds := []string{"partition"}
	if n := soakRounds(); n > 0 {
		kinds = slices.Repeat(slices.Sorted(maps.Keys(takeovers)), n)
	}
	for _, kind := range kinds {
		for _, want := range []kv.Replicas{0, kv.AllReplicas} {
			t.Run(kind+"/"+want.String(), func(t *testing.T) {
				group := redistest.StartSentinel(t, 2, 3, redistest.Password("secret"))
				l := startLedger(t, failoverStore(t, group.URL(), want))
				l.more(1000)
				before := group.Master()
				takeovers[kind](t, group)
				group.Await()
				require.NotEqual(t, before.Addr, group.Master().Addr)
				l.more(1000)
				l.end()
				lost := l.lost(failoverStore(t, group.URL(), 0))
				t.Logf("%d acknowledged, %d lost, %d calls failed", len(l.acked), lost, l.failed)
				if want == kv.AllReplicas {
					require.Zero(t, lost)
				}
			})
		}
	}
}

// A Cluster moves 500 slots, and then the master that got them is killed: with
// WAIT for its replica nothing that was acknowledged is lost.
func TestClusterFailoverRounds(t *testing.T) {
	t.Parallel()
	wants := []kv.Replicas{kv.AllReplicas}
	if n := soakRounds(); n > 0 {
		wants = slices.Repeat([]kv.Replicas{0, kv.AllReplicas}, n)
	}
	for _, want := range wants {
		t.Run(want.String(), func(t *testing.T) {
			cluster := redistest.StartCluster(t, 3, 1)
			l := startLedger(t, failoverStore(t, cluster.URL(), want))
			l.more(1000)
			slots := make([]int, 500)
			for i := range slots {
				slots[i] = i
			}
			from, to := cluster.MasterOf(0), cluster.Nodes[1]
			cluster.MoveSlots(from, to, slots)
			l.more(1000)
			caughtUp(t, cluster, to)
			to.Kill()
			require.Eventually(t, func() bool { return cluster.MasterOf(0) != to }, 60*time.Second, 20*time.Millisecond)
			to.Restart()
			cluster.Await()
			l.more(1000)
			l.end()
			lost := l.lost(failoverStore(t, cluster.URL(), 0))
			t.Logf("%d acknowledged, %d lost, %d calls failed", len(l.acked), lost, l.failed)
			if want == kv.AllReplicas {
				require.Zero(t, lost)
			}
		})
	}
}

// caughtUp waits until the replica of a master has what came by MIGRATE, for
// which nobody has waited.
func caughtUp(t *testing.T, cluster *redistest.Cluster, master *redistest.Server) {
	offset := func(s *redistest.Server, field string) int64 {
		n, err := strconv.ParseInt(s.Client().InfoMap(t.Context(), "replication").Item("Replication", field), 10, 64)
		require.NoError(t, err)
		return n
	}
	want, replica := offset(master, "master_repl_offset"), cluster.ReplicasOf(master)[0]
	require.NoError(t, testkit.Await(func() bool { return offset(replica, "slave_repl_offset") >= want }))
}

// Server kill -9 with appendfsync always, 20 times: nothing that was
// acknowledged is lost.
func TestRedisKilledWithAppendFsyncAlways(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.AppendFsyncAlways())
	s := failoverStore(t, server.URL(), 0)
	l := startLedger(t, s)
	for range 20 {
		l.more(50)
		server.Kill()
		server.Restart()
	}
	l.end()
	require.Zero(t, l.lost(s))
	t.Logf("%d acknowledged, %d calls failed", len(l.acked), l.failed)
}
