package jsonstore

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
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
