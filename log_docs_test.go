package kv_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A logLine is what a table of the documentation and the source agree on.
type logLine struct{ level, message string }

// docs/monitoring.md lists every message of the library with its level.
func TestLogTable(t *testing.T) {
	doc, err := os.ReadFile("docs/monitoring.md")
	require.NoError(t, err)
	var listed []logLine
	for _, m := range regexp.MustCompile("(?m)^\\| (debug|info|warn|error|error or warn) \\| `(kv: .*?)` \\| .*[^ ] \\|$").FindAllStringSubmatch(string(doc), -1) {
		listed = append(listed, logLine{m[1], m[2]})
	}
	require.ElementsMatch(t, loggedBy(t, "*.go", "internal/*/*.go", "kvotel/*.go", "kvprom/*.go"), listed)
}

// loggedBy returns the messages of all calls of a slog.Logger, with … for what
// the source does not say.
func loggedBy(t *testing.T, patterns ...string) (lines []logLine) {
	level := regexp.MustCompile(`^(Debug|Info|Warn|Error|Log)(Context)?$`)
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			require.NoError(t, err)
			if slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing"` }) {
				continue // It helps tests.
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) == 0 {
					return true
				}
				f, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !level.MatchString(f.Sel.Name) {
					return true
				}
				if of, ok := f.X.(*ast.Ident); ok && of.Name == "redis" {
					return true // A conversion to redis.Error.
				}
				m := level.FindStringSubmatch(f.Sel.Name)
				line, at := logLine{level: strings.ToLower(m[1])}, 0
				if m[2] != "" {
					at = 1
				}
				if m[1] == "Log" {
					line.level, at = "error or warn", 2
				}
				if line.message = textOf(call.Args[at]); strings.HasPrefix(line.message, "kv: ") {
					lines = append(lines, line)
				} else {
					t.Errorf("%s: %s logs without the name of the library: %s", name, f.Sel.Name, line.message)
				}
				return true
			})
		}
	}
	slices.SortFunc(lines, func(a, b logLine) int { return strings.Compare(a.message, b.message) })
	return slices.Compact(lines)
}

func textOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return text
		}
	case *ast.BinaryExpr:
		return textOf(e.X) + textOf(e.Y)
	}
	return "…"
}
