package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// description is what kv --help says before it lists flags and commands.
const description = `Looks at and changes JSON documents, kept by id in namespaces: in JSON files or in Redis.

Without any configuration it works on the files in ./nano_graphrag_cache. Try:

    kv demo                               see what it does; needs nothing
    kv ls                                 which namespaces there are
    kv ls full_docs                       the ids in one of them
    kv get full_docs doc-1                one document, as JSON
    kv put full_docs doc-1 '{"content":"hello"}'
    kv config                             which settings are in effect

The environment says where the documents are:

    STORAGE_KV_BACKEND    json (default) or redis
    STORAGE_WORKING_DIR   directory of the files, default ./nano_graphrag_cache
    REDIS_URL             default redis://localhost:6379
    REDIS_PASSWORD        where REDIS_URL has none; or REDIS_PASSWORD_FILE
    REDIS_KEY_PREFIX      first part of every key, default nano_graphrag

None of the commands brings files to Redis unasked, as a service does that opens a namespace
there. kv config lists the other variables. demo, ls, get, count, stats, top, inspect, doctor, verify, export,
ping and config take no lock and change nothing of yours; put, rm, drop, repair, import and migrate
--to json on files need them to be closed elsewhere.

Exit codes:

    0    done
    1    not found, nothing removed or stored, something left out or undecided,
         not confirmed, or danger or differences found
    2    wrong usage, input or configuration
    3    the backend is unavailable, locked or slow, or another failure
    4    corrupt data
    130  interrupted`

func (demoCmd) Help() string {
	return `Stores some documents, chunks, a community report and a cached LLM answer, reads them back, and shows the files.

    kv demo                 in a temporary directory, removed at the end
    kv demo ./try           in a new or empty directory, which stays
    STORAGE_KV_BACKEND=redis REDIS_URL=redis://localhost:6379 kv demo

On Redis its keys begin with kv_demo_ and a random number, whatever REDIS_KEY_PREFIX says, and are removed at the end. STORAGE_WORKING_DIR is not touched.`
}

func (lsCmd) Help() string {
	return `Prints one id a line. An id that would not be safe as a line is printed as a JSON string: one that is empty, begins with a double quote, or holds control characters or line separators. With --json all are.

    kv ls                                     the namespaces
    kv ls full_docs | head
    kv ls text_chunks | wc -l
    kv ls full_docs -0 | xargs -0 kv get full_docs -- | jq .content`
}

func (getCmd) Help() string {
	return `Prints each document as JSON on a line of its own, in the order of the ids. What the JSON says is printed as it was stored, digits and escapes included; only the white space between tokens is dropped, or laid out with --indent. Ids that are absent are reported on stderr, and make the exit code 1.

    kv get full_docs doc-1
    kv get full_docs doc-1 --indent
    kv get full_docs doc-1 | jq -r .content
    kv get text_chunks c1 c2 c3 --field tokens --field full_doc_id
    kv get text_chunks c1 c2 --with-id        {"id":"c1","value":...}
    kv get scores -- -5                       -- stands before ids with a hyphen`
}

func (putCmd) Help() string {
	return `Stores a document in place of what is there. The value is JSON, given as an argument, as @file, or on stdin.

    kv put full_docs doc-1 '{"content":"hello"}'
    kv put full_docs doc-1 @doc.json
    jq -n '{content: "hello"}' | kv put full_docs doc-1
    kv put llm_response_cache k1 '{"return":"42","model":"m"}' --ttl 1h
    kv put scores x -- -5                     -- stands before a negative number

The time to live is the namespace's (REDIS_TTL_<NAMESPACE>; 12 h for llm_response_cache, 24 h for community_reports, for ever otherwise) unless --ttl says otherwise.`
}

func (rmCmd) Help() string {
	return `Prints how many of the documents were there and are gone now. The exit code is 1 if none was.

    kv rm full_docs doc-1 doc-2
    kv ls llm_response_cache -0 | xargs -0 kv rm llm_response_cache --`
}

func (countCmd) Help() string {
	return `Prints the number of documents.

    kv count full_docs`
}

func (statsCmd) Help() string {
	return `Shows for each namespace how many documents it has, how many bytes their ids and values have, how many of them expire, and how large its document file and its journal (the writes since) are. Of a namespace with more than 1000 documents a sample of these is read, and ~ marks what it says of the whole. Without NAMESPACE it shows all. On Redis there are no files.

Hits and misses are a service's figures, and the server's: see kv top.

    kv stats
    kv stats full_docs --json | jq .documents`
}

func (topCmd) Help() string {
	return `Shows again and again what the server and the namespaces do. On a terminal each look takes the place of the last, until Ctrl-C; elsewhere they follow each other.

    kv top
    kv top full_docs llm_response_cache --every 1s
    kv top --metrics http://localhost:9464/metrics
    kv top -n 2 | tail -20

Of Redis it shows what INFO says: calls, hits of all keys, memory, expired and evicted keys, clients. Of each namespace it shows what a glance at a sample says, as kv stats does. What a service hits and misses, how long its calls take and how full its pool is, only the service knows: --metrics reads that where it serves metrics for Prometheus (see docs/monitoring.md). Rates and quantiles are those since the last look, and the first look's those since the start.`
}

