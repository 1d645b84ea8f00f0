package kv_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

func readFile(t *testing.T, name string) string {
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}

// The README's table has every variable that the code has, with the same
// default and meaning, and no other.
func TestReadmeVariables(t *testing.T) {
	var rows []string
	for _, s := range (kv.Config{}).Settings() {
		if !strings.HasPrefix(s.Variable, "STORAGE_TTL_") {
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |", s.Variable, s.Default, s.Meaning))
		}
	}
	want := "| variable | default | meaning |\n|---|---|---|\n" + strings.Join(rows, "\n") + "\n\n"
	require.Contains(t, readFile(t, "README.md"), want)
}

// The README's program is the Example, which is run.
func TestReadmeProgram(t *testing.T) {
	readme, example := readFile(t, "README.md"), readFile(t, "example_test.go")
	program := between(t, readme, "func main() {\n", "}\n```")
	require.Equal(t, between(t, example, "func Example() {\n", "\t// Output:"), program)
	require.LessOrEqual(t, strings.Count(program, "\n"), 17)
}

func between(t *testing.T, text, from, to string) string {
	_, rest, ok := strings.Cut(text, from)
	require.True(t, ok, from)
	part, _, ok := strings.Cut(rest, to)
	require.True(t, ok, to)
	return part
}
