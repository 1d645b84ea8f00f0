package redisstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/health"
)

// Check asks every server that holds a part of the keys.
func (e *Engine) Check(ctx context.Context, r *health.Report) {
	if !r.Opening { // Else Open has just done it.
		if err := e.Ping(ctx); err != nil {
			e.unreachable(ctx, r, err)
			return
		}
	}
	bounded, cancel := ctx, func() {}
	if r.Opening {
		bounded, cancel = context.WithTimeout(ctx, e.way.wait)
	}
	defer cancel()
	nodes, err := e.way.masters(bounded)
	if err != nil {
		e.unreachable(bounded, r, err)
		return
	}
	parts := make([]*health.Report, len(nodes))
	var asked sync.WaitGroup
	for i, node := range nodes {
		n := &nodeCheck{engine: e, way: e.way.on(node), report: r.At(e.way.where), pool: e.way.most}
		if c, ok := node.(*redis.Client); ok && e.way.cluster() != nil {
			n.report.Where = c.Options().Addr
		}
		parts[i] = n.report
		asked.Go(func() { n.check(bounded) })
	}
	asked.Wait()
	for _, part := range parts {
		r.Join(part)
	}
	if !r.Opening {
		e.sample(ctx, r)
	}
}

func (e *Engine) unreachable(ctx context.Context, r *health.Report, err error) {
	part := r.At(e.way.where)
	part.Reach(ctx, err)
	r.Join(part)
}

// A nodeCheck is a server that is being looked at.
type nodeCheck struct {
	engine *Engine
	way    *way
	pool   int // connections that this process may open to it
	report *health.Report
	info   infoFields
}

// infoFields are the fields of INFO. Servers of other makes leave some out,
// and nothing is said of what is not there.
type infoFields map[string]string

