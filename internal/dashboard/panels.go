package dashboard

// A Row is a question that somebody asks at night, and the panels that answer
// it.
type Row struct {
	Title  string
	Panels []Panel
}

// A Panel is a figure.
type Panel struct {
	Title   string
	Help    string // what to make of it
	Kind    Kind
	Unit    string // as Grafana has them
	Queries []Query
	Words   map[int]string // in place of values
	Bad     float64        // where it begins to be red; 0: nowhere
	BadLow  bool           // below that
}

// A Kind is how a panel is drawn.
type Kind string

const (
	Graph Kind = "timeseries"
	Stat  Kind = "stat" // the last value, large
)

// A Query is a line or some of a panel.
type Query struct {
	Expr   string
	Legend string
}

// What the queries have in common. The namespace and the service are chosen
// at the top of the dashboard.
const (
	of     = `{instance=~"$instance",namespace=~"$namespace"}`
	shared = `{instance=~"$instance"}`
	good   = `{instance=~"$instance",namespace=~"$namespace",result=~"ok|not_found|canceled"}`
	bad    = `{instance=~"$instance",namespace=~"$namespace",result!~"ok|not_found|canceled"}`
	llm    = `{instance=~"$instance",namespace="llm_response_cache"}`
	rate   = `[$__rate_interval]`
)

// Rows is the dashboard, from top to bottom.
func Rows() []Row {
	return []Row{
		{"Is it up?", isUp()},
		{"Is it fast?", isFast()},
		{"Is the cache worth it?", isWorthIt()},
		{"What grows?", grows()},
		{"What expires?", expires()},
		{"Is the pool enough?", isEnough()},
	}
}

var upOrDown = map[int]string{0: "down", 1: "up"}

func isUp() []Panel {
	return []Panel{
		{Title: "Stores", Kind: Stat, Words: upOrDown, Bad: 1, BadLow: true,
			Help:    "Whether each namespace can serve, as kv.Healthy has it.",
			Queries: []Query{{`min by (namespace) (kv_up` + of + `)`, "{{namespace}}"}}},
		{Title: "Redis", Kind: Stat, Words: upOrDown, Bad: 1, BadLow: true,
			Help:    "Whether redis_exporter can reach the server.",
			Queries: []Query{{`min by (job) (redis_up{job="redis"})`, "{{job}}"}}},
		{Title: "Circuit", Kind: Stat, Words: map[int]string{0: "closed", 1: "open"}, Bad: 1,
			Help:    "Open: calls fail at once, because the server did not answer. No data without REDIS_CIRCUIT_FAILURES.",
			Queries: []Query{{`max by (instance) (kv_redis_circuit_open` + shared + `)`, "{{instance}}"}}},
		{Title: "Failed calls", Kind: Stat, Unit: "percentunit", Bad: 0.01,
			Help: "The part of all calls. What was not found or canceled by the caller has not failed.",
			Queries: []Query{{`1 - sum(rate(kv_operations_total` + good + rate + `)) / sum(rate(kv_operations_total` + of + rate + `))`,
				"failed"}}},
		{Title: "Calls", Kind: Graph, Unit: "ops",
			Help:    "Calls a second, by namespace and method.",
			Queries: []Query{{`sum by (namespace, op) (rate(kv_operations_total` + of + rate + `))`, "{{namespace}} {{op}}"}}},
		{Title: "Failures", Kind: Graph, Unit: "ops",
			Help:    "Calls a second that failed, by how they ended.",
			Queries: []Query{{`sum by (namespace, result) (rate(kv_operations_total` + bad + rate + `))`, "{{namespace}} {{result}}"}}},
	}
}

