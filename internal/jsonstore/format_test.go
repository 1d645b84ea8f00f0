package jsonstore

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The files of the format know nothing of the engine: no name that they use
// is declared in another file of the package.
func TestFormatKnowsNoEngine(t *testing.T) {
	t.Parallel()
	declared := make(map[string]bool)
	var unresolved []*ast.Ident
	for _, name := range []string{"names.go", "records.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		for name := range file.Scope.Objects {
			declared[name] = true
		}
		imported := make(map[string]bool)
		for _, spec := range file.Imports {
			imported[path.Base(strings.Trim(spec.Path.Value, `"`))] = true
		}
		for _, used := range file.Unresolved {
			if !imported[used.Name] && types.Universe.Lookup(used.Name) == nil {
				unresolved = append(unresolved, used)
			}
		}
	}
	require.NotEmpty(t, declared)
	for _, used := range unresolved {
		require.True(t, declared[used.Name], "%s is the engine's", used.Name)
	}
}