func parseInfo(text string) infoFields {
	info := make(infoFields)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// number returns a field, or 0 where there is none.
func (i infoFields) number(name string) int64 {
	n, err := strconv.ParseInt(i[name], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// INFO has nearly all that there is to know in one round trip, and managed
// servers that refuse CONFIG have it, too.
func (n *nodeCheck) check(ctx context.Context) {
	before := n.report.Now()
	cmd, ok := n.ask(ctx, "that eviction, memory, persistence, replication, the version and the clock", "info")
	if !ok {
		return
	}
	after := n.report.Now()
	n.info = parseInfo(cmd)
	n.checkVersion()
	n.checkEviction()
	n.checkMemory()
	n.checkPersistence(ctx)
	n.checkReplication(ctx)
	n.checkClients()
	n.checkClock(before, after)
	n.checkCluster(ctx)
}

// ask sends a command that the user may not be allowed to use. What it was to
// say is for the finding.
func (n *nodeCheck) ask(ctx context.Context, what string, args ...any) (string, bool) {
	cmd, _, err := run(ctx, n.way, never, func() *redis.StringCmd { return redis.NewStringCmd(ctx, args...) })
	if err == nil {
		return cmd.Val(), true
	}
	n.refused(ctx, what, fmt.Sprint(args[0]), err)
	return "", false
}

// setting asks for a setting of the server.
func (n *nodeCheck) setting(ctx context.Context, what, name string) (string, bool) {
	cmd, _, err := run(ctx, n.way, never, func() *redis.MapStringStringCmd {
		return redis.NewMapStringStringCmd(ctx, "config", "get", name)
	})
	if err != nil {
		n.refused(ctx, what, "config get", err)
		return "", false
	}
	value, ok := cmd.Val()[name]
	return value, ok
}

func (n *nodeCheck) refused(ctx context.Context, what, command string, err error) {
	server, said := redis.Error(nil), ""
	if errors.As(err, &server) {
		said = strings.ToLower(server.Error())
	}
	if strings.HasPrefix(said, "noperm") || strings.HasPrefix(said, "err unknown") {
		n.report.Add(health.RedisNotPermitted, "%s is not permitted, so %s could not be looked at", strings.ToUpper(command), what)
		return
	}
	n.report.Reach(ctx, err)
}

func (n *nodeCheck) checkVersion() {
	version := n.info["redis_version"]
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return
	}
	switch {
	case major < 4:
		n.report.Add(health.RedisTooOld, "The server has version %d.%d", major, minor)
	case major < 6, major == 6 && minor < 2:
		n.report.Add(health.RedisOld, "The server has version %d.%d", major, minor)
	}
}

// policy is the maxmemory-policy in effect. Without maxmemory there is none.
func (n *nodeCheck) policy() string {
	if n.info.number("maxmemory") == 0 {
		return ""
	}
	return n.info["maxmemory_policy"]
}

func (n *nodeCheck) checkEviction() {
	r, policy, evicted := n.report, n.policy(), n.info.number("evicted_keys")
	all, volatile := strings.HasPrefix(policy, "allkeys-"), strings.HasPrefix(policy, "volatile-")
	switch {
	case all && r.TTL == 0:
		r.Add(health.RedisEvictsDocuments, "Under maxmemory-policy %s the server drops documents that should live for ever when memory is short", policy)
	case all, volatile:
		r.Add(health.RedisEvictsEarly, "Under maxmemory-policy %s the server drops documents before their time to live has passed when memory is short; "+
			"it has evicted %d since it was started", policy, evicted)
	}
	if evicted > 0 && !volatile && r.TTL == 0 {
		r.Add(health.RedisEvicted, "The server has evicted %d keys since it was started, and they may have been documents", evicted)
	}
}

// Where any key may be evicted, memory that is full is no news.
func (n *nodeCheck) checkMemory() {
	limit := n.info.number("maxmemory")
	if limit == 0 || strings.HasPrefix(n.policy(), "allkeys-") {
		return
	}
	used := n.info.number("used_memory") - n.info.number("mem_not_counted_for_evict")
	code, part := health.RedisMemoryHigh, 100*float64(used)/float64(limit)
	if part >= 95 && n.policy() == "noeviction" {
		code = health.RedisMemoryFull
	}
	if part >= 80 {
		n.report.Add(code, "The server uses %.0f %% of its maxmemory", part)
	}
}

func (n *nodeCheck) checkPersistence(ctx context.Context) {
	r := n.report
	if n.info["rdb_last_bgsave_status"] == "err" {
		r.Add(health.RedisSaveFailed, "The server's last BGSAVE failed")
	}
	if n.info["aof_last_write_status"] == "err" {
		r.Add(health.RedisSaveFailed, "The server's last write to its append-only file failed")
	}
	if n.info["aof_enabled"] != "0" || r.TTL != 0 || r.Opening {
		return
	}
	points, ok := n.setting(ctx, "whether the server saves at all (appendonly is no)", "save")
	switch {
	case !ok:
	case points == "":
		r.Add(health.RedisNotDurable, "The server keeps nothing on disk (appendonly no, save \"\"): a restart loses every document")
	default:
		r.Add(health.RedisSnapshotsOnly, "The server saves from time to time (appendonly no): a crash loses what was written since")
	}
}

func (n *nodeCheck) checkReplication(ctx context.Context) {
	r := n.report
	if n.info["role"] == "slave" {
		r.Add(health.RedisReplica, "The server is a replica")
		if n.info["master_link_status"] == "down" {
			r.Add(health.RedisReplicaLink, "The server is a replica that is not connected to its master")
		}
		return
	}
	replicas, behind := n.info.number("connected_slaves"), 0
	for i := range replicas {
		if state := n.info["slave"+strconv.FormatInt(i, 10)]; state != "" && !strings.Contains(state, "state=online") {
			behind++
		}
	}
	if behind > 0 {
		r.Add(health.RedisReplicaLink, "Of the replicas, %d of %d are not in sync", behind, replicas)
	}
	good, bounded := n.info["min_slaves_good_slaves"] // Only there with min-replicas-to-write.
	switch {
	case !bounded && replicas > 0:
		r.Add(health.RedisAsync, "The server replicates to %d others with min-replicas-to-write 0", replicas)
	case bounded && good == "0":
		r.Add(health.RedisTooFewReplicas, "No replica is in sync, and min-replicas-to-write asks for some")
	case bounded && !r.Opening:
		want, ok := n.setting(ctx, "min-replicas-to-write", "min-replicas-to-write")
		if wanted, err := strconv.ParseInt(want, 10, 64); ok && err == nil && n.info.number("min_slaves_good_slaves") < wanted {
			r.Add(health.RedisTooFewReplicas, "Only %s replicas are in sync, and min-replicas-to-write asks for %d", good, wanted)
		}
	}
}

func (n *nodeCheck) checkClients() {
	r, limit, connected := n.report, n.info.number("maxclients"), n.info.number("connected_clients")
	switch {
	case limit == 0:
	case int64(n.pool) > limit:
		r.Add(health.RedisClients, "The server allows %d clients (maxclients), and this process alone may open %d connections", limit, n.pool)
	case connected*10 >= limit*9:
		r.Add(health.RedisClients, "Of the possible clients, %d of %d are connected", connected, limit)
	}
	if rejected := n.info.number("rejected_connections"); rejected > 0 {
		r.Add(health.RedisRejected, "The server has turned %d connections away since it was started", rejected)
	}
}

// clockSlack is what clocks may differ by. Exports and leases compare them.
const clockSlack = 2 * time.Second

// The server has read its clock at some time between the two.
func (n *nodeCheck) checkClock(before, after time.Time) {
	micros := n.info.number("server_time_usec")
	if micros == 0 {
		return
	}
	there, skew := time.UnixMicro(micros), time.Duration(0)
	switch {
	case there.Before(before):
		skew = before.Sub(there)
	case there.After(after):
		skew = there.Sub(after)
	}
	if skew > clockSlack {
		n.report.Add(health.RedisClock, "The clocks of the server and of this machine differ by %v", skew.Round(time.Second))
	}
}

func (n *nodeCheck) checkCluster(ctx context.Context) {
	r := n.report
	if n.info["cluster_enabled"] != "1" {
		return
	}
	if n.engine.way.cluster() == nil {
		r.Add(health.RedisClusterUnknown, "The server is one of a Cluster, and REDIS_URL does not say so")
		return
	}
	if r.Opening {
		return
	}
	text, ok := n.ask(ctx, "the state of the cluster", "cluster", "info")
	if !ok {
		return
	}
	const slots = 16384
	info := parseInfo(text)
	if state := info["cluster_state"]; state != "ok" {
		r.Add(health.RedisClusterBroken, "The cluster is down, as this server sees it")
	} else if owned := info.number("cluster_slots_ok"); owned < slots {
		r.Add(health.RedisClusterBroken, "Of the slots, %d of %d have no owner that works", slots-owned, slots)
	}
}

// Bounds of the sample.
const (
	sampleKeys  = 100
	samplePages = 20
	sampleBytes = 16 << 20
)

// sample reads some documents, by the commands that reading takes anyway.
func (e *Engine) sample(ctx context.Context, r *health.Report) {
	pages, looked, bad, size := 0, 0, 0, 0
	err := e.scan(ctx, func(keys []string) error {
		for _, key := range keys {
			id := key[len(e.prefix):]
			value, err := e.Get(ctx, id)
			switch {
			case errors.Is(err, fault.ErrNotFound): // Gone since.
				continue
			case errors.Is(err, fault.ErrCorrupt), err == nil && engine.CheckID(id) != nil:
				bad++
			case err != nil:
				return err
			}
			looked++
			if size += len(value); looked == sampleKeys || size >= sampleBytes {
				return errStopped
			}
		}
		if pages++; pages == samplePages {
			return errStopped
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStopped) {
		e.sampleFailed(ctx, r, err)
		return
	}
	if bad > 0 {
		part := r.At(e.way.where)
		part.Add(health.RedisForeign, "Of the keys that were looked at, %d of %d hold no JSON text", bad, looked)
		r.Join(part)
	}
}

func (e *Engine) sampleFailed(ctx context.Context, r *health.Report, err error) {
	n := &nodeCheck{report: r.At(e.way.where)}
	n.refused(ctx, "whether the values are JSON", "scan or get", err)
	r.Join(n.report)
}

// Writable returns an error if the server that answers is a replica. The
// client of a Cluster finds masters by itself, and a server that does not tell
// what it is may well be one.
func (e *Engine) Writable(ctx context.Context) error {
	if e.way.cluster() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.way.wait)
	defer cancel()
	cmd, _, err := run(ctx, e.way.unguarded(), never, func() *redis.StringCmd {
		return redis.NewStringCmd(ctx, "info", "replication")
	})
	if errors.Is(err, fault.ErrUnavailable) || fault.ContextError(ctx) != nil {
		return err
	}
	if err == nil && parseInfo(cmd.Val())["role"] == "slave" {
		return fault.Unavailablef("the server is a replica, which takes no writes; point REDIS_URL to the master, or to the Sentinels")
	}
	return nil
}
