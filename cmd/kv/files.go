package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/ngraf/kv"
)

// documentFile and journalFile are the names under which the json backend
// keeps a namespace.
var (
	documentFile = regexp.MustCompile(`^kv_store_([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})\.json$`)
	journalFile  = regexp.MustCompile(`^kv_store_([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})\.journal\.[0-9]+$`)
)

// A files is what a directory has of one namespace.
type files struct {
	namespace      string
	file, journals int64 // bytes
}

// found lists the namespaces that there are files of, by name.
func found(dir string) ([]files, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*files)
	for _, entry := range entries {
		match, journal := documentFile.FindStringSubmatch(entry.Name()), false
		if match == nil {
			match, journal = journalFile.FindStringSubmatch(entry.Name()), true
		}
		if match == nil || !entry.Type().IsRegular() {
			continue
		}
		f := byName[match[1]]
		if f == nil {
			f = &files{namespace: match[1]}
			byName[match[1]] = f
		}
		info, err := entry.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist): // Replaced meanwhile.
		case err != nil:
			return nil, err
		case journal:
			f.journals += info.Size()
		default:
			f.file += info.Size()
		}
	}
	var list []files
	for _, f := range byName {
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b files) int { return strings.Compare(a.namespace, b.namespace) })
	return list, nil
}

// namespaces is found for the commands that may go without a namespace.
func (a *app) namespaces(cfg kv.Config, command string) ([]files, error) {
	if !isJSON(cfg) {
		return nil, failf(exitInvalid, "on %s the namespaces cannot be listed; name one, as in kv %s full_docs",
			inEffect(cfg, "STORAGE_KV_BACKEND"), command)
	}
	list, err := found(workingDir(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noDirectory(cfg)
	}
	if err == nil && len(list) == 0 {
		a.note("there are no kv_store_*.json files in %s", workingDir(cfg))
	}
	return list, err
}

// exists reports whether a namespace has files, or could have documents on
// another backend. If not, it says so: a misspelt name looks like an empty
// namespace. A directory that cannot be read is left to the library to judge.
func (a *app) exists(cfg kv.Config, namespace string) bool {
	if !isJSON(cfg) {
		return true
	}
	list, err := found(workingDir(cfg))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	var names []string
	for _, f := range list {
		if f.namespace == namespace {
			return true
		}
		names = append(names, f.namespace)
	}
	there := "there are none"
	if len(names) > 0 {
		there = "there are " + strings.Join(names, ", ")
	}
	a.note("there is no namespace %q in %s; %s", namespace, workingDir(cfg), there)
	return false
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
