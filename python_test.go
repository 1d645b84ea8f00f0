package kv_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// python returns a command that does what nano-graphrag does, or skips.
func python(t *testing.T, args ...string) *exec.Cmd {
	bin, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed, which plays the workers of nano-graphrag")
	}
	cmd := exec.CommandContext(t.Context(), bin, append([]string{filepath.Join("testdata", "python_worker.py")}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
	cmd.Stderr = os.Stderr
	return cmd
}

// A pythonWorker works on the namespace docs of a Redis.
type pythonWorker struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

func startPython(t *testing.T, server *redistest.Server) *pythonWorker {
	cmd := python(t, "redis", server.Addr)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // What it could not do it has not answered.
	})
	return &pythonWorker{t, in, bufio.NewReader(out)}
}

// begin makes the worker do something, and end returns its answer.
func (p *pythonWorker) begin(command, who string, args ...int) error {
	line := []any{command, "nano_graphrag:docs:", who}
	for _, a := range args {
		line = append(line, a)
	}
	return json.NewEncoder(p.in).Encode(line)
}

func (p *pythonWorker) end(answer any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the Python worker has given up: %w", err)
	}
	return json.Unmarshal(line, answer)
}

// workerID and workerDocument are those of the script.
func workerID(who string, n int) string { return fmt.Sprintf("%s-%d é:*", who, n) }

func workerDocument(who string, n int) json.RawMessage {
	text := strings.Repeat("é 😀 \u2028 \x7f \x01 < & / \\ \" ", 1+n%3)
	quoted, _ := json.Marshal(text) // A string can be encoded.
	return json.RawMessage(fmt.Sprintf(`{"who":%q,"n":%d,"float":1.0,"big":1180591620717411303424,"none":null,"text":%s}`, who, n, quoted))
}

const workerTTL = 1000 // Seconds, of every document with an odd number.

// whole checks that a store has documents of somebody, all and unharmed, with
// their times to live.
func whole(t *testing.T, s builtin, who string, numbers []int) {
	t.Helper()
	for _, n := range numbers {
		value, err := s.Get(t.Context(), workerID(who, n))
		require.NoError(t, err, "%s %d", who, n)
		require.Equal(t, testkit.Decoded(t, workerDocument(who, n)), testkit.Decoded(t, value))
		ttl, err := s.TTL(t.Context(), workerID(who, n))
		require.NoError(t, err)
		require.Equal(t, n%2 == 1, ttl > 0, "%s %d", who, n)
		require.LessOrEqual(t, ttl, workerTTL*time.Second)
	}
}

func upTo(n int) (numbers []int) {
	for i := range n {
		numbers = append(numbers, i)
	}
	return numbers
}

// Workers in Go and in Python on one Redis at once: none loses or misreads
// what the other writes, with its escapes and times to live (issue 5, two
// versions at once).
func TestPythonOnOneRedis(t *testing.T) {
	t.Parallel()
	const n = 600
	server := redistest.Start(t)
	worker := startPython(t, server)
	s := openRedisStore(t, importCfg(server.URL(), t.TempDir()), "docs")
	require.NoError(t, worker.begin("write", "python", 0, n, 1, workerTTL))
	seen := 0
	for i := range n {
		ttl := time.Duration(i%2) * workerTTL * time.Second
		require.NoError(t, s.UpsertTTL(t.Context(), map[string]json.RawMessage{workerID("go", i): workerDocument("go", i)}, ttl))
		value, err := s.Get(t.Context(), workerID("python", i))
		if err == nil {
			seen++
			require.Equal(t, testkit.Decoded(t, workerDocument("python", i)), testkit.Decoded(t, value))
			continue
		}
		require.ErrorIs(t, err, kv.ErrNotFound)
	}
	written := 0
	require.NoError(t, worker.end(&written))
	require.Equal(t, n, written)
	t.Logf("%d of %d documents of Python's were seen while both wrote", seen, n)

	whole(t, s, "python", upTo(n))
	whole(t, s, "go", upTo(n))
	require.Len(t, listed(t, s), 2*n)
	var theirs []int
	require.NoError(t, worker.begin("read", "go"))
	require.NoError(t, worker.end(&theirs))
	require.Equal(t, upTo(n), theirs)

	// A write by either replaces the other's document, and its time to live.
	require.NoError(t, worker.begin("write", "go", 0, 4, 2, 0))
	require.NoError(t, worker.end(&written))
	require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{workerID("python", 1): workerDocument("python", 2)}))
	ttl, err := s.TTL(t.Context(), workerID("python", 1))
	require.NoError(t, err)
	require.Zero(t, ttl)
	whole(t, s, "go", upTo(n))
}

