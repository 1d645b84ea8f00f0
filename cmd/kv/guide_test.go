package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
)

// guideEnv makes the test binary a kv, for scripts.
const guideEnv = "KV_TEST_AS_KV"

// A block is a shell block of a guide, and what it is to print.
type block struct {
	line int    // of its fence, from 1
	text string // its lines
	want string // of the text block that follows it
}

// blocksOf returns the shell blocks of a guide. A text block belongs to the
// shell block before it, if there is nothing but empty lines between.
func blocksOf(t *testing.T, guide string) (blocks []block) {
	lines := strings.Split(guide, "\n")
	follows := false
	for i := 0; i < len(lines); i++ {
		kind, fenced := strings.CutPrefix(lines[i], "```")
		if !fenced {
			follows = follows && lines[i] == ""
			continue
		}
		begin := i + 1
		for i++; lines[i] != "```"; i++ {
		}
		text := strings.Join(lines[begin:i], "\n") + "\n"
		switch {
		case kind == "sh":
			blocks = append(blocks, block{line: begin, text: text})
		case kind == "text" && follows:
			blocks[len(blocks)-1].want = text
		default:
			require.Failf(t, "a block that nothing runs or compares", "line %d: %q", begin, kind)
		}
		follows = kind == "sh"
	}
	return blocks
}

// scriptOf is one script of all blocks, each on the lines that it has in the
// guide, so that bash names the guide's lines. What a block prints goes to a
// file with the number of its first line.
func scriptOf(blocks []block) string {
	var b strings.Builder
	line := 1
	for _, block := range blocks {
		b.WriteString(strings.Repeat("\n", block.line-line))
		fmt.Fprintf(&b, "exec >\"$GUIDE_OUT/%d\" 2>&1\n%s", block.line, block.text)
		line = block.line + 1 + strings.Count(block.text, "\n")
	}
	return b.String()
}

// matches makes a pattern of what a block is to print: … on a line of its own
// is any number of lines, elsewhere any text. Blanks at the ends of lines do
// not count.
func matches(want string) *regexp.Regexp {
	pattern := "^"
	for line := range strings.Lines(want) {
		if line == "…\n" {
			pattern += `(?:.*\n)*?`
			continue
		}
		pattern += strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSuffix(line, "\n")), "…", ".*") + " *\n"
	}
	return regexp.MustCompile(pattern + "$")
}

// Everything in docs/migration.md works, line by line and in order, and
// prints what the guide says (issue 5).
func TestGuide(t *testing.T) {
	for _, name := range []string{"bash", "python3"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed, which docs/migration.md runs", name)
		}
	}
	t.Parallel()
	guide, err := os.ReadFile("../../docs/migration.md")
	require.NoError(t, err)
	blocks := blocksOf(t, string(guide))
	require.Greater(t, len(blocks), 20)
	server, cluster := redistest.Start(t), redistest.StartCluster(t, 3, 0)
	bin, out, dir := t.TempDir(), t.TempDir(), t.TempDir()
	wrapper := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", guideEnv, os.Args[0])
	require.NoError(t, os.WriteFile(filepath.Join(bin, "kv"), []byte(wrapper), 0o700))

	bash := exec.CommandContext(t.Context(), "bash", "-e", "-u", "-o", "pipefail", "-c",
		`trap 'echo "docs/migration.md:$LINENO: exit code $?: $BASH_COMMAND" >"$GUIDE_OUT/failed"' ERR; source "$GUIDE_OUT/script"`)
	bash.Dir = dir
	bash.Env = []string{
		"PATH=" + bin + string(filepath.ListSeparator) + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8", "GUIDE_OUT=" + out,
		"GORACE=atexit_sleep_ms=0", // Or each kv takes a second.
		"REDIS_URL=" + server.URL(), "CLUSTER_URL=" + cluster.URL(),
	}
	require.NoError(t, os.WriteFile(filepath.Join(out, "script"), []byte(scriptOf(blocks)), 0o600))
	failed := bash.Run()
	if failed != nil {
		where, _ := os.ReadFile(filepath.Join(out, "failed"))
		t.Errorf("the guide stopped: %v: %s", failed, where)
	}
	for i, block := range blocks {
		text, err := os.ReadFile(filepath.Join(out, fmt.Sprint(block.line)))
		require.NoError(t, err)
		_, err = os.Stat(filepath.Join(out, fmt.Sprint(blocks[min(i+1, len(blocks)-1)].line)))
		stopped := os.IsNotExist(err)
		if stopped || block.want != "" && !matches(block.want).Match(text) {
			t.Errorf("docs/migration.md:%d:\n%s\nprints\n%s\nand the guide says\n%s", block.line, block.text, text, block.want)
		}
		if stopped {
			break
		}
	}
}
