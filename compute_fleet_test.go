package kv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/redistest"
	"github.com/ngraf/kv/internal/testkit"
)

// fleetEnv carries a fleetJob to a child.
const fleetEnv = "KV_TEST_FLEET"

// A fleetJob is what each process of a fleet does.
type fleetJob struct {
	URL        string // of the server
	Prefix     string
	Name       string // of the process
	IDs        int
	Goroutines int
	AtOnce     int           // ids that a goroutine asks for at a time
	Takes      time.Duration // of fn
	Lease      time.Duration
	Deadline   time.Duration // of each call
	Hangs      bool          // fn does not return
}

// A fleetValue says what it is the answer to, and who gave it.
type fleetValue struct {
	ID, Author string
	Sum        uint32
}

func fleetAnswer(id, author string) fleetValue {
	return fleetValue{id, author, crc32.ChecksumIEEE([]byte(id + "/" + author))}
}

// A fleetReport is what a process saw.
type fleetReport struct {
	Right, Wrong, Failed, Late int
	Slowest                    time.Duration
	Errors                     map[string]int
	Stats                      kv.ComputeStats
}

// TestFleetChild is a process of a fleet. It begins when its input ends.
func TestFleetChild(t *testing.T) {
	text := os.Getenv(fleetEnv)
	if text == "" {
		t.Skip("is run by the tests of fleets")
	}
	var job fleetJob
	require.NoError(t, json.Unmarshal([]byte(text), &job))
	cfg := redisCfg(job.URL)
	cfg.Redis.KeyPrefix = job.Prefix
	s, err := kv.Open(t.Context(), cfg, "docs", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer s.Close()
	o, err := redis.ParseURL(job.URL)
	require.NoError(t, err)
	counter := redis.NewClient(o)
	defer counter.Close()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	require.NoError(t, err)
	report := fleetWork(s, counter, job)
	stats, _ := kv.As[kv.Statser](s)
	figures, err := stats.Stats(t.Context())
	require.NoError(t, err)
	report.Stats = figures.Compute
	line, err := json.Marshal(report)
	require.NoError(t, err)
	fmt.Printf("report %s\n", line)
}

func fleetWork(s kv.Store, counter *redis.Client, job fleetJob) fleetReport {
	view := kv.For[fleetValue](s).With(kv.ComputeOptions[fleetValue]{Lease: job.Lease})
	r := fleetReport{Errors: make(map[string]int)}
	var mu sync.Mutex
	ask := func(id string) {
		ctx, cancel := context.WithTimeout(context.Background(), job.Deadline)
		defer cancel()
		began := time.Now()
		v, err := view.Compute(ctx, id, func(ctx context.Context) (fleetValue, error) {
			_ = counter.SAdd(ctx, "begun:"+job.Name, id).Err()
			_ = counter.HIncrBy(ctx, "calls", id, 1).Err()
			if job.Hangs {
				<-ctx.Done()
				return fleetValue{}, ctx.Err()
			}
			time.Sleep(job.Takes)
			return fleetAnswer(id, job.Name), nil
		})
		took := time.Since(began)
		mu.Lock()
		defer mu.Unlock()
		r.Slowest = max(r.Slowest, took)
		switch {
		case took > job.Deadline+testkit.Slack:
			r.Late++
		case err != nil:
			r.Failed++
			r.Errors[err.Error()]++
		case v == fleetAnswer(id, v.Author):
			r.Right++
		default:
			r.Wrong++
		}
	}
	var wg sync.WaitGroup
	for g := range job.Goroutines {
		turn := make(chan struct{}, job.AtOnce)
		wg.Go(func() {
			var mine sync.WaitGroup
			for i := range job.IDs {
				turn <- struct{}{}
				mine.Go(func() { ask(fmt.Sprint("id-", (i+g*job.IDs/job.Goroutines)%job.IDs)); <-turn })
			}
			mine.Wait()
		})
	}
	wg.Wait()
	return r
}

// A fleet is a number of processes that do the same at once.
type fleet struct {
	t        *testing.T
	children []*testkit.Child
}

// launch starts the processes, and returns when all are ready. prefix gives
// each its key prefix, and change, if it is not nil, a job of its own.
func launch(t *testing.T, processes int, job fleetJob, prefix func(i int) string, change func(i int, job *fleetJob)) *fleet {
	children := testkit.StartChildren(t, processes, "TestFleetChild", fleetEnv, func(i int) any {
		job := job
		job.Name, job.Prefix = fmt.Sprint("p", i), prefix(i)
		if change != nil {
			change(i, &job)
		}
		return job
	})
	return &fleet{t, children}
}

// begin lets those begin who have not yet.
func (f *fleet) begin() {
	for _, c := range f.children {
		c.Begin()
	}
}

// reports waits for the processes; the one that was killed has none.
func (f *fleet) reports(killed int) (sum fleetReport) {
	sum.Errors = make(map[string]int)
	for i, c := range f.children {
		var r fleetReport
		given, err := c.Report(&r)
		if i == killed {
			continue
		}
		require.NoError(f.t, err, "process %d", i)
		require.True(f.t, given, "process %d", i)
		require.NoError(f.t, c.Wait())
		sum.Right, sum.Wrong, sum.Failed, sum.Late = sum.Right+r.Right, sum.Wrong+r.Wrong, sum.Failed+r.Failed, sum.Late+r.Late
		sum.Slowest = max(sum.Slowest, r.Slowest)
		for text, n := range r.Errors {
			sum.Errors[text] += n
		}
		sum.Stats.Hits += r.Stats.Hits
		sum.Stats.Misses += r.Stats.Misses
		sum.Stats.Waits += r.Stats.Waits
		sum.Stats.Computes += r.Stats.Computes
		sum.Stats.LeaseLosses += r.Stats.LeaseLosses
		sum.Stats.TimeSaved += r.Stats.TimeSaved
	}
	return sum
}

const nobody = -1

func samePrefix(int) string { return "fleet" }

// The fleet of the issue: 16 processes with 8 goroutines each ask for the same
// 200 ids at once, and fn takes 50 ms.
const fleetProcesses, fleetIDs = 16, 200

func fleetJobOn(server *redistest.Server) fleetJob {
	return fleetJob{
		URL: server.URL(), IDs: fleetIDs, Goroutines: 8, AtOnce: fleetIDs,
		Takes: 50 * time.Millisecond, Lease: 10 * time.Second, Deadline: 60 * time.Second,
	}
}

// fleetCalls returns how often fn was called, in all and by id.
func fleetCalls(t *testing.T, server *redistest.Server) (sum int, byID map[string]int) {
	calls, err := server.Client().HGetAll(t.Context(), "calls").Result()
	require.NoError(t, err)
	byID = make(map[string]int, len(calls))
	for id, text := range calls {
		n := 0
		_, err := fmt.Sscan(text, &n)
		require.NoError(t, err)
		byID[id] = n
		sum += n
	}
	return sum, byID
}

// Exactly one caller of the whole fleet runs fn for an id.
func TestFleetComputesOnce(t *testing.T) {
	server := redistest.Start(t)
	f := launch(t, fleetProcesses, fleetJobOn(server), samePrefix, nil)
	began := time.Now()
	f.begin()
	r := f.reports(nobody)
	t.Logf("%d processes, took %v: %+v", fleetProcesses, time.Since(began), r)
	sum, _ := fleetCalls(t, server)
	require.Equal(t, fleetIDs, sum)
	require.Equal(t, fleetProcesses*8*fleetIDs, r.Right)
	require.EqualValues(t, fleetIDs, r.Stats.Computes)
	require.EqualValues(t, fleetProcesses*8*fleetIDs, r.Stats.Hits+r.Stats.Waits+r.Stats.Computes)
	require.Zero(t, r.Stats.LeaseLosses)
}

// With one process killed while it holds leases, only these are computed
// again. It takes one for each of its goroutines before the others begin, and
// computes until it is killed, when the others wait for nothing else.
func TestFleetSurvivesADeath(t *testing.T) {
	t.Parallel()
	const victim = 0
	server := redistest.Start(t)
	job := fleetJobOn(server)
	job.Lease = 8 * time.Second
	f := launch(t, fleetProcesses, job, samePrefix, func(i int, job *fleetJob) {
		if i == victim {
			job.AtOnce, job.Hangs = 1, true
		}
	})
	client := server.Client()
	f.children[victim].Begin()
	held := func() []string { return client.SMembers(t.Context(), fmt.Sprint("begun:p", victim)).Val() }
	require.NoError(t, testkit.Await(func() bool { return len(held()) == job.Goroutines }))
	f.begin()
	require.NoError(t, testkit.Await(func() bool { return client.HLen(t.Context(), "calls").Val() == fleetIDs }))
	require.NoError(t, f.children[victim].Process.Kill())
	r := f.reports(victim)
	_ = f.children[victim].Wait()
	require.Len(t, held(), job.Goroutines)
	require.Zero(t, r.Stats.LeaseLosses, "the machine is too slow for this lease")
	cfg := redisCfg(server.URL())
	cfg.Redis.KeyPrefix = "fleet"
	view := kv.For[fleetValue](openRedisStore(t, cfg, "docs"))
	sum, calls := fleetCalls(t, server)
	t.Logf("%d calls: %+v", sum, r)
	for id, n := range calls {
		v, err := view.Get(t.Context(), id)
		require.NoError(t, err)
		require.NotEqual(t, fmt.Sprint("p", victim), v.Author, id)
		want := 1
		if slices.Contains(held(), id) {
			want = 2
		}
		require.Equal(t, want, n, id)
	}
	require.Equal(t, fleetIDs+job.Goroutines, sum)
	require.Equal(t, (fleetProcesses-1)*8*fleetIDs, r.Right)
}

// With the server restarted in the middle, every caller gets a right answer
// or an error within its deadline, never a wrong value.
func TestFleetSurvivesARestart(t *testing.T) {
	server := redistest.Start(t, redistest.AppendFsyncAlways())
	job := fleetJobOn(server)
	job.Deadline = 20 * time.Second
	f := launch(t, fleetProcesses, job, samePrefix, nil)
	f.begin()
	require.NoError(t, testkit.Await(func() bool { return server.Client().HLen(t.Context(), "calls").Val() > fleetIDs/4 }))
	server.Kill()
	server.Restart()
	r := f.reports(nobody)
	sum, _ := fleetCalls(t, server)
	t.Logf("%d calls: %+v", sum, r)
	require.Zero(t, r.Wrong)
	require.Zero(t, r.Late)
	require.Equal(t, fleetProcesses*8*fleetIDs, r.Right+r.Failed)
	require.Positive(t, r.Right)
	cfg := redisCfg(server.URL())
	cfg.Redis.KeyPrefix = "fleet"
	s := openRedisStore(t, cfg, "docs")
	for _, id := range listed(t, s) {
		v, err := kv.For[fleetValue](s).Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, fleetAnswer(id, v.Author), v)
	}
}

// Workers who share a cache against workers with one each, on the same 1,000
// prompts: calls are halved with two, and quartered with four.
func TestFleetSavesCalls(t *testing.T) {
	prompts := 1000 / testkit.Stride()
	for _, workers := range []int{2, 4} {
		var calls [2]int
		for i, prefix := range []func(int) string{func(i int) string { return fmt.Sprint("own", i) }, samePrefix} {
			server := redistest.Start(t)
			job := fleetJobOn(server)
			job.IDs, job.AtOnce, job.Takes = prompts, 4, 5*time.Millisecond
			f := launch(t, workers, job, prefix, nil)
			began := time.Now()
			f.begin()
			r := f.reports(nobody)
			require.Equal(t, workers*8*prompts, r.Right)
			calls[i], _ = fleetCalls(t, server)
			t.Logf("%d workers, %s: %d calls, %v, hits %d, waits %d", workers, []string{"separate", "shared"}[i], calls[i],
				time.Since(began).Round(10*time.Millisecond), r.Stats.Hits, r.Stats.Waits)
		}
		require.Equal(t, calls[0], workers*calls[1])
	}
}
