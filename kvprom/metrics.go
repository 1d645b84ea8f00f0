package kvprom

import "github.com/prometheus/client_golang/prometheus"

// A metricID is one of the metrics that there are.
type metricID int

const (
	operations metricID = iota
	operationDuration
	batchSize
	hits
	misses
	documentsStored
	documentsDeleted
	readBytes
	writtenBytes
	isUp
	lastFlush
	lastFlushFailed

	computeHits
	computeMisses
	computeWaits
	computeRuns
	computeLeaseLosses
	computeSaved

	jsonDocuments
	jsonSnapshotBytes
	jsonJournalBytes
	jsonCompactions

	poolConnections
	poolMaxConnections
	poolWaits
	poolWaitSeconds
	poolTimeouts
	poolStale
	redisRetries
	redisCircuit

	cacheHits
	cacheMisses
	cacheDocuments
	cacheBytes
	cacheMaxBytes
	cacheEvictions
	cacheInvalidations

	namespaceDocuments
	namespaceBytes
	namespaceExpiring
	namespaceTTL
	namespaceBiggest
	namespaceCorrupt
	namespaceInspected

	metricCount
)

type scope int

const (
	ofNamespace scope = iota // labels backend and namespace come first
	ofFactory                // stores share it
)

// A kind is a type of a metric, by its name.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

