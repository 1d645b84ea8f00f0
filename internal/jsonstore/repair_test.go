package jsonstore

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
)

// Repair reads a document file as often whether one line of it is bad, or
// many.
func TestRepairReadsOnce(t *testing.T) {
	t.Parallel()
	const lines, each = 6000, 500
	reads := func(bad int) (n int) {
		var text strings.Builder
		for i := range lines {
			value := `"` + strings.Repeat("x", each) + `"`
			if i < bad {
				value = value[1:]
			}
			fmt.Fprintf(&text, ",\n  \"%s\": %s", idOf(i), value)
		}
		files := crashfs.New()
		files.Put(documentName, []byte("{"+text.String()[1:]+"\n}"))
		files.SetHook(func(op crashfs.Op) error {
			if op.Kind == "read" && op.Name == documentName {
				n++
			}
			return nil
		})
		report, err := Repair(t.Context(), Options{Dir: "dir", Namespace: "t", Files: files, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.Len(t, report.Lost, bad)
		require.Equal(t, lines-bad, report.Documents)
		return n - report.Documents // Each is read once more, to be written.
	}
	require.InDelta(t, reads(1), reads(1000), 10)
}
