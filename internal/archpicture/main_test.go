package main

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// TestPicture checks that docs/architecture.svg is what the command draws.
func TestPicture(t *testing.T) {
	want, err := picture(root)
	require.NoError(t, err)
	got, err := os.ReadFile(root + "/docs/architecture.svg")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run: go run ./internal/archpicture")
}

// TestUpwards checks that what has no place below is not drawn.
func TestUpwards(t *testing.T) {
	_, err := drawn([]edge{{"fault", "engine"}})
	require.ErrorContains(t, err, "fault imports engine, which does not stand below it")
	_, err = drawn([]edge{{"kv", "unheard"}})
	require.ErrorContains(t, err, "kv imports unheard, and one of them has no place")
	_, err = drawn(nil)
	require.ErrorContains(t, err, "that is no import")
}

// TestReduced checks which arrows follow from others.
func TestReduced(t *testing.T) {
	require.Equal(t, []edge{{"a", "b"}, {"b", "c"}, {"a", "d"}}, reduced([]edge{{"a", "b"}, {"a", "c"}, {"b", "c"}, {"a", "d"}}))
}

// TestFiles checks that docs/architecture.md has a line for each source file,
// under the heading of its package, and none for a file that is not there.
func TestFiles(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/architecture.md")
	require.NoError(t, err)
	listed := rows(string(text))
	var there []string
	require.NoError(t, fs.WalkDir(os.DirFS(root), ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		}
		inside := slices.Contains([]string{".", "kvembed", "kvllm", "kvmove"}, path.Dir(file)) || strings.HasPrefix(file, "internal/")
		if inside && strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go") {
			there = append(there, file)
		}
		return nil
	}))
	for _, file := range there {
		if !slices.Contains(listed, file) {
			t.Errorf("docs/architecture.md lacks, under %s: | `%s` | what it is about |", heading(file), path.Base(file))
		}
	}
	for i, file := range listed {
		if !slices.Contains(there, file) {
			t.Errorf("docs/architecture.md has a line for %s, which is not there", file)
		}
		if slices.Contains(listed[:i], file) {
			t.Errorf("docs/architecture.md has two lines for %s", file)
		}
	}
}

// TestNamedFiles checks the other files that the text names.
func TestNamedFiles(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/architecture.md")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("`([a-z]+)/([a-z_]+\\.go)`").FindAllStringSubmatch(string(text), -1) {
		file := "internal/" + m[1] + "/" + m[2]
		if m[1] == "kv" {
			file = m[2]
		}
		if _, err := os.Stat(root + "/" + file); err != nil {
			t.Errorf("docs/architecture.md names %s, and there is no %s", m[0], file)
		}
	}
}

// heading is what a package's files stand under.
func heading(file string) string {
	if dir := path.Dir(file); dir != "." {
		return "### " + dir
	}
	return "### kv"
}

// rows returns the files that have lines of their own.
func rows(text string) (files []string) {
	dir := ""
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "### "); ok {
			if dir = name; name == "kv" {
				dir = ""
			}
		}
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			if name, what, ok := strings.Cut(rest, "` |"); ok && strings.HasSuffix(name, ".go") && len(what) > len(" . |") {
				files = append(files, path.Join(dir, name))
			}
		}
	}
	return files
}
