package health

// A Code is one of the findings that there are.
type Code int

// The findings. Table says what each means.
const (
	Unavailable Code = iota
	CheckCutShort
	DocumentsExpire

	RedisEvictsDocuments
	RedisEvicted
	RedisEvictsEarly
	RedisMemoryFull
	RedisMemoryHigh
	RedisNotDurable
	RedisSnapshotsOnly
	RedisSaveFailed
	RedisReplica
	RedisReplicaLink
	RedisTooFewReplicas
	RedisAsync
	RedisClusterBroken
	RedisClusterUnknown
	RedisTooOld
	RedisOld
	RedisClock
	RedisClients
	RedisRejected
	RedisForeign
	RedisNotPermitted

	JSONStopped
	JSONChanged
	JSONDiskFull
	JSONDiskLow
	JSONJournal
	JSONForeign
	JSONOpenDirectory
	JSONOpenFiles
	JSONNoFsync
	JSONInUse
	JSONLeftovers
)

// About is what is the same for every finding of a code.
type About struct {
	Name      string
	Severity  Severity
	Namespace bool   // it is about one namespace
	Meaning   string // for the table in docs/health.md
	Remedy    string
}

// About returns what is known of a code.
func (c Code) About() About { return Table[c] }

// A Severity says how much a finding matters. kv documents the values.
type Severity int

const (
	info Severity = iota
	warning
	danger
)

const (
	ofAll       = false // namespaces of the server or directory
	ofNamespace = true
)