// A Python worker, which knows no lease, writes in the middle of an import:
// what it writes stays, whether the import was there before it or comes after
// it, with its times to live; the rest comes from the file.
func TestPythonDuringAnImport(t *testing.T) {
	t.Parallel()
	const n = 3000
	server, dir := redistest.Start(t), t.TempDir()
	worker := startPython(t, server)
	file := make(map[string]json.RawMessage)
	for i := range n {
		file[workerID("shared", i)] = json.RawMessage(`"of the file"`)
	}
	fillFiles(t, dir, "docs", file)
	o, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	client := redis.NewClient(o)
	defer client.Close()
	var failed error
	before := 0
	client.AddHook(&afterPipelines{n: 4, do: func() {
		before = int(server.Client().DBSize(t.Context()).Val())
		written := 0
		if failed = worker.begin("write", "shared", 0, n, 3, workerTTL); failed == nil {
			failed = worker.end(&written)
		}
	}})
	book := new(testkit.LogBook)
	s := openRedisStore(t, importCfg(server.URL(), dir), "docs", kv.WithRedisClient(client), kv.WithLogger(book.Logger()))
	require.NoError(t, failed)
	require.Greater(t, before, n/100, "some had been imported")
	require.Less(t, before, n, "some had not")
	require.Regexp(t, `conflicts=[1-9]`, book.Text())
	var pythons []int
	for i := range n {
		if i%3 == 0 {
			pythons = append(pythons, i)
			continue
		}
		value, err := s.Get(t.Context(), workerID("shared", i))
		require.NoError(t, err)
		require.Equal(t, `"of the file"`, string(value))
	}
	whole(t, s, "shared", pythons)
	require.Len(t, listed(t, s), n)
}

// Python and Go on one directory in turn, with all that Python wrote: each
// finds what the other left, and Go changes no byte of what it does not write.
func TestPythonOnOneDirectory(t *testing.T) {
	t.Parallel()
	dir, namespace, _ := sample(t, "golden/kv_store_golden.json")
	path := filepath.Join(dir, "kv_store_"+namespace+".json")
	for round := range 3 {
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		out, err := python(t, "file", path, workerID("python", round)).Output()
		require.NoError(t, err)
		require.Equal(t, testkit.Decoded(t, before), testkit.Decoded(t, out), "Python found what Go had left")
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		ids, values := members(t, text)
		require.Equal(t, workerID("python", round), ids[len(ids)-1])

		s := closeable(t, kv.Config{WorkingDir: dir}, namespace)
		all, err := s.GetMany(t.Context(), ids)
		require.NoError(t, err)
		for i, id := range ids {
			require.Equal(t, compact(t, values[id]), compact(t, all[i]))
		}
		id := workerID("go", round)
		require.NoError(t, s.Upsert(t.Context(), map[string]json.RawMessage{id: workerDocument("go", round)}))
		require.NoError(t, s.Close())
		after := fileOf(t, dir, namespace)
		require.Equal(t, string(text[:len(text)-2]), string(after[:len(text)-2]), "the rest is as Python wrote it")
		now, _ := members(t, after)
		require.Equal(t, append(ids, id), now)
	}
}
