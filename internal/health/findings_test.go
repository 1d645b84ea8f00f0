package health

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// severityWords are those that kv prints.
var severityWords = []string{"info", "warning", "danger"}

// The table is complete, its names are such that programs can rely on them,
// and docs/health.md has every one, with the same words, and no other.
func TestFindingTable(t *testing.T) {
	rows := "| code | severity | what it means | what to do |\n|---|---|---|---|\n"
	seen := make(map[string]bool)
	for code, a := range Table {
		require.Regexp(t, `^[a-z]+(-[a-z]+)*$`, a.Name, "code %d", code)
		require.False(t, seen[a.Name], a.Name)
		seen[a.Name] = true
		require.Regexp(t, `^[A-Z0-9m].*\.$`, a.Meaning, a.Name)
		require.Regexp(t, `^[A-Z].*\.$`, a.Remedy, a.Name)
		rows += fmt.Sprintf("| `%s` | %s | %s | %s |\n", a.Name, severityWords[a.Severity], a.Meaning, strings.ReplaceAll(a.Remedy, "|", `\|`))
	}
	require.Len(t, Table, int(JSONLeftovers)+1)
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "health.md"))
	require.NoError(t, err)
	require.Contains(t, string(doc), rows+"\n")
	require.Len(t, regexp.MustCompile("(?m)^\\| `").FindAllString(string(doc), -1), len(Table))
}
