package jsonstore

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ngraf/kv/internal/engine"
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
//	kv_store_<ns>.<...>.damaged-<time>  a copy of what Repair found
//
// Only the document file ends in .json, and no name of ours can be that of
// another namespace's.
type fileNames string

const (
	filePrefix   = "kv_store_"
	tornMark     = ".torn"
	previousMark = ".previous-"
	damagedMark  = ".damaged-"
	// markTime follows a mark that ends in a dash.
	markTime = "20060102T150405.000"
)

func (n fileNames) document() string { return filePrefix + string(n) + ".json" }
func (n fileNames) lock() string     { return filePrefix + string(n) + ".lock" }
func (n fileNames) ttl() string      { return filePrefix + string(n) + ".ttl" }
func (n fileNames) journal(generation uint64) string {
	return n.replacement() + "." + strconv.FormatUint(generation, 10)
}

// replacement is what a journal that replaces documents is called, with the
// ending of a temporary file, until it takes effect.
func (n fileNames) replacement() string { return filePrefix + string(n) + ".journal" }

func tempName(name string) string { return name + ".tmp" }

// journals returns the generations among names, in order.
func (n fileNames) journals(names []string) []uint64 {
	var generations []uint64
	for _, name := range names {
		number, ok := strings.CutPrefix(name, n.replacement()+".")
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

// owned matches the names of this namespace's files that stay when a store is
// closed or has crashed. The second group is what a crash or Repair has left.
func (n fileNames) owned() *regexp.Regexp {
	return regexp.MustCompile(`^` + filePrefix + regexp.QuoteMeta(string(n)) + `\.(json|ttl|lock|journal\.[0-9]+)(\.torn|\.damaged-.*)?$`)
}

// namespaceOfFile reads the name of a document file or a journal.
func namespaceOfFile(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, filePrefix)
	if !ok {
		return "", false
	}
	if namespace, ok := strings.CutSuffix(rest, ".json"); ok {
		return namespace, engine.CheckNamespace(namespace) == nil
	}
	at := strings.LastIndex(rest, ".journal.")
	if at < 0 || engine.CheckNamespace(rest[:at]) != nil {
		return "", false
	}
	return rest[:at], len(fileNames(rest[:at]).journals([]string{name})) == 1
}
