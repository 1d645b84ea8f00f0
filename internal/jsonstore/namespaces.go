package jsonstore

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/ngraf/kv/internal/engine"
)

// Namespaces lists, sorted, the namespaces that have a document file or a
// journal in a directory. One that is missing has none.
func Namespaces(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := make(map[string]struct{})
	for _, entry := range entries {
		if namespace, ok := namespaceOfFile(entry.Name()); ok && entry.Type().IsRegular() {
			found[namespace] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// namespaceOfFile reads the name of a document file or a journal.
func namespaceOfFile(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "kv_store_")
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