func isFast() []Panel {
	quantile := func(q, by string) string {
		return `histogram_quantile(` + q + `, sum by (le, ` + by + `) (rate(kv_operation_duration_seconds_bucket` + of + rate + `)))`
	}
	return []Panel{
		{Title: "Half of all calls", Kind: Graph, Unit: "s",
			Help:    "The time that half of the calls do not exceed, by method. The buckets are a factor of 4 wide.",
			Queries: []Query{{quantile("0.5", "op"), "{{op}}"}}},
		{Title: "99 of 100 calls", Kind: Graph, Unit: "s",
			Help:    "The time that 99 of 100 calls do not exceed, by method.",
			Queries: []Query{{quantile("0.99", "op"), "{{op}}"}}},
		{Title: "Documents of a call", Kind: Graph,
			Help: "Many small calls take longer than few large ones: a mean near 1 of getmany is worth a look.",
			Queries: []Query{{`sum by (namespace, op) (rate(kv_batch_size_sum` + of + rate + `))` +
				` / sum by (namespace, op) (rate(kv_batch_size_count` + of + rate + `))`, "{{namespace}} {{op}}"}}},
		{Title: "Values read and written", Kind: Graph, Unit: "Bps",
			Help: "Bytes a second of the values.",
			Queries: []Query{
				{`sum by (namespace) (rate(kv_read_bytes_total` + of + rate + `))`, "{{namespace}} read"},
				{`sum by (namespace) (rate(kv_written_bytes_total` + of + rate + `))`, "{{namespace}} written"},
			}},
	}
}

func isWorthIt() []Panel {
	ratio := func(hits, misses, labels, by string) string {
		sum := "sum"
		if by != "" {
			sum += " by (" + by + ") "
		}
		part := func(name string) string { return sum + "(rate(" + name + labels + rate + "))" }
		return part(hits) + " / (" + part(hits) + " + " + part(misses) + ")"
	}
	return []Panel{
		{Title: "Hits of llm_response_cache", Kind: Stat, Unit: "percentunit", Bad: 0.1, BadLow: true,
			Help:    "The part of the questions whose answer was there. Each of them is a call of the model that was not paid for.",
			Queries: []Query{{ratio("kv_hits_total", "kv_misses_total", llm, ""), "hit rate"}}},
		{Title: "Time saved", Kind: Stat, Unit: "s",
			Help:    "What the model would have taken for the answers that were there, since the services were started. Of Compute only.",
			Queries: []Query{{`sum(kv_compute_saved_seconds` + of + `)`, "saved"}}},
		{Title: "Hits by namespace", Kind: Graph, Unit: "percentunit",
			Help:    "The part of the ids asked for that were present.",
			Queries: []Query{{ratio("kv_hits_total", "kv_misses_total", of, "namespace"), "{{namespace}}"}}},
		{Title: "Compute", Kind: Graph, Unit: "ops",
			Help: "Ids a second: answered by the cache, by what somebody else was computing already, and computed.",
			Queries: []Query{
				{`sum by (namespace) (rate(kv_compute_hits_total` + of + rate + `))`, "{{namespace}} hits"},
				{`sum by (namespace) (rate(kv_compute_waits_total` + of + rate + `))`, "{{namespace}} waits"},
				{`sum by (namespace) (rate(kv_compute_runs_total` + of + rate + `))`, "{{namespace}} computed"},
			}},
		{Title: "Hits of the client-side cache", Kind: Graph, Unit: "percentunit",
			Help:    "The part of the ids that needed no round trip. No data without REDIS_CLIENT_CACHE.",
			Queries: []Query{{ratio("kv_cache_hits_total", "kv_cache_misses_total", shared, "instance"), "{{instance}}"}}},
		{Title: "Memory of the client-side cache", Kind: Graph, Unit: "bytes",
			Help: "When it is full, documents make room for others: see whether the hits suffer.",
			Queries: []Query{
				{`sum by (instance) (kv_cache_bytes` + shared + `)`, "{{instance}} used"},
				{`sum by (instance) (kv_cache_max_bytes` + shared + `)`, "{{instance}} limit"},
			}},
	}
}