// Table is the one place that describes the findings: Check and docs/health.md
// have their words from here.
var Table = [...]About{
	Unavailable: {"unavailable", danger, ofAll,
		"The backend, or one of its servers, does not answer.",
		"See whether it runs, and whether kv config shows the right address."},
	CheckCutShort: {"check-cut-short", warning, ofAll,
		"The context was done or the store closed before everything had been looked at.",
		"Check again, with more time."},
	DocumentsExpire: {"documents-expire", warning, ofNamespace,
		"Documents that nothing makes again (full_docs, text_chunks, community_reports) have a time to live.",
		"Set STORAGE_TTL_ and the namespace's name in upper case to 0, unless your program writes them anew in time."},

	RedisEvictsDocuments: {"redis-evicts-documents", danger, ofNamespace,
		"maxmemory-policy is allkeys-*: when memory is short, the server drops documents that should live for ever, without an error anywhere.",
		"Set maxmemory-policy to noeviction, or to volatile-lru where caches share the server."},
	RedisEvicted: {"redis-evicted", warning, ofNamespace,
		"The server has evicted keys since it was started, under a policy that does not spare documents without a time to live.",
		"Look for what is missing, set maxmemory-policy to noeviction or volatile-lru, and raise maxmemory."},
	RedisEvictsEarly: {"redis-evicts-early", info, ofNamespace,
		"When memory is short, the server drops documents with a time to live before it has passed.",
		"Nothing, if what has a time to live can be made again, as cached answers can."},
	RedisMemoryFull: {"redis-memory-full", danger, ofAll,
		"95 % of maxmemory or more are in use, and nothing is evicted: writes are about to be refused.",
		"Raise maxmemory, or remove documents."},
	RedisMemoryHigh: {"redis-memory-high", warning, ofAll,
		"80 % of maxmemory or more are in use. Under volatile-* this is also said above 95 %, where evictions make room.",
		"Raise maxmemory before writes are refused."},
	RedisNotDurable: {"redis-not-durable", warning, ofNamespace,
		"The server keeps nothing on disk (appendonly no, save \"\"), and documents should live for ever.",
		"Set appendonly to yes."},
	RedisSnapshotsOnly: {"redis-snapshots-only", info, ofNamespace,
		"The server saves from time to time (appendonly no): a crash loses what was written since, and documents should live for ever.",
		"Set appendonly to yes."},
	RedisSaveFailed: {"redis-save-failed", danger, ofAll,
		"The last BGSAVE, or the last write to the append-only file, failed; the server may refuse writes.",
		"See the server's log, and make room on its disk."},
	RedisReplica: {"redis-replica", danger, ofAll,
		"The server is a replica: writes fail, or are lost with the next synchronisation.",
		"Point REDIS_URL to the master, or to the Sentinels with master_name=."},
	RedisReplicaLink: {"redis-replica-link", warning, ofAll,
		"A replica is not connected to its master, or not in sync with it.",
		"See the logs of both servers."},
	RedisTooFewReplicas: {"redis-too-few-replicas", danger, ofAll,
		"Fewer replicas than min-replicas-to-write are in sync: writes are refused.",
		"Bring the replicas back, or lower min-replicas-to-write."},
	RedisAsync: {"redis-async-replication", info, ofAll,
		"There are replicas and min-replicas-to-write is 0: a master that is cut off goes on to acknowledge writes that a failover then drops.",
		"Set min-replicas-to-write to 1; it bounds the loss and does not prevent it."},
	RedisClusterBroken: {"redis-cluster-broken", danger, ofAll,
		"The cluster is down, or slots have no owner: calls for their documents fail.",
		"See redis-cli --cluster check and fix."},
	RedisClusterUnknown: {"redis-cluster-not-named", danger, ofAll,
		"The server is one of a Cluster and REDIS_URL does not say so: calls for documents of other nodes fail.",
		"Add cluster=true to REDIS_URL."},
	RedisTooOld: {"redis-too-old", danger, ofAll,
		"The server is older than 4.0 and has no UNLINK: Delete and Drop fail.",
		"Move to a server that is maintained."},
	RedisOld: {"redis-old", warning, ofAll,
		"The server is older than 6.2, which nobody maintains or tests any more.",
		"Move to a server that is maintained."},
	RedisClock: {"redis-clock-skew", warning, ofAll,
		"The clocks of the server and of this machine differ by more than two seconds.",
		"Run NTP on both."},
	RedisClients: {"redis-clients", warning, ofAll,
		"maxclients is below REDIS_MAX_CONNECTIONS, or 90 % of it are connected.",
		"Raise maxclients, or lower REDIS_MAX_CONNECTIONS of the workers."},
	RedisRejected: {"redis-rejected-connections", warning, ofAll,
		"The server has turned connections away since it was started, because maxclients was reached.",
		"Raise maxclients, or lower REDIS_MAX_CONNECTIONS of the workers."},
	RedisForeign: {"redis-foreign-values", warning, ofNamespace,
		"Keys of the namespace hold no JSON text, or are not strings: something else writes there. A sample is looked at.",
		"Find out what writes under this prefix, and give one of the two another REDIS_KEY_PREFIX."},
	RedisNotPermitted: {"redis-not-permitted", info, ofAll,
		"The user may not use a command that a part of the check needs, or the server does not have it.",
		"Give the user +info +config|get +cluster|info, which change nothing."},

	JSONStopped: {"json-stopped", danger, ofNamespace,
		"An fsync failed, so that the store refuses writes.",
		"See to the disk, and open the namespace anew."},
	JSONChanged: {"json-changed", danger, ofNamespace,
		"Another program has changed, replaced or removed the document file, which will not be rewritten any more.",
		"Close the store, and put the file back or move the journal away."},
	JSONDiskFull: {"json-disk-full", danger, ofNamespace,
		"There is less free space than a compaction needs: 1.1 times the document file, and the journals.",
		"Make room."},
	JSONDiskLow: {"json-disk-low", warning, ofNamespace,
		"There is less free space than the journal may grow by, and a compaction needs then.",
		"Make room."},
	JSONJournal: {"json-journal-outgrown", warning, ofNamespace,
		"The journals have far outgrown the document file, or the last compaction failed.",
		"See the log for why compactions fail, or whether writes are faster than they are."},
	JSONForeign: {"json-foreign-values", warning, ofNamespace,
		"Values in the document file are not JSON, such as NaN.",
		"Store or delete these documents; Get names them by ErrCorrupt."},
	JSONOpenDirectory: {"json-open-directory", warning, ofAll,
		"Other users of the machine can look into the directory.",
		"Make it 0700."},
	JSONOpenFiles: {"json-open-files", warning, ofNamespace,
		"Other users of the machine can read or write files of the namespace.",
		"Make them 0600."},
	JSONNoFsync: {"json-no-fsync", info, ofNamespace,
		"STORAGE_JSON_FSYNC is no, and documents should live for ever: a machine that dies loses what its kernel had not written.",
		"Set STORAGE_JSON_FSYNC to everysec or always, unless it can be made again."},
	JSONInUse: {"json-in-use", info, ofNamespace,
		"Another process has the namespace open (seen by a store that is open for reading only, on Linux).",
		"Nothing; end it first if you want to write."},
	JSONLeftovers: {"json-leftovers", info, ofNamespace,
		"There are files that a crash or kv repair has left: ends of journals, copies.",
		"Look at them, and remove them when you miss nothing."},
}
