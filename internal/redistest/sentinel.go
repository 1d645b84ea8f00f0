package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// MasterName is the name sentinels have for the master.
const MasterName = "mymaster"

const (
	sentinelTimeout = 20 * time.Second // For sentinels to find all they are to.
	failoverTimeout = 30 * time.Second // For a failover, and a second try.
)

// A Sentinel is a master with replicas, watched by sentinels.
type Sentinel struct {
	// Nodes are the master and its replicas, the first one being the master
	// in the beginning.
	Nodes []*Server
	// Sentinels are the sentinels. They need no password.
	Sentinels []*Server

	tb testing.TB
}

// StartSentinel starts a master, its replicas, and sentinels, most of which
// have to agree for a failover. It waits until the replicas are in sync and
// the sentinels know them and each other. The options apply to the master and
// the replicas, TLS to the sentinels as well.
func StartSentinel(tb testing.TB, replicas, sentinels int, opts ...Option) *Sentinel {
	tb.Helper()
	bin, conf := binary(tb), newConfig(opts)
	var certs *Certs
	if conf.tls {
		certs = newCerts(tb, tempDir(tb))
	}
	s := &Sentinel{tb: tb}
	r := &role{certs: certs, lines: []string{line("repl-ping-replica-period", "1")}}
	master := start(tb, bin, conf, r)
	s.Nodes = append(s.Nodes, master)
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	r.lines = append(r.lines, line("replicaof", host, port))
	for range replicas {
		s.Nodes = append(s.Nodes, start(tb, bin, conf, r))
	}

	watch := func(name string, value ...string) string {
		return line("sentinel "+name, append([]string{MasterName}, value...)...)
	}
	r = &role{sentinel: true, certs: certs, lines: []string{
		watch("monitor", host, port, strconv.Itoa(sentinels/2+1)),
		watch("auth-user", adminUser),
		watch("auth-pass", adminPassword),
		watch("down-after-milliseconds", "1000"),
		watch("failover-timeout", "3000"),
	}}
	for range sentinels {
		s.Sentinels = append(s.Sentinels, start(tb, bin, conf, r))
	}
	s.hurry()
	s.Await()
	return s
}

// Await waits until the replicas are in sync and the sentinels know them and
// each other, as it is after StartSentinel, for instance when a master that
// was killed has been started again.
func (s *Sentinel) Await() {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sentinelTimeout)
	defer cancel()
	if err := poll(sentinelTimeout, func() error { return s.formed(ctx) }); err != nil {
		s.tb.Fatalf("redistest: waiting for sentinels: %v", err)
	}
}

// hurry has the sentinels look more often than they do for real, where they
// can be told to, which is since Redis 7.0. A restart makes them forget.
func (s *Sentinel) hurry() {
	ctx, cancel := context.WithTimeout(context.Background(), viewTimeout)
	defer cancel()
	for _, n := range s.Sentinels {
		_ = n.client.Do(ctx, "sentinel", "debug",
			"info-period", 500, "ping-period", 200, "ask-period", 200,
			"publish-period", 200, "tilt-period", 1000).Err()
	}
}

// formed returns nil if the replicas are in sync with one master, and all
// sentinels know the same.
func (s *Sentinel) formed(ctx context.Context) error {
	var master string
	for _, n := range s.Sentinels {
		m, err := n.client.Do(ctx, "sentinel", "master", MasterName).Result()
		if err != nil {
			return err
		}
		state := fields(m)
		addr := net.JoinHostPort(state["ip"], state["port"])
		if master == "" {
			master = addr
		}
		switch {
		case addr != master:
			return fmt.Errorf("sentinels disagree: %s and %s", addr, master)
		case state["flags"] != "master",
			state["num-slaves"] != strconv.Itoa(len(s.Nodes)-1),
			state["num-other-sentinels"] != strconv.Itoa(len(s.Sentinels)-1):
			return fmt.Errorf("%s: master: %v", n.Addr, state)
		}
		replicas, err := n.client.Do(ctx, "sentinel", "replicas", MasterName).Slice()
		if err != nil {
			return err
		}
		for _, r := range replicas {
			if f := fields(r); f["flags"] != "slave" || f["master-link-status"] != "ok" {
				return fmt.Errorf("%s: replica: %v", n.Addr, f)
			}
		}
	}
	for _, n := range s.Nodes {
		if m := n.masterAddr(); m != master && (m != "" || n.Addr != master) {
			return fmt.Errorf("%s has master %q", n.Addr, m)
		}
		if err := n.synced(ctx, len(s.Nodes)-1); err != nil {
			return err
		}
	}
	return nil
}

// fields returns what a sentinel says of something, which is a map or a list
// as the protocol has it.
func fields(v any) map[string]string {
	f := make(map[string]string)
	switch v := v.(type) {
	case map[any]any:
		for k, v := range v {
			f[fmt.Sprint(k)] = fmt.Sprint(v)
		}
	case []any:
		for i := 0; i+1 < len(v); i += 2 {
			f[fmt.Sprint(v[i])] = fmt.Sprint(v[i+1])
		}
	}
	return f
}

// Addrs returns the addresses of the sentinels.
func (s *Sentinel) Addrs() []string { return addrs(s.Sentinels) }

// URL returns a URL with the address of every sentinel and master_name, and
// with the password of the master, if any, as password.
func (s *Sentinel) URL() string {
	query := url.Values{"master_name": {MasterName}}
	if pw := s.Nodes[0].password; pw != "" {
		query.Set("password", pw)
	}
	return groupURL(s.Sentinels, nil, query)
}

// Master returns the server a sentinel says is the master.
func (s *Sentinel) Master() *Server {
	s.tb.Helper()
	m, err := s.master()
	if err != nil {
		s.tb.Fatalf("redistest: asking for the master: %v", err)
	}
	return m
}

// master asks the first sentinel that answers for the master.
func (s *Sentinel) master() (*Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), viewTimeout)
	defer cancel()
	for _, n := range s.Sentinels {
		if !n.answers() {
			continue
		}
		a, err := n.client.Do(ctx, "sentinel", "get-master-addr-by-name", MasterName).StringSlice()
		if err != nil {
			return nil, err
		}
		addr := strings.Join(a, ":")
		if m := byAddr(s.Nodes, addr); m != nil {
			return m, nil
		}
		return nil, fmt.Errorf("%s says %q", n.Addr, addr)
	}
	return nil, errors.New("no sentinel answers")
}

// Failover has the sentinels make a replica the master, and waits until all
// of them know and the other servers are in sync with it. All servers have to
// be up for it.
func (s *Sentinel) Failover() {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), failoverTimeout)
	defer cancel()
	old := s.Master()
	err := poll(failoverTimeout, func() error {
		m, err := s.master()
		if err != nil {
			return err
		}
		if m != old {
			return s.formed(ctx)
		}
		// A sentinel refuses while a failover goes on, and when it has not
		// heard from the replicas lately.
		if err := s.Sentinels[0].client.Do(ctx, "sentinel", "failover", MasterName).Err(); err != nil {
			return err
		}
		return fmt.Errorf("%s is still the master", old.Addr)
	})
	if err != nil {
		s.tb.Fatalf("redistest: failover: %v", err)
	}
}