func grows() []Panel {
	return []Panel{
		{Title: "Documents", Kind: Graph, Unit: "short",
			Help:    "As of the last inspection; see kvprom.WithInspect.",
			Queries: []Query{{`max by (namespace) (kv_namespace_documents` + of + `)`, "{{namespace}}"}}},
		{Title: "Bytes of ids and values", Kind: Graph, Unit: "bytes",
			Help:    "As of the last inspection, from a sample.",
			Queries: []Query{{`max by (namespace) (kv_namespace_bytes` + of + `)`, "{{namespace}}"}}},
		{Title: "Memory of Redis by namespace", Kind: Graph, Unit: "bytes",
			Help:    "What MEMORY USAGE of the keys comes to, with what Redis itself needs for each.",
			Queries: []Query{{`sum by (key_group) (redis_key_group_memory_usage_bytes)`, "{{key_group}}"}}},
		{Title: "Memory of Redis", Kind: Graph, Unit: "bytes",
			Help: "At the limit it evicts documents or refuses writes, as its policy says. A limit of 0 is none.",
			Queries: []Query{
				{`redis_memory_used_bytes{job="redis"}`, "used"},
				{`redis_memory_max_bytes{job="redis"}`, "limit"},
			}},
		{Title: "Files", Kind: Graph, Unit: "bytes",
			Help: "Of the json backend. A journal that outgrows 16 MiB and its document file is compacted.",
			Queries: []Query{
				{`max by (namespace) (kv_json_snapshot_bytes` + of + `)`, "{{namespace}} documents"},
				{`max by (namespace) (kv_json_journal_bytes` + of + `)`, "{{namespace}} journal"},
			}},
		{Title: "Since the last flush", Kind: Graph, Unit: "s",
			Help:    "Of those who call Flush, and of compactions. No data before the first.",
			Queries: []Query{{`time() - max by (namespace) (kv_last_flush_timestamp_seconds` + of + `)`, "{{namespace}}"}}},
	}
}

func expires() []Panel {
	left := func(q string) string {
		return `histogram_quantile(` + q + `, sum by (le, namespace) (kv_namespace_ttl_seconds_bucket` + of + `))`
	}
	return []Panel{
		{Title: "Time left to live", Kind: Graph, Unit: "s",
			Help: "What a tenth, half and nine tenths of the documents that expire do not exceed, as of the last inspection.",
			Queries: []Query{{left("0.1"), "{{namespace}} a tenth"}, {left("0.5"), "{{namespace}} half"},
				{left("0.9"), "{{namespace}} nine tenths"}}},
		{Title: "Documents that expire", Kind: Graph, Unit: "percentunit",
			Help: "The part of the documents that have a time to live. A cache should be near 1, and full_docs at 0.",
			Queries: []Query{{`max by (namespace) (kv_namespace_expiring_documents` + of + `)` +
				` / max by (namespace) (kv_namespace_documents` + of + `)`, "{{namespace}}"}}},
		{Title: "Expired and evicted", Kind: Graph, Unit: "ops",
			Help: "Keys a second that Redis removed: because their time was up, and to make room. Evicted ones are lost before their time.",
			Queries: []Query{
				{`rate(redis_expired_keys_total{job="redis"}` + rate + `)`, "expired"},
				{`rate(redis_evicted_keys_total{job="redis"}` + rate + `)`, "evicted"},
			}},
	}
}

func isEnough() []Panel {
	return []Panel{
		{Title: "Use of the pool", Kind: Stat, Unit: "percentunit", Bad: 0.9,
			Help: "Connections in use, of those that there may be. One connection carries the calls of many goroutines.",
			Queries: []Query{{`sum by (instance) (kv_pool_connections{instance=~"$instance",state="in_use"})` +
				` / sum by (instance) (kv_pool_max_connections` + shared + `)`, "{{instance}}"}}},
		{Title: "Connections", Kind: Graph,
			Help: "To Redis. On a Cluster they are those to all servers, and the limit is for each.",
			Queries: []Query{
				{`sum by (state) (kv_pool_connections` + shared + `)`, "{{state}}"},
				{`sum(kv_pool_max_connections` + shared + `)`, "limit"},
			}},
		{Title: "Waiting for a connection", Kind: Graph, Unit: "s",
			Help:    "Seconds that requests waited, in each second. Above 0 for long: raise REDIS_MAX_CONNECTIONS.",
			Queries: []Query{{`sum by (instance) (rate(kv_pool_wait_seconds_total` + shared + rate + `))`, "{{instance}}"}}},
		{Title: "Trouble with connections", Kind: Graph, Unit: "ops",
			Help: "A second: requests without a free connection in time, requests sent again, and connections replaced.",
			Queries: []Query{
				{`sum(rate(kv_pool_timeouts_total` + shared + rate + `))`, "no connection in time"},
				{`sum(rate(kv_redis_retries_total` + shared + rate + `))`, "sent again"},
				{`sum(rate(kv_pool_stale_connections_total` + shared + rate + `))`, "replaced"},
			}},
	}
}
