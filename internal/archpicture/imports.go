package main

import (
	"cmp"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// An edge says that one package imports another.
type edge struct{ from, to string }

const (
	module  = "github.com/ngraf/kv"
	goredis = "github.com/redis/go-redis/v9"
)

// nameOf is what a package is called in the picture: the last part of its
// path, or the module it belongs to.
func nameOf(importPath string) (name string, ours bool) {
	inside, ok := strings.CutPrefix(importPath, module)
	inside = strings.TrimPrefix(inside, "/")
	switch {
	case importPath == goredis:
		return "go-redis", true
	case !ok:
		return "", false
	case inside == "":
		return "kv", true
	case strings.HasPrefix(inside, "internal/"):
		inside = strings.TrimPrefix(inside, "internal/")
	case inside == "cmd/kv":
		return inside, true
	}
	name, _, _ = strings.Cut(inside, "/")
	return name, true
}

// imports reads which of our packages import which, on whatever system, but
// not for their tests.
func imports(root string) ([]edge, error) {
	found := make(map[edge]bool)
	tree := os.DirFS(root)
	err := fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(tree, file)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from, _ := nameOf(path.Join(module, path.Dir(file)))
		for _, i := range parsed.Imports {
			importPath, _ := strconv.Unquote(i.Path.Value) // The parser has done so.
			if to, ours := nameOf(importPath); ours && to != from {
				found[edge{from, to}] = true
			}
		}
		return nil
	})
	edges := slices.SortedFunc(maps.Keys(found), func(a, b edge) int {
		return cmp.Or(strings.Compare(a.from, b.from), strings.Compare(a.to, b.to))
	})
	return edges, err
}

// drawn returns the edges between boxes. It refuses one that does not go
// down, a package that has no place, and a route along what is no import.
func drawn(edges []edge) ([]edge, error) {
	var list []edge
	for _, e := range edges {
		if slices.Contains(aside, e.from) || slices.Contains(aside, e.to) {
			continue
		}
		from, to := boxOf(e.from), boxOf(e.to)
		if from == nil || to == nil {
			return nil, fmt.Errorf("%s imports %s, and one of them has no place in boxes", e.from, e.to)
		}
		if from.rung >= to.rung {
			return nil, fmt.Errorf("%s imports %s, which does not stand below it", e.from, e.to)
		}
		list = append(list, e)
	}
	for _, r := range routes {
		for _, e := range r.steps {
			if !slices.Contains(list, e) {
				return nil, fmt.Errorf("the way of %s goes from %s to %s, and that is no import", r.name, e.from, e.to)
			}
		}
	}
	return list, nil
}

func boxOf(name string) *box {
	at := slices.IndexFunc(boxes, func(b box) bool { return b.name == name })
	if at < 0 {
		return nil
	}
	return &boxes[at]
}

// reduced leaves out what follows from others: who imports two packages, of
// which one leads to the other, has an arrow to the upper one.
func reduced(edges []edge) []edge {
	below := make(map[string][]string)
	for _, e := range edges {
		below[e.from] = append(below[e.from], e.to)
	}
	var leads func(from, to string) bool
	leads = func(from, to string) bool {
		return slices.ContainsFunc(below[from], func(next string) bool { return next == to || leads(next, to) })
	}
	var kept []edge
	for _, e := range edges {
		if !slices.ContainsFunc(below[e.from], func(via string) bool { return leads(via, e.to) }) {
			kept = append(kept, e)
		}
	}
	return kept
}
