package flock

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T, path string) *os.File {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestSecondDescriptorIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first := open(t, path)
	require.NoError(t, Lock(first))
	host, err := os.Hostname()
	require.NoError(t, err)
	start := time.Now()
	err = Lock(open(t, path))
	require.Less(t, time.Since(start), 50*time.Millisecond)
	var held *Held
	require.ErrorAs(t, err, &held)
	require.Contains(t, held.By, fmt.Sprintf("pid %d on %s since 2", os.Getpid(), host))
	require.NoError(t, Unlock(first))
	require.NoError(t, Lock(open(t, path)))
	require.FileExists(t, path)
}

// Holder names who has the lock, by a descriptor that may only read, and
// takes nothing.
func TestHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first := open(t, path)
	reader, err := os.Open(path)
	require.NoError(t, err)
	defer reader.Close()
	held, err := Holder(reader)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("not on this system")
	}
	require.NoError(t, err)
	require.Nil(t, held)
	require.NoError(t, Lock(first))
	held, err = Holder(reader)
	require.NoError(t, err)
	require.Contains(t, held.By, fmt.Sprintf("pid %d on ", os.Getpid()))
	require.NoError(t, Unlock(first))
	held, err = Holder(reader)
	require.NoError(t, err)
	require.Nil(t, held)
	require.NoError(t, Lock(open(t, path)), "asking takes nothing")
}

func TestHolderThatSaysNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first := open(t, path)
	require.NoError(t, Lock(first))
	for text, want := range map[string]string{
		"":                       "held by an unknown process",
		"\xff\xfe":               "held by ?",
		strings.Repeat("x", 999): "held by " + strings.Repeat("x", 256),
	} {
		require.NoError(t, first.Truncate(0))
		_, err := first.WriteAt([]byte(text), 0)
		require.NoError(t, err)
		require.EqualError(t, Lock(open(t, path)), want)
	}
}

func TestWhatCannotBeLocked(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, w.Close())
	err = Lock(r)
	var held *Held
	require.Error(t, err)
	require.NotErrorAs(t, err, &held)
}

// python runs a program with path as its argument.
func python(t *testing.T, path, program string) (output string, err error) {
	name, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	text, err := exec.Command(name, "-c", program, path).CombinedOutput()
	return string(text), err
}

func TestPythonIsKeptOut(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	f := open(t, path)
	try := func(call string) string {
		out, err := python(t, path, "import fcntl, sys\nf = open(sys.argv[1], 'r+')\ntry:\n  "+call+
			"(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n  print('free')\nexcept BlockingIOError:\n  print('held')\n")
		require.NoError(t, err, out)
		return strings.TrimSpace(out)
	}
	require.Equal(t, "free", try("fcntl.flock"))
	require.Equal(t, "free", try("fcntl.lockf"))
	require.NoError(t, Lock(f))
	require.Equal(t, "held", try("fcntl.flock"))
	require.Equal(t, "held", try("fcntl.lockf"))
}

func TestPythonKeepsUsOut(t *testing.T) {
	t.Parallel()
	name, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	for _, call := range []string{"flock", "lockf"} {
		path := filepath.Join(t.TempDir(), "lock")
		open(t, path)
		holder := exec.Command(name, "-c", "import fcntl, sys\nf = open(sys.argv[1], 'r+')\nfcntl."+call+
			"(f, fcntl.LOCK_EX)\nprint('locked', flush=True)\nsys.stdin.read()", path)
		in, err := holder.StdinPipe()
		require.NoError(t, err)
		out, err := holder.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, holder.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "locked\n", line)
		var held *Held
		require.ErrorAs(t, Lock(open(t, path)), &held, call)
		require.NoError(t, in.Close())
		require.NoError(t, holder.Wait())
		require.NoError(t, Lock(open(t, path)), call)
	}
}

// The storm: each of these processes tries to lock, works, and dies holding.
const (
	stormDir       = "FLOCK_TEST_STORM_DIR"
	stormProcesses = 8
	stormLives     = 25  // of each
	stormAttempts  = 100 // in each life
)

func TestStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("200 processes")
	}
	t.Parallel()
	dir := t.TempDir()
	var mu sync.Mutex
	tally := make(map[string]int)
	var wg sync.WaitGroup
	errs := make(chan error, stormProcesses)
	for range stormProcesses {
		wg.Go(func() {
			for range stormLives {
				if err := stormLife(dir, &mu, tally); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, stormProcesses*stormLives, tally["killed"])
	require.Equal(t, stormProcesses*stormLives*stormAttempts, tally["locked"]+tally["held"])
	require.FileExists(t, filepath.Join(dir, "lock"))
	t.Logf("%v", tally)
}

// stormLife runs a process, which kills itself while it holds the lock.
func stormLife(dir string, mu *sync.Mutex, tally map[string]int) error {
	child := exec.Command(os.Args[0], "-test.run=^TestStormChild$", "-test.timeout=60s")
	child.Env = append(os.Environ(), stormDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		what, n, _ := strings.Cut(lines.Text(), " ")
		count, err := strconv.Atoi(n)
		if err != nil {
			return errors.Join(fmt.Errorf("a child says %q", lines.Text()), child.Process.Kill(), child.Wait())
		}
		mu.Lock()
		tally[what] += count
		mu.Unlock()
	}
	_ = child.Wait() // It was killed.
	return nil
}

func TestStormChild(t *testing.T) {
	dir := os.Getenv(stormDir)
	if dir == "" {
		t.Skip("is run by TestStorm")
	}
	locked, held := 0, 0
	for locked+held < stormAttempts {
		if f := stormLock(dir); f != nil {
			locked++
			stormWork(dir)
			_ = Unlock(f)
		} else {
			held++
		}
		time.Sleep(10 * time.Microsecond) // Lets others in.
	}
	for stormLock(dir) == nil {
		time.Sleep(100 * time.Microsecond)
	}
	fmt.Printf("locked %d\nheld %d\nkilled 1\n", locked, held)
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "owner"), []byte("0"), 0o600))
	_ = self.Kill()
	select {}
}

func stormLock(dir string) *os.File {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	if err := Lock(f); err != nil {
		if held := (*Held)(nil); !errors.As(err, &held) {
			panic(err)
		}
		_ = f.Close()
		return nil
	}
	return f
}

// stormWork says what it must not if anybody else is at work.
func stormWork(dir string) {
	owner := filepath.Join(dir, "owner")
	me := strconv.Itoa(os.Getpid())
	if was, err := os.ReadFile(owner); err == nil && string(was) != "0" {
		fmt.Printf("overlap with %s\n", was)
	}
	write := func(text string) {
		if err := os.WriteFile(owner, []byte(text), 0o600); err != nil {
			fmt.Printf("error %v\n", err)
		}
	}
	write(me)
	for range 3 {
		if is, err := os.ReadFile(owner); err != nil || string(is) != me {
			fmt.Printf("overlap: %s, not %s\n", is, me)
		}
	}
	write("0")
}
