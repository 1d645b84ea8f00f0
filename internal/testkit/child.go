package testkit

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A Child is the binary of the tests once more, as a process of its own that
// runs one test.
type Child struct {
	*exec.Cmd
	Lines *bufio.Scanner // what it prints
	start io.Closer
}

// StartChildren starts processes that run the test of this name, and returns
// when each has printed "ready". A child finds its job, as JSON, in the variable
// env, and begins when its standard input ends. It is killed with the test.
func StartChildren(t *testing.T, n int, test, env string, job func(i int) any) []*Child {
	t.Helper()
	children := make([]*Child, n)
	for i := range children {
		text, err := json.Marshal(job(i))
		require.NoError(t, err)
		c := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.timeout=240s")
		c.Env = append(os.Environ(), env+"="+string(text))
		c.Stderr = os.Stderr
		in, err := c.StdinPipe()
		require.NoError(t, err)
		out, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		children[i] = &Child{c, lines, in}
	}
	for _, c := range children {
		require.True(t, c.Lines.Scan())
		require.Equal(t, "ready", c.Lines.Text())
	}
	return children
}

// Begin lets a child begin. It may be called again.
func (c *Child) Begin() { _ = c.start.Close() }

// Report waits until a child has printed its last line, and reads the report
// that it gave, as JSON behind the word "report", into one. A child that was
// killed gave none.
func (c *Child) Report(one any) (given bool, err error) {
	for c.Lines.Scan() {
		if text, ok := strings.CutPrefix(c.Lines.Text(), "report "); ok {
			given, err = true, json.Unmarshal([]byte(text), one)
		}
	}
	return given, err
}
