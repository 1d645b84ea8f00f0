package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
)

// What was exported comes back elsewhere as it was, packed or not: values,
// and times to live.
func TestExportAndImport(t *testing.T) {
	for _, name := range []string{"backup.ndjson", "backup.ndjson.zst"} {
		each(t, func(t *testing.T, s shell) {
			s.ok("put", "full_docs", "a\nb", "1.50")
			s.ok("put", "full_docs", "c", "null")
			s.ok("put", "llm_response_cache", "k", "1", "--ttl", "12h")
			file := filepath.Join(t.TempDir(), name)
			require.Equal(t, `NAMESPACE           DOCUMENTS  SIZE  REFUSED
full_docs           2          12 B  0
llm_response_cache  1          2 B   0
`, s.ok("export", file))
			info, err := os.Stat(file)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode())
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, strings.HasSuffix(name, ".zst"), !bytes.HasPrefix(text, []byte(`{"kv":"export"`)))

			to, server := redisShell(t)
			const table = `NAMESPACE           DOCUMENTS  STORED  SKIPPED  EXPIRED  REMOVED  LEFT OUT
full_docs           2          2       0        0        0        0
llm_response_cache  1          1       0        0        0        0
`
			require.Equal(t, table+"This was a dry run: nothing was written.\n", to.ok("import", file, "--dry-run"))
			require.Empty(t, server.Keys())
			require.Equal(t, table, to.ok("import", file))
			require.Equal(t, "1.50\nnull\n", to.ok("get", "full_docs", "a\nb", "c"))
			require.InDelta(t, 12*time.Hour, server.TTL("nano_graphrag:llm_response_cache:k"), float64(time.Minute))
		})
	}
}

// A file that is there is replaced when that is asked for, never else, and
// what fails leaves none.
func TestExportFile(t *testing.T) {
	s := jsonShell(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "x")
	s.fails(exitNothing, "there is nothing to export", "export", file)
	s.ok("put", "docs", "a", "1")
	s.fails(exitNothing, "kv: nothing was exported", "export", file, "doc")
	s.fails(exitInvalid, "cannot write the file", "export", filepath.Join(dir, "no", "x"))
	s.fails(exitInvalid, "is not a file", "export", dir, "--force")
	s.fails(exitInvalid, "--json prints on stdout", "export", "-", "--json")
	require.NoError(t, os.WriteFile(file, []byte("mine"), 0o644))
	s.fails(exitInvalid, "is there already; name another file, or say --force", "export", file)
	s.write("kv_store_bad.json", "[")
	s.fails(exitCorrupt, "kv_store_bad.json", "export", file, "--force")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "mine", string(text))
	require.Equal(t, []string{"x"}, fileNames(t, dir))

	require.JSONEq(t, `{"namespace":"docs","documents":1,"bytes":2,"refused":[]}`, s.ok("export", file, "docs", "--force", "--json"))
	out := s.ok("export", "-", "docs")
	require.Contains(t, out, `{"id":"a","value":1,"sum":"`)
	require.Contains(t, out, "\n{\"end\":true,\"documents\":1,")

	// A document that is not JSON is left out, and said.
	s.write("kv_store_bad.json", `{"a": NaN, "b": 1}`)
	r := s.run("export", filepath.Join(dir, "y"), "bad")
	require.Equal(t, exitNothing, r.code)
	require.Contains(t, r.out, "bad        1          2 B   1\n")
	require.Contains(t, r.err, `kv: left out: the document "a" of bad, which is not JSON`+"\n")

	// A file that came meanwhile is not lost.
	f, err := createFile(filepath.Join(dir, "z"), false)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "z"), []byte("other"), 0o600))
	require.ErrorContains(t, f.commit(), "is there already")
	f.discard()
	require.Equal(t, []string{"x", "y", "z"}, fileNames(t, dir))
}

func TestExportInterrupted(t *testing.T) {
	s := jsonShell(t)
	s.ok("put", "docs", "a", "1")
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.ctx = ctx
	s.fails(exitInterrupted, "kv: interrupted", "export", filepath.Join(dir, "x"))
	require.Empty(t, fileNames(t, dir))

	var err bytes.Buffer
	std := streams{out: brokenWriter{syscall.EPIPE}, err: &err}
	require.Equal(t, exitOK, run(t.Context(), []string{"export", "-"}, s.env, std))
	require.Empty(t, err.String())
}

