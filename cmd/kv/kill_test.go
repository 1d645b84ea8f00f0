package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/redistest"
)

// The documents of killed migrations.
const (
	killedDocs = 3000
	killedRuns = 50 // in each direction
)

// A killer runs the real kv and kills it.
type killer struct {
	shell
	bin    string
	server *redistest.Server
	took   time.Duration // what a run takes that is not killed
	cut    int           // runs that had not ended
}

func newKiller(t *testing.T, bin string) *killer {
	server := redistest.Start(t, redistest.Arg("--enable-debug-command", "yes"))
	env := []string{"STORAGE_WORKING_DIR=" + t.TempDir(), "REDIS_URL=" + server.URL(), "STORAGE_KV_MIGRATE=off"}
	return &killer{shell: shell{t: t, env: env}, bin: bin, server: server}
}

// finish runs kv to its end, and returns what it printed.
func (k *killer) finish(args ...string) string {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), k.bin, args...)
	cmd.Env = k.env
	out, err := cmd.CombinedOutput()
	require.NoError(k.t, err, string(out))
	return string(out)
}

// measure is finish, and the moments of later kills are within its time.
func (k *killer) measure(args ...string) {
	k.t.Helper()
	began := time.Now()
	k.finish(args...)
	k.took = time.Since(began)
}

// kill runs kv and kills it at some moment.
func (k *killer) kill(args ...string) {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), k.bin, args...)
	cmd.Env = k.env
	require.NoError(k.t, cmd.Start())
	timer := time.AfterFunc(rand.N(k.took), func() { _ = cmd.Process.Kill() })
	if cmd.Wait() != nil {
		k.cut++
	}
	timer.Stop()
	// The lease of a process that was killed ends by itself, in ten seconds.
	leases, err := k.server.Client().Keys(k.t.Context(), "kv-lease:*").Result()
	require.NoError(k.t, err)
	if len(leases) > 0 {
		require.NoError(k.t, k.server.Client().Del(k.t.Context(), leases...).Err())
	}
}

// filesHash is of the names and contents of all files.
func (k *killer) filesHash() string {
	sum := sha256.New()
	err := fs.WalkDir(os.DirFS(k.dir()), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(k.dir(), name))
		fmt.Fprintf(sum, "%s %d %s", name, len(text), text)
		return err
	})
	require.NoError(k.t, err)
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// redisDigest is of all documents, but not of what is remembered beside them.
func (k *killer) redisDigest() string {
	client := k.server.Client()
	keys, err := client.Keys(k.t.Context(), "nano_graphrag:*").Result()
	require.NoError(k.t, err)
	slices.Sort(keys)
	args := []any{"debug", "digest-value"}
	for _, key := range keys {
		args = append(args, key)
	}
	digests, err := client.Do(k.t.Context(), args...).StringSlice()
	require.NoError(k.t, err)
	return strings.Join(append(keys, digests...), "\n")
}

// documents is the text of a document file.
func documents(n int, value string) string {
	docs := make(map[string]string)
	for i := range n {
		docs[fmt.Sprint("doc-", i)] = fmt.Sprint(value, i, strings.Repeat(" text", i%40))
	}
	text, _ := json.MarshalIndent(docs, "", "  ") // Texts can be encoded.
	return string(text)
}

// A migration that is killed at any moment leaves its source as it was, and
// when it is run again both sides are alike (issue: 100 random moments). Files
// change in one step: a killed migration into them leaves all of the old
// documents, or all of the new.
func TestKilledMigrations(t *testing.T) {
	if testing.Short() {
		t.Skip("100 processes")
	}
	bin := filepath.Join(t.TempDir(), "kv")
	var said bytes.Buffer
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".")
	build.Stderr = &said
	require.NoError(t, build.Run(), said.String())
	t.Run("to redis", func(t *testing.T) {
		t.Parallel()
		k := newKiller(t, bin)
		k.write("kv_store_docs.json", documents(killedDocs, "new"))
		k.write("kv_store_community_reports.json", documents(10, "new"))
		k.measure("migrate", "--to", "redis")
		before := k.filesHash()
		for range killedRuns {
			require.NoError(t, k.server.Client().FlushAll(t.Context()).Err())
			k.kill("migrate", "--to", "redis")
			require.Equal(t, before, k.filesHash())
			k.finish("migrate", "--to", "redis")
			k.finish("verify")
			require.Equal(t, before, k.filesHash())
		}
		t.Logf("%d of %d runs did not come to their end, which is after %v", k.cut, killedRuns, k.took)
	})
	t.Run("to json", func(t *testing.T) {
		t.Parallel()
		k := newKiller(t, bin)
		k.write("kv_store_docs.json", documents(killedDocs, "new"))
		k.write("kv_store_community_reports.json", documents(10, "new"))
		k.finish("migrate", "--to", "redis")
		k.old()
		old := lines(k.finish("ls", "docs"), "\n")
		k.measure("migrate", "--to", "json", "--mirror")
		before, fresh := k.redisDigest(), lines(k.finish("ls", "docs"), "\n")
		for range killedRuns {
			k.old()
			k.kill("migrate", "--to", "json", "--mirror")
			require.Equal(t, before, k.redisDigest())
			if now := lines(k.finish("ls", "docs"), "\n"); !slices.Equal(now, old) {
				require.True(t, slices.Equal(fresh, now), "%d documents, neither the old nor the new ones", len(now))
			}
			k.finish("migrate", "--to", "json", "--mirror")
			k.finish("verify")
			require.Equal(t, before, k.redisDigest())
			for _, name := range fileNames(t, k.dir()) {
				require.NotContains(t, name, ".tmp")
			}
		}
		t.Logf("%d of %d runs did not come to their end, which is after %v", k.cut, killedRuns, k.took)
	})
}

// old makes the directory as it was before: some documents that Redis has not,
// some that differ, and less of them.
func (k *killer) old() {
	for _, name := range fileNames(k.t, k.dir()) {
		require.NoError(k.t, os.Remove(filepath.Join(k.dir(), name)))
	}
	text := strings.Replace(documents(killedDocs/2, "old"), `"doc-1"`, `"gone"`, 1)
	k.write("kv_store_docs.json", text)
}
