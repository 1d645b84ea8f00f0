package redistest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	slotCount      = 16384
	clusterTimeout = time.Minute // For a cluster to agree, on a machine that has other things to do.
	viewTimeout    = time.Second // For a node to say what it knows.
)

// A Cluster is a group of servers in cluster mode.
type Cluster struct {
	// Nodes are the servers. In the beginning the masters come first, by
	// their slots, and then the replicas of the first one, and so on.
	Nodes []*Server

	tb       testing.TB
	masters  int
	replicas int // Of each master.
	ids      map[*Server]string
}

// StartCluster starts a cluster whose masters share the slots evenly, and
// waits until every node knows of all others and every replica is in sync.
// The options apply to every node.
func StartCluster(tb testing.TB, masters, replicasPerMaster int, opts ...Option) *Cluster {
	tb.Helper()
	bin, conf := binary(tb), newConfig(opts)
	c := &Cluster{tb: tb, masters: masters, replicas: replicasPerMaster, ids: make(map[*Server]string)}
	r := &role{cluster: true, lines: []string{
		line("cluster-announce-ip", "127.0.0.1"),
		line("cluster-node-timeout", "2000"),
		line("repl-ping-replica-period", "1"),
	}}
	if conf.tls {
		r.certs = newCerts(tb, tempDir(tb))
	}
	for range masters * (1 + replicasPerMaster) {
		c.Nodes = append(c.Nodes, start(tb, bin, conf, r))
	}

	ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
	defer cancel()
	if err := c.form(ctx); err != nil {
		tb.Fatalf("redistest: forming a cluster: %v", err)
	}
	c.Await()
	return c
}

// Await waits until every node knows of all others and every replica is in
// sync, as it is after StartCluster, for instance when a master that was
// killed has been started again.
func (c *Cluster) Await() {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*clusterTimeout) // So that the reason is what was seen last.
	defer cancel()
	c.await("the cluster", func() error { return c.formed(ctx) })
}

// form tells the nodes of each other, the masters of their slots and the
// replicas of their masters.
func (c *Cluster) form(ctx context.Context) error {
	for i, n := range c.Nodes {
		id, err := n.client.ClusterMyID(ctx).Result()
		if err != nil {
			return err
		}
		c.ids[n] = id
		// Without epochs of their own, masters would first have to resolve
		// the conflict.
		if err := n.client.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return err
		}
		if i < c.masters {
			first, last := i*slotCount/c.masters, (i+1)*slotCount/c.masters-1
			if err := n.client.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
				return err
			}
		}
	}
	// Every pair is introduced, as gossip would take its time.
	for i, n := range c.Nodes {
		for _, other := range c.Nodes[:i] {
			if err := n.meet(ctx, other); err != nil {
				return err
			}
		}
	}
	for i, n := range c.Nodes[c.masters:] {
		id := c.ids[c.Nodes[i/c.replicas]]
		err := poll(clusterTimeout, func() error { return n.client.ClusterReplicate(ctx, id).Err() })
		if err != nil {
			return err
		}
	}
	return nil
}

// meet introduces another node to s.
func (s *Server) meet(ctx context.Context, other *Server) error {
	name := "port"
	if other.TLS != nil {
		name = "tls-port"
	}
	conf, err := other.client.ConfigGet(ctx, "*port").Result()
	if err != nil {
		return err
	}
	return s.client.Do(ctx, "cluster", "meet", "127.0.0.1", conf[name], conf["cluster-port"]).Err()
}

// formed returns nil if all nodes have the whole picture.
func (c *Cluster) formed(ctx context.Context) error {
	for _, n := range c.Nodes {
		info, err := n.client.ClusterInfo(ctx).Result()
		if err != nil {
			return err
		}
		for _, want := range []string{
			"cluster_state:ok",
			fmt.Sprintf("cluster_slots_ok:%d", slotCount),
			fmt.Sprintf("cluster_known_nodes:%d", len(c.Nodes)),
		} {
			if !strings.Contains(info, want+"\r\n") {
				return fmt.Errorf("%s: no %s in %q", n.Addr, want, info)
			}
		}
		slots, err := n.client.ClusterSlots(ctx).Result()
		if err != nil {
			return err
		}
		for _, r := range slots {
			if len(r.Nodes) != 1+c.replicas {
				return fmt.Errorf("%s: slots %d-%d have %d nodes", n.Addr, r.Start, r.End, len(r.Nodes))
			}
		}
		if err := n.synced(ctx, c.replicas); err != nil {
			return err
		}
	}
	return nil
}