func (k kind) value() prometheus.ValueType {
	if k == counter {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

var (
	byOp       = []string{"op"}
	byOpResult = []string{"op", "result"}
	byState    = []string{"state"}
)

// metrics is the one place that describes them: the collector and
// docs/monitoring.md have their words from here.
var metrics = [metricCount]struct {
	name   string
	kind   kind
	scope  scope
	labels []string
	help   string
}{
	operations:        {"kv_operations_total", counter, ofNamespace, byOpResult, "Calls that have ended, by method and by how they ended."},
	operationDuration: {"kv_operation_duration_seconds", histogram, ofNamespace, byOp, "How long calls took, failed ones included."},
	batchSize:         {"kv_batch_size", histogram, ofNamespace, byOp, "Ids or documents of one call, of the methods that take many."},
	hits:              {"kv_hits_total", counter, ofNamespace, nil, "Ids of get and getmany that were present."},
	misses:            {"kv_misses_total", counter, ofNamespace, nil, "Ids of get and getmany that were absent; those of failed calls are not in it."},
	documentsStored:   {"kv_documents_stored_total", counter, ofNamespace, nil, "Documents stored by upsert, upsertttl and insert."},
	documentsDeleted:  {"kv_documents_deleted_total", counter, ofNamespace, nil, "Documents removed by delete."},
	readBytes:         {"kv_read_bytes_total", counter, ofNamespace, nil, "Bytes of the values that get and getmany returned."},
	writtenBytes:      {"kv_written_bytes_total", counter, ofNamespace, nil, "Bytes of the values that were stored."},
	isUp:              {"kv_up", gauge, ofNamespace, nil, "1 if the store can serve, as kv.Healthy has it, else 0."},
	lastFlush:         {"kv_last_flush_timestamp_seconds", gauge, ofNamespace, nil, "When the last Flush or compaction ended, since 1970; absent while there was none."},
	lastFlushFailed:   {"kv_last_flush_failed", gauge, ofNamespace, nil, "1 if the last Flush or compaction failed, else 0."},

	computeHits:        {"kv_compute_hits_total", counter, ofNamespace, nil, "Ids of Compute and ComputeMany that were present."},
	computeMisses:      {"kv_compute_misses_total", counter, ofNamespace, nil, "Ids of Compute and ComputeMany that were absent."},
	computeWaits:       {"kv_compute_waits_total", counter, ofNamespace, nil, "Of these, those that another goroutine or process computed."},
	computeRuns:        {"kv_compute_runs_total", counter, ofNamespace, nil, "Ids that this process computed."},
	computeLeaseLosses: {"kv_compute_lease_losses_total", counter, ofNamespace, nil, "Leases that ended before their answer was stored."},
	computeSaved:       {"kv_compute_saved_seconds", gauge, ofNamespace, nil, "What computing the hits and the waits would have taken, by the mean of what was computed."},

	jsonDocuments:     {"kv_json_documents", gauge, ofNamespace, nil, "Documents in the namespace's files, those that expired just now included."},
	jsonSnapshotBytes: {"kv_json_snapshot_bytes", gauge, ofNamespace, nil, "Size of the document file."},
	jsonJournalBytes:  {"kv_json_journal_bytes", gauge, ofNamespace, nil, "Size of the journals."},
	jsonCompactions:   {"kv_json_compactions_total", counter, ofNamespace, nil, "Compactions of the journals into a new document file."},

	poolConnections:    {"kv_pool_connections", gauge, ofFactory, byState, "Connections to Redis, in_use or idle."},
	poolMaxConnections: {"kv_pool_max_connections", gauge, ofFactory, nil, "Most connections to each server that the pool opens."},
	poolWaits:          {"kv_pool_waits_total", counter, ofFactory, nil, "Requests that had to wait for a connection."},
	poolWaitSeconds:    {"kv_pool_wait_seconds_total", counter, ofFactory, nil, "How long they waited, all together."},
	poolTimeouts:       {"kv_pool_timeouts_total", counter, ofFactory, nil, "Requests that found no free connection in time."},
	poolStale:          {"kv_pool_stale_connections_total", counter, ofFactory, nil, "Connections closed because they were old, idle for too long or broken."},
	redisRetries:       {"kv_redis_retries_total", counter, ofFactory, nil, "Requests sent again after a failure."},
	redisCircuit:       {"kv_redis_circuit_open", gauge, ofFactory, nil, "1 while calls fail at once because the server did not answer, else 0; absent without a circuit."},

	cacheHits:          {"kv_cache_hits_total", counter, ofFactory, nil, "Ids of get and getmany that the client-side cache answered; kv_cache_* are absent without one."},
	cacheMisses:        {"kv_cache_misses_total", counter, ofFactory, nil, "Ids that the server had to be asked for."},
	cacheDocuments:     {"kv_cache_documents", gauge, ofFactory, nil, "Documents in the client-side cache."},
	cacheBytes:         {"kv_cache_bytes", gauge, ofFactory, nil, "Memory that they take."},
	cacheMaxBytes:      {"kv_cache_max_bytes", gauge, ofFactory, nil, "Most memory that they may take."},
	cacheEvictions:     {"kv_cache_evictions_total", counter, ofFactory, nil, "Documents that had to make room."},
	cacheInvalidations: {"kv_cache_invalidations_total", counter, ofFactory, nil, "Documents dropped because the server told of a change."},

	namespaceDocuments: {"kv_namespace_documents", gauge, ofNamespace, nil, "Documents of the namespace; kv_namespace_* are as of the last inspection, and absent without WithInspect."},
	namespaceBytes:     {"kv_namespace_bytes", gauge, ofNamespace, nil, "Bytes of their ids and values; from a sample, what it says of the whole."},
	namespaceExpiring:  {"kv_namespace_expiring_documents", gauge, ofNamespace, nil, "Those of them that have a time to live; from a sample, likewise."},
	namespaceTTL:       {"kv_namespace_ttl_seconds", histogram, ofNamespace, nil, "How long those that were looked at have left to live. It is of the moment: ask for quantiles without rate."},
	namespaceBiggest:   {"kv_namespace_biggest_value_bytes", gauge, ofNamespace, nil, "Size of the biggest that was looked at, its id included."},
	namespaceCorrupt:   {"kv_namespace_corrupt_documents", gauge, ofNamespace, nil, "Those that were looked at and whose value is not JSON."},
	namespaceInspected: {"kv_namespace_inspected_timestamp_seconds", gauge, ofNamespace, nil, "When the last inspection ended, since 1970."},
}
