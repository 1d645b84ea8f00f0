package redistest

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestSentinel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		opts []Option
	}{
		{"plain", nil},
		{"TLS", []Option{TLS("yes"), Password("p w")}},
	} {
		t.Run(tt.name, func(t *testing.T) { testSentinel(t, tt.opts) })
	}
}

func testSentinel(t *testing.T, opts []Option) {
	t.Parallel()
	began := time.Now()
	s := StartSentinel(t, 2, 3, opts...)
	t.Logf("3 servers and 3 sentinels up after %v", time.Since(began))
	opt, err := redis.ParseFailoverURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	if opt.TLSConfig != nil {
		opt.TLSConfig = s.Nodes[0].TLS.Config(true)
	}
	if len(opt.SentinelAddrs) != 3 {
		t.Errorf("sentinels are %v", opt.SentinelAddrs)
	}
	c := redis.NewFailoverClient(opt)
	defer c.Close() // The servers end with the test.
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	// The write is to reach the replicas before one of them is promoted.
	for _, n := range s.Nodes[1:] {
		err := poll(5*time.Second, func() error { return n.Client().Get(t.Context(), "k").Err() })
		if err != nil {
			t.Fatal(err)
		}
	}
	old := s.Master()
	if old != s.Nodes[0] {
		t.Errorf("master is %s, want %s", old.Addr, s.Nodes[0].Addr)
	}
	began = time.Now()
	s.Failover()
	t.Logf("failover took %v", time.Since(began))
	m := s.Master()
	if m == old {
		t.Errorf("master is still %s", m.Addr)
	}
	if v, err := m.Client().Get(t.Context(), "k").Result(); v != "v" || err != nil {
		t.Errorf("k is %q, %v", v, err)
	}
	if got := old.masterAddr(); got != m.Addr {
		t.Errorf("old master replicates from %q, want %s", got, m.Addr)
	}

	testSentinelKill(t, s)
}

func testSentinelKill(t *testing.T, s *Sentinel) {
	m := s.Master()
	m.Kill()
	began := time.Now()
	err := poll(20*time.Second, func() error {
		if s.Master() == m {
			return fmt.Errorf("%s is still the master", m.Addr)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("replica took over after %v", time.Since(began))
	began = time.Now()
	m.Restart()
	s.Await()
	t.Logf("old master became a replica after %v", time.Since(began))
}
