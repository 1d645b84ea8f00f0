package kv_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/jsonstore"
	"github.com/ngraf/kv/internal/testkit"
)

// Child processes are this test binary, with one of these set.
const (
	killDir    = "KV_TEST_KILL_DIR"
	killPolicy = "KV_TEST_KILL_POLICY"
	killRound  = "KV_TEST_KILL_ROUND"
)

const (
	killWriters = 8
	killIDs     = 5 // of each writer
)

// An act is what a writer does to one of its ids.
type act struct {
	kind string // put or del
	seq  int
}

// A told id is what the parent has been told about it: the last call that
// returned, and the last that began.
type told struct{ done, begun act }

func killConfig(dir string, policy kv.Fsync) kv.Config {
	return kv.Config{Backend: "json", WorkingDir: dir, JSON: kv.JSONConfig{Fsync: policy}}
}

func killValue(id string, seq int) json.RawMessage {
	text := strings.Repeat("z", seq*37%900)
	sum := crc32.ChecksumIEEE(fmt.Appendf(nil, "%s %d %s", id, seq, text))
	return fmt.Appendf(nil, `{"id":%q,"seq":%d,"text":%q,"sum":%d}`, id, seq, text, sum)
}

// TestJSONKillChild writes until it is killed.
func TestJSONKillChild(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("is run by TestJSONKill")
	}
	round := 0
	_, err := fmt.Sscan(os.Getenv(killRound), &round)
	require.NoError(t, err)
	ctx := jsonstore.WithCompactAt(t.Context(), 16<<10)
	s, err := kv.Open(ctx, killConfig(dir, kv.Fsync(os.Getenv(killPolicy))), "t", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	pipe := os.NewFile(3, "pipe")
	var wg sync.WaitGroup
	for w := range killWriters {
		wg.Go(func() { killWrite(s.(builtin), pipe, w, round*1_000_000) })
	}
	wg.Wait()
}

// killWrite tells what it begins, and what was acknowledged.
func killWrite(s builtin, pipe *os.File, writer, seq int) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(uint64(writer), uint64(seq)))
	for {
		seq++
		first, n := rng.IntN(killIDs), 1+rng.IntN(3)
		kind := "put"
		if rng.IntN(5) == 0 {
			kind = "del"
		}
		items := make(map[string]json.RawMessage)
		var ids []string
		var lines strings.Builder
		for i := range n {
			id := fmt.Sprintf("%d-%d", writer, (first+i)%killIDs)
			ids = append(ids, id)
			items[id] = killValue(id, seq)
			fmt.Fprintf(&lines, "%s %s %d\n", id, kind, seq)
		}
		tell := func(what string) error {
			_, err := fmt.Fprint(pipe, strings.ReplaceAll("\n"+strings.TrimSuffix(lines.String(), "\n"), "\n", "\n"+what+" ")+"\n")
			return err
		}
		err := tell("begun")
		switch {
		case err != nil:
		case kind == "del":
			_, err = s.Delete(ctx, ids...)
		case rng.IntN(50) == 0:
			err = s.UpsertTTL(ctx, items, time.Hour)
		default:
			err = s.Upsert(ctx, items)
		}
		if err != nil || tell("done") != nil {
			fmt.Fprintln(pipe, "failed", err)
			return
		}
	}
}

func TestJSONKill(t *testing.T) {
	if testing.Short() {
		t.Skip("300 processes")
	}
	t.Parallel()
	for _, policy := range []kv.Fsync{kv.FsyncAlways, kv.FsyncEverySec, kv.FsyncNo} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			know := make(map[string]told)
			writes := 0
			for round := range testkit.Soak("KV_SOAK_KILLS", 300) / 3 {
				writes += killOnce(t, dir, policy, round, know)
				killCheck(t, dir, policy, round, know)
			}
			for _, name := range namesIn(t, dir) {
				require.NotContains(t, name, ".tmp")
			}
			t.Logf("%d acknowledged writes", writes)
		})
	}
}

// killOnce runs a child for some milliseconds, and takes down what it tells.
func killOnce(t *testing.T, dir string, policy kv.Fsync, round int, know map[string]told) (writes int) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	child := exec.Command(os.Args[0], "-test.run=^TestJSONKillChild$", "-test.timeout=60s")
	child.Env = append(os.Environ(), killDir+"="+dir, killPolicy+"="+string(policy), fmt.Sprintf("%s=%d", killRound, round+1))
	child.ExtraFiles = []*os.File{w}
	require.NoError(t, child.Start())
	require.NoError(t, w.Close())
	lines := bufio.NewScanner(r)
	var timer *time.Timer
	for lines.Scan() {
		if timer == nil { // It has begun to write.
			timer = time.AfterFunc(time.Duration(rand.IntN(25_000))*time.Microsecond, func() { _ = child.Process.Kill() })
		}
		var what, id string
		var a act
		if lines.Text() == "" {
			continue
		}
		if n, err := fmt.Sscan(lines.Text(), &what, &id, &a.kind, &a.seq); n != 4 {
			require.NotEqual(t, "failed", what, lines.Text())
			require.NotEqual(t, 0, n, err)
			continue // Cut by the kill.
		}
		if what == "done" {
			know[id] = told{a, a}
			writes++
		} else {
			know[id] = told{know[id].done, a}
		}
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	require.NotNil(t, timer, "the child did not write")
	return writes
}

// killCheck compares what is there with what was told. Every other time it
// only looks, so that the next child goes on with the journal as it is.
func killCheck(t *testing.T, dir string, policy kv.Fsync, round int, know map[string]told) {
	opts := []kv.Option{kv.WithLogger(slog.New(slog.DiscardHandler))}
	if round%2 == 0 {
		opts = append(opts, kv.WithReadOnly())
	}
	s, err := kv.Open(t.Context(), killConfig(dir, policy), "t", opts...)
	require.NoError(t, err, "round %d", round)
	there := make(map[string]int)
	for id, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		value, err := s.Get(t.Context(), id)
		require.NoError(t, err)
		var v struct{ Seq int }
		require.NoError(t, json.Unmarshal(value, &v))
		require.JSONEq(t, string(killValue(id, v.Seq)), string(value), "a wrong value")
		there[id] = v.Seq
	}
	for id, k := range know {
		seq, ok := there[id]
		matches := func(a act) bool { return ok && a.kind == "put" && a.seq == seq || !ok && a.kind != "put" }
		require.Truef(t, matches(k.done) || matches(k.begun), "round %d: %s has %d (%v) but was told %+v", round, id, seq, ok, k)
		now := act{"del", k.begun.seq}
		if ok {
			now = act{"put", seq}
		}
		know[id] = told{now, now}
		delete(there, id)
	}
	require.Empty(t, there, "documents nobody wrote")
	require.NoError(t, s.Close())
}