// Damage is refused before anything is written, and so is what cannot be
// checked.
func TestImportRefuses(t *testing.T) {
	s := jsonShell(t)
	docs := make(map[string]json.RawMessage)
	for i := range 100 {
		docs[strings.Repeat("a", i)] = []byte(`"aaaaaaaaaaaaaaaaaaaaa"`)
	}
	s.service("docs", docs)
	dir := t.TempDir()
	for _, name := range []string{"x.ndjson", "x.zst"} {
		file := filepath.Join(dir, name)
		s.ok("export", file)
		whole, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, damaged := range [][]byte{
			whole[:len(whole)-1], whole[:len(whole)/2], append(whole[:len(whole)*2/3:len(whole)*2/3], whole[len(whole)*2/3+1:]...),
		} {
			require.NoError(t, os.WriteFile(file, damaged, 0o600))
			to := jsonShell(t)
			r := to.run("import", file)
			require.Equal(t, exitCorrupt, r.code, r.err)
			require.Empty(t, r.out)
			require.Empty(t, fileNames(t, to.dir()))
		}
		require.NoError(t, os.WriteFile(file, whole, 0o600))
	}
	to := jsonShell(t)
	file := filepath.Join(dir, "x.ndjson")
	to.fails(exitInvalid, "an import is read twice", "import", "-")
	to.fails(exitInvalid, "cannot read the import", "import", filepath.Join(dir, "none"))
	to.fails(exitInvalid, `has no namespace "other"; it has docs`, "import", file, "other")
	to.fails(exitInvalid, "must be one of", "import", file, "--mode", "all")
	require.Empty(t, fileNames(t, to.dir()))
}

// What becomes of documents that are there.
func TestImportModes(t *testing.T) {
	from := jsonShell(t)
	from.ok("put", "docs", "a", "1")
	from.ok("put", "docs", "b", "1")
	from.ok("put", "more", "a", "1")
	file := filepath.Join(t.TempDir(), "x.zst")
	from.ok("export", file)
	for _, test := range []struct{ mode, row, values string }{
		{"merge", "docs       2          1       1        0        0        0", "1 2 2"},
		{"overwrite", "docs       2          2       0        0        0        0", "1 1 2"},
		{"replace", "docs       2          2       0        0        1        0", "1 1 -"},
	} {
		each(t, func(t *testing.T, s shell) {
			s.ok("put", "docs", "b", "2")
			s.ok("put", "docs", "c", "2")
			for _, args := range [][]string{{"--dry-run"}, {}} {
				out := s.ok(append([]string{"import", file, "docs", "--mode", test.mode}, args...)...)
				require.Contains(t, out, test.row+"\n")
				require.NotContains(t, out, "more")
			}
			var values []string
			for _, id := range []string{"a", "b", "c"} {
				r := s.run("get", "docs", id)
				values = append(values, strings.TrimSuffix(r.out, "\n"))
				if r.code == exitNothing {
					values[len(values)-1] = "-"
				}
			}
			require.Equal(t, test.values, strings.Join(values, " "))
			s.fails(exitInvalid, "there are documents already", "import", file, "docs", "--mode", "if-empty")
			require.Contains(t, s.ok("import", file, "more", "--mode", "if-empty", "--json"), `"namespace":"more","documents":1,"stored":1,`)
		})
	}
}

// An import into Redis is not cut short by the timeout.
func TestImportUnreachable(t *testing.T) {
	s := jsonShell(t)
	s.ok("put", "docs", "a", "1")
	file := filepath.Join(t.TempDir(), "x")
	s.ok("export", file)
	s = shell{t: t, env: []string{"STORAGE_KV_BACKEND=redis", "REDIS_SOCKET_TIMEOUT=0.2", "REDIS_URL=redis://" + silent(t)}}
	s.fails(exitUnavailable, "longer than 20ms; what was stored stays", "--timeout", "20ms", "import", file)
	s.fails(exitUnavailable, "longer than 20ms", "--timeout", "20ms", "export", file+"2", "docs")
	s.fails(exitUnavailable, "longer than 20ms", "--timeout", "20ms", "migrate", "--to", "json")
	require.ErrorIs(t, (&resumable{kv.ErrLocked, ""}), kv.ErrLocked)
}
