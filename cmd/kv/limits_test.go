package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

// Two exports in one file, or one with something behind it, are refused as a
// whole, packed or not, and so is an archive of nano-graphrag: only the first
// would be read.
func TestImportEndsWhereItEnds(t *testing.T) {
	from := jsonShell(t)
	from.ok("put", "docs", "a", "1")
	dir := t.TempDir()
	plain, packed := filepath.Join(dir, "x.ndjson"), filepath.Join(dir, "x.zst")
	from.ok("export", plain)
	from.ok("export", packed)
	for _, file := range []string{plain, packed, aBackup().archive(t)} {
		whole, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, behind := range [][]byte{whole, []byte("\n"), []byte("x")} {
			require.NoError(t, os.WriteFile(file, append(bytes.Clone(whole), behind...), 0o600))
			s := jsonShell(t)
			r := s.run("import", file, "--mode", "replace")
			require.Equal(t, exitCorrupt, r.code, "%s: %s", file, r.err)
			require.Empty(t, r.out)
			require.Empty(t, fileNames(t, s.dir()))
		}
	}
}

// One document over the limit is named and left, and the rest goes: an import
// that is made again ends alike, with exit code 1.
func TestImportNamesWhatIsTooLarge(t *testing.T) {
	from := jsonShell(t)
	from.ok("put", "docs", "a", "1")
	from.stdin(`"`+strings.Repeat("x", 5<<20)+`"`).ok("put", "docs", "b")
	from.ok("put", "docs", "c", "1")
	file := filepath.Join(t.TempDir(), "x.zst")
	from.ok("export", file)
	each(t, func(t *testing.T, s shell) {
		s.env = append(s.env, "STORAGE_MAX_VALUE_BYTES=1000000")
		for _, stored := range []string{"2          2       0      ", "2          0       2      "} {
			r := s.run("import", file)
			require.Equal(t, exitNothing, r.code)
			require.Empty(t, r.err)
			require.Contains(t, r.out, "docs       "+stored)
			require.Contains(t, r.out, "\nleft out of docs: line 4, the document \"b\": its line has 5242919 bytes; STORAGE_MAX_VALUE_BYTES allows values of 1000000\n")
		}
	})

	p := pack{"kv/full_docs.json": `[{"content":"a"},{"content":"` + strings.Repeat("x", 5<<20) + `"},{"content":NaN},{"content":"c"}]`}
	s := jsonShell(t)
	s.env = append(s.env, "STORAGE_MAX_VALUE_BYTES=1000000")
	r := s.run("import", p.archive(t))
	require.Equal(t, exitNothing, r.code)
	require.Contains(t, r.out, "full_docs  2          2       0        0        0        2\n")
	require.Contains(t, r.out, "\nleft out of full_docs: place 1, counted from 0: it takes more than ")
	require.Contains(t, r.out, "\nleft out of full_docs: place 2, counted from 0: invalid JSON at offset ")
}

// A stream that would have its reader hold more than zstd's own limit is
// refused.
func TestImportBoundsTheWindow(t *testing.T) {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(zstd.MaxWindowSize))
	require.NoError(t, err)
	_, err = w.Write(bytes.Repeat([]byte("x"), 2<<20)) // Less has a smaller window.
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	require.NoError(t, w.Close())
	file := filepath.Join(t.TempDir(), "x.zst")
	require.NoError(t, os.WriteFile(file, b.Bytes(), 0o600))
	s := jsonShell(t)
	s.fails(exitCorrupt, "window size exceeded", "import", file)
}
