package redistest

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// dialCluster returns a client for a cluster that has no password.
func dialCluster(t *testing.T, c *Cluster) *redis.ClusterClient {
	t.Helper()
	opt := &redis.ClusterOptions{Addrs: c.Addrs()}
	if u, err := url.Parse(c.URL()); err != nil {
		t.Fatal(err)
	} else if pw, ok := u.User.Password(); ok {
		opt.Password = pw
	}
	if certs := c.Nodes[0].TLS; certs != nil {
		opt.TLSConfig = certs.Config(true)
	}
	client := redis.NewClusterClient(opt)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// fill sets n keys to their names.
func fill(t *testing.T, c *redis.ClusterClient, n int) {
	t.Helper()
	_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range n {
			p.Set(t.Context(), fmt.Sprint(i), i, 0)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// check checks that the n keys of fill are there.
func check(t *testing.T, c *redis.ClusterClient, n int) {
	t.Helper()
	cmds, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range n {
			p.Get(t.Context(), fmt.Sprint(i))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, cmd := range cmds {
		if got, want := cmd.(*redis.StringCmd).Val(), fmt.Sprint(i); got != want {
			t.Fatalf("key %s is %q", want, got)
		}
	}
}

func TestCluster(t *testing.T) {
	began := time.Now()
	c := StartCluster(t, 3, 1)
	t.Logf("3+3 nodes up after %v", time.Since(began))
	for i, slot := range []int{0, 5461, 16383} {
		m := c.MasterOf(slot)
		if m != c.Nodes[i] {
			t.Errorf("slot %d is of %s, want node %d", slot, m.Addr, i)
		}
		if r := c.ReplicasOf(m); len(r) != 1 || r[0] != c.Nodes[3+i] {
			t.Errorf("replicas of node %d: %v", i, r)
		}
	}
	if u := c.URL(); !strings.HasPrefix(u, "redis://"+c.Nodes[0].Addr+"?") ||
		strings.Count(u, "addr=") != 5 || !strings.Contains(u, "cluster=true") {
		t.Errorf("URL is %s", u)
	}
	// So many keys that hardly a slot has none.
	const n = 100_000
	client := dialCluster(t, c)
	fill(t, client, n)
	check(t, client, n)

	t.Run("MoveSlots", func(t *testing.T) { testMoveSlots(t, c, client, n) })
	t.Run("Kill", func(t *testing.T) {
		m, replica := c.Nodes[0], c.Nodes[3]
		m.Kill()
		began := time.Now()
		err := poll(20*time.Second, func() error {
			if c.MasterOf(1000) == m {
				return fmt.Errorf("%s is still the master", m.Addr)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("replica took over after %v", time.Since(began))
		m.Restart()
		c.Await()
		if r := c.ReplicasOf(replica); len(r) != 1 || r[0] != m {
			t.Errorf("replicas of the new master: %v", r)
		}
		check(t, client, n)
	})
}

func testMoveSlots(t *testing.T, c *Cluster, client *redis.ClusterClient, n int) {
	from, to := c.Nodes[0], c.Nodes[1]
	var slots []int
	for i := range 1000 {
		slots = append(slots, i)
	}
	finish := c.BeginMove(from, to, slots)
	// A key in one of the slots that is not among those of fill.
	var missing string
	for i := 0; ; i++ {
		missing = fmt.Sprintf("missing%d", i)
		if slot, err := from.Client().ClusterKeySlot(t.Context(), missing).Result(); err != nil {
			t.Fatal(err)
		} else if slot < 1000 {
			break
		}
	}
	err := from.Client().Get(t.Context(), missing).Err()
	if addr, ask := redis.IsAskError(err); !ask || addr != to.Addr {
		t.Errorf("GET %s: %v, want ASK to %s", missing, err, to.Addr)
	}
	began := time.Now()
	finish()
	t.Logf("%d slots moved in %v", len(slots), time.Since(began))
	for _, slot := range []int{0, 999} {
		if m := c.MasterOf(slot); m != to {
			t.Errorf("slot %d is of %s, want %s", slot, m.Addr, to.Addr)
		}
	}
	if m := c.MasterOf(1000); m != from {
		t.Errorf("slot 1000 is of %s, want %s", m.Addr, from.Addr)
	}
	check(t, client, n)
}

func TestClusterTLS(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 2, 0, TLS("yes"), Password("pw"))
	client := dialCluster(t, c)
	fill(t, client, 1000)
	c.MoveSlots(c.Nodes[1], c.Nodes[0], []int{16383, 12182})
	check(t, client, 1000)
}