func (inspectCmd) Help() string {
	return `Reads the documents of a namespace and shows how large they are, how long those that expire have left to live, and which are the biggest. It changes nothing. Ids are shown as the first 16 digits of their SHA-256 unless --show-ids. A --sample lists all ids and reads so many documents, spread over the list.

    kv inspect llm_response_cache
    kv inspect text_chunks --sample 1000 --show-ids
    kv inspect full_docs --json | jq .biggest`
}

func (doctorCmd) Help() string {
	return `Looks at the health of the server or the files, and says what it found: what it is, and what to do. It changes nothing, and works while a service has the namespaces open. docs/health.md lists all findings.

    kv doctor
    kv doctor full_docs text_chunks
    kv doctor --json | jq -r 'select(.severity == "danger") | .code'

The exit code is 1 if there is danger, and 0 if there are only warnings and infos.`
}

func (dropCmd) Help() string {
	return `Removes all documents of one namespace and nothing else. On a terminal it asks first; elsewhere it needs --yes. There is no way back, so "kv export" first what matters.

    kv drop llm_response_cache
    kv drop llm_response_cache --yes

On Redis the files of the namespace stay, and it says what a service will make of them.`
}

func (repairCmd) Help() string {
	return `For files that do not open because they are damaged (exit code 4). Every file is first copied, byte for byte, to NAME.damaged-TIME beside it. Then the document file is written anew with all that is sound, and what was lost is listed. A document whose last write was lost may come back as it was before. A namespace that opens as it is, is left as it is.

    kv repair text_chunks
    kv repair text_chunks --json`
}

func (migrateCmd) Help() string {
	return `Copies documents between the files in STORAGE_WORKING_DIR and the Redis of REDIS_URL, with the times that they have left to live, and then compares both sides. It reads its source, and changes nothing in it, even while a service uses it; what is written there meanwhile may be missed, so stop the writers, or run it again.

    kv migrate --status                 who is ahead by how much
    kv migrate --to redis               before STORAGE_KV_BACKEND=redis
    kv migrate --to json                before going back to files
    kv migrate --to json --dry-run
    kv migrate --to redis text_chunks --conflicts=files

Both sides remember what they last had in common, so that nothing is undone that the destination has written since, and nothing comes back that was removed. A document that both sides have changed stays as it is on both, and makes the exit code 1, until --conflicts says whose is right. docs/migration.md has the whole table.

To Redis, documents without a time to live get that of their namespace. To files, all of a namespace changes in one step, and its document file of before is kept as kv_store_NAMESPACE.json.previous-TIME; no service may have the files open. After Ctrl-C or a failure the same command goes on. --timeout is for opening, not for copying.

--status reads both sides and changes nothing. Its exit code is 0 if neither is ahead, and 1 if one is or they conflict.

Other ways, one Redis to another for instance, lead over kv export and kv import.`
}

func (verifyCmd) Help() string {
	return `Compares the files in STORAGE_WORKING_DIR with the Redis of REDIS_URL, document by document, and lists what differs. The exit code is 1 if anything does. White space and the escapes of strings do not count, nor does a time to live that Redis gave to a document that has none in the files.

    kv verify
    kv verify full_docs --json | jq .differences`
}

func (exportCmd) Help() string {
	return `Writes one file with all documents and the moments at which they expire, with checksums: of each line, so that damage can be found, and of the whole. It gets its name when it is whole, and only its owner may read it.

    kv export backup.ndjson
    kv export backup.ndjson.zst full_docs text_chunks
    kv export - | ssh host 'cat > backup.ndjson'

Documents that are not JSON are left out and listed; the exit code is then 1.`
}

func (importCmd) Help() string {
	return `Stores documents. What is read is checked as a whole before anything is written; a wrong checksum is refused, and so is anything behind the end of an export. A document over STORAGE_MAX_VALUE_BYTES is listed and left out, and the exit code is then 1; the rest is stored.

    kv import backup.ndjson.zst
    kv import backup.ndjson full_docs --mode replace
    kv import snapshot_2026-01-31T12-00-00Z.ngbak --dry-run
    kv import full_docs.json

Of nano-graphrag it reads a backup (.ngbak), the directory of an unpacked one, and a single kv/NAMESPACE.json of it. Backups of its JSON backend have lost the ids; those of full_docs, text_chunks and community_reports are computed again. What has none is listed by its place, and the exit code is 1.

After Ctrl-C or a failure the same command completes it. --timeout is for reaching the server, not for copying.`
}

func (pingCmd) Help() string {
	return `Connects and logs in to Redis, or looks into the directory of the files, and says how long it took.

    kv ping && echo well
    kv --backend redis --timeout 2s ping`
}

func (configCmd) Help() string {
	return `Lists every variable with the value in effect and its source: default, environment, a flag of kv, or REDIS_URL for what stands in the URL. Passwords are masked. Warnings and problems go to stderr; problems make the exit code 2.

    kv config
    kv config --json | jq -r '.settings[] | select(.source != "default") | .variable'`
}

// versionFlag is a bool that shows the version.
type versionFlag bool

func (versionFlag) IgnoreDefault() {}

// BeforeReset is called by kong when the flag is set, before the rest of the
// command line is judged.
func (versionFlag) BeforeReset(k *kong.Kong) error {
	_, err := fmt.Fprintln(k.Stdout, version())
	k.Exit(exitOK)
	return err
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "kv (unknown version) " + runtime.Version()
	}
	text := "kv " + cmp.Or(info.Main.Version, "(devel)")
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			text += " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return text + " " + info.GoVersion
}
