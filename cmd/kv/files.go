package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ngraf/kv"
)

// sizes are the bytes of a namespace's document file and of its journals.
func sizes(dir, namespace string) (file, journals int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	document := "kv_store_" + namespace + ".json"
	for _, entry := range entries {
		number, journal := strings.CutPrefix(entry.Name(), "kv_store_"+namespace+".journal.")
		if _, bad := strconv.ParseUint(number, 10, 64); bad != nil {
			journal = false
		}
		if !journal && entry.Name() != document {
			continue
		}
		info, err := entry.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist): // Replaced meanwhile.
		case err != nil:
			return 0, 0, err
		case journal:
			journals += info.Size()
		default:
			file = info.Size()
		}
	}
	return file, journals, nil
}

// list lists the namespaces that a backend has.
func (a *app) list(ctx context.Context, cfg kv.Config) (names []string, err error) {
	factory, err := kv.NewFactory(cfg, kv.WithReadOnly(), kv.WithLogger(a.logger()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, factory.Close()) }()
	return factory.Namespaces(ctx)
}

// namespaces is list for the commands that may go without a namespace.
func (a *app) namespaces(ctx context.Context, cfg kv.Config) (names []string, err error) {
	if isJSON(cfg) {
		if _, err := os.Stat(workingDir(cfg)); errors.Is(err, fs.ErrNotExist) {
			return nil, noDirectory(cfg)
		}
	}
	err = a.within(ctx, func(ctx context.Context) error {
		names, err = a.list(ctx, cfg)
		return err
	})
	if err == nil && len(names) == 0 {
		a.note("there are no %s", place(cfg))
	}
	return names, err
}

// place says where the namespaces of a backend are.
func place(cfg kv.Config) string {
	if isJSON(cfg) {
		return "kv_store_*.json files in " + workingDir(cfg)
	}
	return "keys under " + inEffect(cfg, "REDIS_KEY_PREFIX") + ": on " + inEffect(cfg, "REDIS_URL")
}

// exists reports whether a namespace has files, or could have documents on
// another backend. If not, it says so: a misspelt name looks like an empty
// namespace. A directory that cannot be read is left to the library to judge.
func (a *app) exists(cfg kv.Config, namespace string) bool {
	if !isJSON(cfg) {
		return true
	}
	names, err := a.list(context.Background(), cfg)
	if err != nil || slices.Contains(names, namespace) {
		return true
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
