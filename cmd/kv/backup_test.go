package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A pack is the files of a backup by path.
type pack map[string]string

const manifest = "{\n  \"backup_id\": \"b\",\n  \"statistics\": {\n    \"documents\": 1\n  }\n}"

// aBackup is one of a JSON backend: arrays, without ids. The checksum was
// computed by nano-graphrag's own compute_directory_checksum.
func aBackup() pack {
	const checksum = "sha256:815520b27c7d512ad7cfdb147998e058cf561046b1f5f69c220da41c09d9729b"
	return pack{
		"config/graphrag_config.json":     "{}",
		"kv-notes.txt":                    "sorts before kv/ as text, and after it as a path",
		"kv/full_docs.json":               "[\n  {\n    \"content\": \"hello\"\n  },\n  null\n]",
		"kv/community_reports.json":       "{\n  \"7\": {\n    \"title\": \"x\"\n  },\n  \"bad\": NaN\n}",
		"kv/llm_response_cache.json":      "[\n  {\n    \"return\": \"a\"\n  },\n  {\n    \"return\": \"b\"\n  }\n]",
		"manifest.json":                   strings.TrimSuffix(manifest, "\n}") + ",\n  \"checksum\": \"" + checksum + "\"\n}",
		"qdrant/entities/00.snapshot":     "\x00\xff",
		"qdrant/entities.json/é.snapshot": "",
	}
}

func (p pack) dir(t *testing.T) string {
	dir := t.TempDir()
	for name, text := range p {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

// names are in the order in which Python packs them.
func (p pack) names() []string {
	return slices.SortedFunc(maps.Keys(p), func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) })
}

func (p pack) archive(t *testing.T, more ...tar.Header) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}))
	for _, name := range p.names() {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(p[name]))}))
		_, err := w.Write([]byte(p[name]))
		require.NoError(t, err)
	}
	for _, h := range more {
		require.NoError(t, w.WriteHeader(&h))
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	path := filepath.Join(t.TempDir(), "snapshot.ngbak")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

const imported1 = `NAMESPACE           DOCUMENTS  STORED  SKIPPED  EXPIRED  REMOVED  LEFT OUT
community_reports   1          1       0        0        0        1
full_docs           1          1       0        0        0        0
llm_response_cache  0          0       0        0        0        2
left out of community_reports: place 1, counted from 0, the document "bad": invalid JSON at offset 42: NaN or Infinity
left out of llm_response_cache: place 0-1, counted from 0: its id is not in the export, and cannot be computed from the value
`

// A backup of nano-graphrag, packed or not, is checked by its own checksum and
// imported; what has no id is told by its place.
func TestImportBackup(t *testing.T) {
	p := aBackup()
	for form, path := range map[string]string{"archive": p.archive(t), "directory": p.dir(t)} {
		t.Run(form, func(t *testing.T) {
			each(t, func(t *testing.T, s shell) {
				r := s.run("import", path)
				require.Equal(t, result{exitNothing, imported1, ""}, r)
				require.Equal(t, "{\"content\":\"hello\"}\n", s.ok("get", "full_docs", "doc-5d41402abc4b2a76b9719d911017c592"))
				require.Equal(t, "{\"title\":\"x\"}\n", s.ok("get", "community_reports", "7"))
				s.fails(exitInvalid, "some documents of community_reports cannot be had from ", "import", path, "--mode", "replace")
				require.Contains(t, s.ok("import", path, "full_docs", "--mode", "replace"), "full_docs  1          1       0 ")
			})
		})
	}
}

// A file of a backup by itself is of the namespace that its name tells.
func TestImportOneFile(t *testing.T) {
	dir := aBackup().dir(t)
	s := jsonShell(t)
	r := s.run("import", filepath.Join(dir, "kv", "full_docs.json"))
	require.Equal(t, exitOK, r.code)
	require.Equal(t, "kv: note: it has no checksum, so that some damage cannot be seen\n", r.err)
	require.Equal(t, "1\n", s.ok("count", "full_docs"))
	odd := filepath.Join(dir, "kv-notes.txt")
	s.fails(exitInvalid, "say by --as which namespace it is of", "import", odd)
	r = s.run("import", odd, "--as", "x")
	require.Equal(t, exitCorrupt, r.code)
	require.NoError(t, os.WriteFile(odd, []byte(`{"a": 1}`), 0o600))
	require.Equal(t, exitOK, s.run("import", odd, "--as", "x").code)
	require.Equal(t, "1\n", s.ok("get", "x", "a"))
	s.fails(exitInvalid, "has no directory kv", "import", s.dir())
}

// A backup that is not what its checksum says is refused, and so is an archive
// that holds what no backup does. Nothing is written by either.
func TestImportDamagedBackup(t *testing.T) {
	refused := func(t *testing.T, path, text string) {
		s := jsonShell(t)
		r := s.run("import", path)
		require.Contains(t, r.err, text)
		require.Contains(t, []int{exitCorrupt, exitInvalid}, r.code)
		require.Empty(t, r.out)
		require.Empty(t, fileNames(t, s.dir()))
	}
	const wrong = "the checksum in manifest.json is not that of the files"
	for name := range aBackup() {
		p := aBackup()
		if name == "manifest.json" {
			p[name] = strings.Replace(p[name], `"b"`, `"c"`, 1)
		} else {
			p[name] += " "
		}
		refused(t, p.archive(t), wrong)
		refused(t, p.dir(t), wrong)
	}
	p := aBackup()
	p["manifest.json"] += " "
	refused(t, p.archive(t), "manifest.json is not as nano-graphrag writes it")
	p = aBackup()
	delete(p, "qdrant/entities.json/é.snapshot")
	refused(t, p.archive(t), wrong)
	p["kv/added.json"] = "{}"
	refused(t, p.dir(t), wrong)

	const odd = "something else than files and directories"
	for name, h := range map[string]tar.Header{
		odd: {Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		"are not in the order in which nano-graphrag packs them": {Name: "./kv/full_docs.json", Typeflag: tar.TypeReg},
		"something else": {Name: "../../x", Typeflag: tar.TypeReg},
		"else than":      {Name: "/etc/x", Typeflag: tar.TypeReg},
	} {
		refused(t, aBackup().archive(t, h), name)
	}
	whole, err := os.ReadFile(aBackup().archive(t))
	require.NoError(t, err)
	for _, cut := range []int{1, 8, 20, len(whole) - 2} {
		path := filepath.Join(t.TempDir(), "x.ngbak")
		require.NoError(t, os.WriteFile(path, whole[:len(whole)-cut], 0o600))
		refused(t, path, "corrupt")
	}
	dir := aBackup().dir(t)
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "kv", "x.json")))
	refused(t, dir, "kv/x.json in the backup is neither a file nor a directory")
}
