package kv_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The house, from its roof down. A package imports only what stands below its
// own floor, and so no engine knows kv or the other.
var floors = [][]string{
	{"kv/cmd/kv"},
	{"kv/kvembed", "kv/kvllm", "kv/kvmove", "kv/kvtest", "kv/internal/leaktest"},
	{"kv"},
	{"kv/internal/move", "kv/internal/firstuse", "kv/internal/once"},
	{"kv/internal/jsonstore", "kv/internal/redisstore"},
	{"kv/internal/lease", "kv/internal/digest", "kv/internal/enginetest"},
	{"kv/internal/engine", "kv/internal/strangers"},
	{"kv/internal/health"},
	{"kv/internal/fault", "kv/internal/quietlog", "kv/internal/testkit", "kv/internal/crashfs"},
	{"kv/internal/jsonscan", "kv/internal/wal", "kv/internal/fsys", "kv/internal/flock", "kv/internal/units", "kv/internal/redistest", "kv/internal/llmtest", "kv/internal/dashboard", "kv/internal/toxic", "kv/internal/archpicture"},
}

// forTests is imported by tests and by what helps them.
var forTests = []string{"kv/internal/leaktest", "kv/internal/enginetest", "kv/internal/testkit", "kv/internal/crashfs", "kv/internal/redistest", "kv/internal/llmtest", "kv/internal/strangers", "kv/internal/toxic"}

// What a reader can hold.
const (
	rootFiles, rootLines = 20, 4_800 // fewer lines than that
	fileLines            = 450
)

// typeSwitches are the only places that tell the engines apart: their figures
// differ, and become those of kv by a conversion that names both types.
var typeSwitches = []string{"json.go *jsonstore.Engine", "json.go *redisstore.Engine"}

// A listedPackage is what go list says of one, and the text of its files.
type listedPackage struct {
	ImportPath, Dir string
	GoFiles         []string
	Imports         []string

	texts map[string]string // by path from the root
}

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...").Output()
	require.NoError(t, err)
	root, err := os.Getwd()
	require.NoError(t, err)
	var list []listedPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := listedPackage{texts: make(map[string]string)}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		for _, name := range p.GoFiles {
			path, err := filepath.Rel(root, filepath.Join(p.Dir, name))
			require.NoError(t, err)
			p.texts[filepath.ToSlash(path)] = readFile(t, path)
		}
		list = append(list, p)
	}
}

// violations is what is wrong with the house, sorted.
func violations(list []listedPackage) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, p := range list {
		name := shortPath(p.ImportPath)
		own := floorOf(name)
		if own < 0 {
			say("%s has no floor", name)
		}
		for _, imported := range p.Imports {
			imported = shortPath(imported)
			if imported != "kv" && !strings.HasPrefix(imported, "kv/") {
				continue
			}
			if below := floorOf(imported); below <= own {
				say("%s imports %s, which is not below it", name, imported)
			}
			if slices.Contains(forTests, imported) && !slices.Contains(forTests, name) {
				say("%s imports %s, which is for tests", name, imported)
			}
		}
		lines := 0
		for path, text := range p.texts {
			n := strings.Count(text, "\n")
			lines += n
			if n > fileLines {
				say("%s has %d lines", path, n)
			}
			for _, a := range enginesAsserted(path, text) {
				if !slices.Contains(typeSwitches, a) {
					say("%s is asserted", a)
				}
			}
		}
		if name == "kv" && len(p.texts) > rootFiles {
			say("kv has %d source files", len(p.texts))
		}
		if name == "kv" && lines >= rootLines {
			say("kv has %d lines of source", lines)
		}
	}
	slices.Sort(wrong)
	return wrong
}

func shortPath(path string) string { return strings.TrimPrefix(path, "github.com/ngraf/") }

func floorOf(name string) int {
	return slices.IndexFunc(floors, func(floor []string) bool { return slices.Contains(floor, name) })
}

// enginesAsserted returns the engines that a file names in type assertions and
// type switches.
func enginesAsserted(path, text string) (found []string) {
	file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	see := func(e ast.Expr) {
		star, _ := e.(*ast.StarExpr)
		if star == nil {
			return
		}
		of, _ := star.X.(*ast.SelectorExpr)
		if of == nil || of.Sel.Name != "Engine" {
			return
		}
		if of, ok := of.X.(*ast.Ident); ok && (of.Name == "jsonstore" || of.Name == "redisstore") {
			found = append(found, path+" *"+of.Name+".Engine")
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeAssertExpr:
			see(n.Type)
		case *ast.CaseClause:
			for _, e := range n.List {
				see(e)
			}
		}
		return true
	})
	return found
}

// Imports go down, the root is small, and nobody asks an engine which one it
// is.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	list := listPackages(t)
	require.Greater(t, len(list), 20)
	require.Empty(t, violations(list))
	var asserted []string
	for _, p := range list {
		for path, text := range p.texts {
			asserted = append(asserted, enginesAsserted(path, text)...)
		}
	}
	require.ElementsMatch(t, typeSwitches, asserted, "an exception that is not needed is none")
}

// A house that does not stand so is found out, on every count.
func TestArchitectureIsLookedAt(t *testing.T) {
	t.Parallel()
	const module = "github.com/ngraf/"
	long := "package p\n" + strings.Repeat("\n", fileLines)
	asks := "package kv\n\nfunc f(e any) {\n\t_, _ = e.(*jsonstore.Engine)\n\tswitch e.(type) {\n\tcase *redisstore.Engine:\n\t}\n}\n"
	large := listedPackage{ImportPath: module + "kv", texts: map[string]string{"a.go": asks}}
	for i := range rootFiles {
		large.texts[fmt.Sprint(i, ".go")] = "package kv\n" + strings.Repeat("\n", rootLines/rootFiles)
	}
	require.Equal(t, []string{
		"a.go *jsonstore.Engine is asserted",
		"a.go *redisstore.Engine is asserted",
		"internal/wal/long.go has 451 lines",
		"kv has 21 source files",
		"kv has 4828 lines of source",
		"kv/internal/else has no floor",
		"kv/internal/fault imports kv/internal/engine, which is not below it",
		"kv/internal/jsonstore imports kv, which is not below it",
		"kv/internal/jsonstore imports kv/internal/redisstore, which is not below it",
		"kv/internal/once imports kv/internal/testkit, which is for tests",
	}, violations([]listedPackage{
		large,
		{ImportPath: module + "kv/internal/wal", texts: map[string]string{"internal/wal/long.go": long}},
		{ImportPath: module + "kv/internal/else", Imports: nil},
		{ImportPath: module + "kv/internal/fault", Imports: []string{"context", module + "kv/internal/jsonscan", module + "kv/internal/engine"}},
		{ImportPath: module + "kv/internal/jsonstore", Imports: []string{module + "kv", module + "kv/internal/redisstore"}},
		{ImportPath: module + "kv/internal/once", Imports: []string{module + "kv/internal/testkit"}},
	}))
}
