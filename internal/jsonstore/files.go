package jsonstore

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/ngraf/kv/internal/fsys"
	"github.com/ngraf/kv/internal/wal"
)

// The files of one namespace, all in the working directory:
//
//	kv_store_<ns>.json           the document file, or snapshot
//	kv_store_<ns>.journal.<n>    what was written since, in order of n
//	kv_store_<ns>.ttl            times to live of documents in the snapshot
//	kv_store_<ns>.lock           never removed; who has it has the namespace
//	kv_store_<ns>.<...>.tmp      being written, not valid yet
//	kv_store_<ns>.json.previous-<time>  the document file that a Mirror replaced; .ttl likewise
//	kv_store_<ns>.journal.<n>.torn  what was cut off after a crash
//
// Only the document file ends in .json, and no name of ours can be that of
// another namespace's.
type fileNames string

func (n fileNames) document() string { return "kv_store_" + string(n) + ".json" }
func (n fileNames) lock() string     { return "kv_store_" + string(n) + ".lock" }
func (n fileNames) ttl() string      { return "kv_store_" + string(n) + ".ttl" }
func (n fileNames) temp(name string) string {
	return name + ".tmp"
}

// replacement is what a journal that replaces documents is called, with the
// ending of a temporary file, until it takes effect.
func (n fileNames) replacement() string { return "kv_store_" + string(n) + ".journal" }
func (n fileNames) journal(generation uint64) string {
	return "kv_store_" + string(n) + ".journal." + strconv.FormatUint(generation, 10)
}

// journals returns the generations among names, in order.
func (n fileNames) journals(names []string) []uint64 {
	var generations []uint64
	for _, name := range names {
		number, ok := strings.CutPrefix(name, "kv_store_"+string(n)+".journal.")
		if !ok {
			continue
		}
		if g, err := strconv.ParseUint(number, 10, 64); err == nil && n.journal(g) == name {
			generations = append(generations, g)
		}
	}
	slices.Sort(generations)
	return generations
}

// An identity tells one content of the document file from another.
type identity struct {
	exists bool
	size   int64
	sum    uint32 // CRC-32C
}

func (i identity) String() string {
	if !i.exists {
		return "no file"
	}
	return fmt.Sprintf("%d bytes with checksum %08x", i.size, i.sum)
}

// syncMark is what no document file is. An announcement of it says only that
// all before it in the journal, and the journals before that, were on the disk.
// Versions that do not know it take it for a snapshot that never came.
var syncMark = identity{exists: true, size: -1}

const identitySize = 1 + 8 + 4

func (i identity) append(b []byte) []byte {
	flag := byte(0)
	if i.exists {
		flag = 1
	}
	b = append(b, flag)
	b = binary.LittleEndian.AppendUint64(b, uint64(i.size))
	return binary.LittleEndian.AppendUint32(b, i.sum)
}

// readIdentity reads what append wrote; b is long enough.
func readIdentity(b []byte) identity {
	return identity{b[0] == 1, int64(binary.LittleEndian.Uint64(b[1:])), binary.LittleEndian.Uint32(b[9:])}
}

// A journalHeader is the first record of a journal. A journal that was begun
// on an idle namespace continues the snapshot named here. One that was begun
// by a compaction continues the journal before it, until an opCommit in it
// says which snapshot holds all that came before.
type journalHeader struct {
	salt      uint64
	continues identity
	compacts  bool // begun by a compaction; continues means nothing
}

const journalHeaderSize = 4 + 8 + 1 + identitySize

const (
	journalKind = "jrnl"
	ttlKind     = "ttls"
)

func newSalt() uint64 { return rand.Uint64() | 1 }

func (h journalHeader) encode(kind string) []byte {
	b := append([]byte(nil), kind...)
	b = binary.LittleEndian.AppendUint64(b, h.salt)
	flag := byte(0)
	if h.compacts {
		flag = 1
	}
	return h.continues.append(append(b, flag))
}

func readJournalHeader(b []byte) journalHeader {
	return journalHeader{
		salt:      binary.LittleEndian.Uint64(b[4:]),
		compacts:  b[12] == 1,
		continues: readIdentity(b[13:]),
	}
}

// saltOf is for wal.NewReader.
func saltOf(kind string) func([]byte) (uint64, bool) {
	return func(header []byte) (uint64, bool) {
		if len(header) != journalHeaderSize || string(header[:4]) != kind {
			return 0, false
		}
		salt := binary.LittleEndian.Uint64(header[4:])
		return salt, salt != 0
	}
}

// The records of a journal. Each is absolute: to apply one twice, or onto a
// snapshot that has it already, changes nothing.
const (
	opUpsert = 'U' // expiry, id, value
	opDelete = 'D' // id
	opDrop   = 'X'
	opCommit = 'C' // identity of the snapshot about to replace the document file
)

// appendUpsert appends the payload but for the value, which follows.
func appendUpsert(b []byte, id string, expires int64) []byte {
	b = append(b, opUpsert)
	b = binary.LittleEndian.AppendUint64(b, uint64(expires))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(id)))
	return append(b, id...)
}

func appendDelete(b []byte, id string) []byte {
	return append(append(b, opDelete), id...)
}

// An entry is a record of a journal, decoded.
type entry struct {
	op      byte
	id      []byte
	value   []byte
	valueAt int64 // offset of value in the file
	expires int64 // in Unix milliseconds, 0 for never
	commit  identity
}

func decodeEntry(r wal.Record) (entry, bool) {
	b := r.Payload
	e := entry{op: b[0]}
	switch e.op {
	case opUpsert:
		const fixed = 1 + 8 + 4
		if len(b) < fixed {
			return e, false
		}
		e.expires = int64(binary.LittleEndian.Uint64(b[1:]))
		n := int64(binary.LittleEndian.Uint32(b[9:]))
		if n > int64(len(b)-fixed) {
			return e, false
		}
		e.id, e.value = b[fixed:fixed+n], b[fixed+n:]
		e.valueAt = r.Offset + fixed + n
	case opDelete:
		e.id = b[1:]
	case opDrop:
	case opCommit:
		if len(b) != 1+identitySize {
			return e, false
		}
		e.commit = readIdentity(b[1:])
	default:
		return e, false
	}
	return e, true
}

// readJournal returns a reader of a journal.
func readJournal(file fsys.File, size int64) *wal.Reader {
	r := wal.NewReader(file, size, journalHeaderSize, saltOf(journalKind))
	r.Plausible = plausibleEntry
	return r
}

// plausibleEntry reports whether a record of n bytes may begin like this. Ids
// are far shorter than what text comes to that is taken for their length.
func plausibleEntry(b []byte, n int64) bool {
	const fixed, longest = 1 + 8 + 4, 16 << 20
	switch b[0] {
	case opUpsert:
		id := int64(longest)
		if len(b) >= fixed {
			id = int64(binary.LittleEndian.Uint32(b[9:]))
		}
		return id < longest && id <= n-fixed
	case opDelete:
		return n <= longest
	case opDrop:
		return n == 1
	case opCommit:
		return n == 1+identitySize
	}
	return false
}

// change is what the record does to the index.
func (en entry) change(s *segment) change {
	at := place{s, en.valueAt, uint32(len(en.value)), wal.Sum(en.value)}
	return change{en.op, doc{id: string(en.id), expires: en.expires, place: at, lasting: en.expires == 0}}
}