// synced returns nil if s is a master with that many replicas in sync, or a
// replica in sync.
func (s *Server) synced(ctx context.Context, replicas int) error {
	info, err := s.client.Info(ctx, "replication").Result()
	if err != nil {
		return err
	}
	up := strings.Contains(info, "master_link_status:up\r\n")
	if strings.Contains(info, "role:master\r\n") {
		up = strings.Count(info, ",state=online,") == replicas
	}
	if !up {
		return fmt.Errorf("%s: replication: %q", s.Addr, info)
	}
	return nil
}

// Addrs returns the addresses of the nodes.
func (c *Cluster) Addrs() []string { return addrs(c.Nodes) }

// URL returns a URL with the address of every node and cluster=true.
func (c *Cluster) URL() string {
	return groupURL(c.Nodes, userinfo(c.Nodes[0].password), url.Values{"cluster": {"true"}})
}

// groupURL returns the URL of the first server, with the addresses of the
// others in its query.
func groupURL(servers []*Server, user *url.Userinfo, query url.Values) string {
	query["addr"] = addrs(servers[1:])
	u := url.URL{
		Scheme:   servers[0].scheme(),
		User:     user,
		Host:     servers[0].Addr,
		RawQuery: query.Encode(),
	}
	return u.String()
}

func addrs(servers []*Server) []string {
	var a []string
	for _, s := range servers {
		a = append(a, s.Addr)
	}
	return a
}

// byAddr returns the server at an address, or nil.
func byAddr(servers []*Server, addr string) *Server {
	for _, s := range servers {
		if s.Addr == addr {
			return s
		}
	}
	return nil
}

// MasterOf returns the node most nodes take for the master of a slot.
func (c *Cluster) MasterOf(slot int) *Server {
	c.tb.Helper()
	owners := c.owners(slot)
	var master *Server
	for s, n := range owners {
		if master == nil || n > owners[master] {
			master = s
		}
	}
	if master == nil {
		c.tb.Fatalf("redistest: nobody knows the master of slot %d", slot)
	}
	return master
}

// owners returns how many nodes take each for the master of a slot. Nodes that
// are down have no say.
func (c *Cluster) owners(slot int) map[*Server]int {
	owners := make(map[*Server]int)
	for _, n := range c.Nodes {
		for _, r := range n.slots() {
			if r.Start <= slot && slot <= r.End && len(r.Nodes) > 0 {
				if m := byAddr(c.Nodes, r.Nodes[0].Addr); m != nil {
					owners[m]++
				}
			}
		}
	}
	return owners
}

// ReplicasOf returns the nodes that say they are replicas of a master.
func (c *Cluster) ReplicasOf(master *Server) []*Server {
	var replicas []*Server
	for _, n := range c.Nodes {
		if n.masterAddr() == master.Addr {
			replicas = append(replicas, n)
		}
	}
	return replicas
}

// slots returns what s says of the slots, and nothing if it does not answer.
func (s *Server) slots() []redis.ClusterSlot {
	if !s.answers() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), viewTimeout)
	defer cancel()
	slots, err := s.client.ClusterSlots(ctx).Result()
	if err != nil {
		return nil
	}
	return slots
}

// masterAddr returns the address s replicates from, "" if s is a master or
// does not answer.
func (s *Server) masterAddr() string {
	if !s.answers() {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), viewTimeout)
	defer cancel()
	info := s.client.InfoMap(ctx, "replication")
	host := info.Item("Replication", "master_host")
	if host == "" {
		return ""
	}
	return net.JoinHostPort(host, info.Item("Replication", "master_port"))
}

// await waits until f returns nil, or fails the test.
func (c *Cluster) await(what string, f func() error) {
	c.tb.Helper()
	if err := poll(clusterTimeout, f); err != nil {
		c.tb.Fatalf("redistest: waiting for %s: %v", what, err)
	}
}
