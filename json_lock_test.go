//go:build unix

package kv_test

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/testkit"
)

const lockDir = "KV_TEST_LOCK_DIR"

func jsonFactory(t *testing.T, dir string, opts ...kv.Option) *kv.Factory {
	f, err := kv.NewFactory(killConfig(dir, kv.FsyncAlways), append(opts, quietly())...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestJSONLockChild has a namespace open until its input ends.
func TestJSONLockChild(t *testing.T) {
	dir := os.Getenv(lockDir)
	if dir == "" {
		t.Skip("is run by the tests of the lock")
	}
	s, err := kv.Open(t.Context(), killConfig(dir, kv.FsyncAlways), "t", quietly())
	require.NoError(t, err)
	require.NoError(t, s.Upsert(t.Context(), testkit.One("of the child", "1")))
	fmt.Println("open")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	require.NoError(t, s.Close())
}

// holder is a process that has the namespace t in dir open. It is killed, not
// closed, at the end.
func holder(t *testing.T, dir string) (kill func(), pid int) {
	child := exec.Command(os.Args[0], "-test.run=^TestJSONLockChild$")
	child.Env = append(os.Environ(), lockDir+"="+dir)
	_, err := child.StdinPipe()
	require.NoError(t, err)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	kill = sync.OnceFunc(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "open\n", line)
	return kill, child.Process.Pid
}

func TestJSONLockedByAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kill, pid := holder(t, dir)
	before := namesIn(t, dir)
	f := jsonFactory(t, dir)
	start := time.Now()
	_, err := f.Open(t.Context(), "t")
	require.Less(t, time.Since(start), 50*time.Millisecond)
	require.ErrorIs(t, err, kv.ErrLocked)
	host, hostErr := os.Hostname()
	require.NoError(t, hostErr)
	require.Contains(t, err.Error(), fmt.Sprintf("pid %d on %s since %s", pid, host, time.Now().UTC().Format("2006-01-")))

	reader, err := jsonFactory(t, dir, kv.WithReadOnly()).Open(t.Context(), "t")
	require.NoError(t, err)
	value, err := reader.Get(t.Context(), "of the child")
	require.NoError(t, err)
	require.Equal(t, "1", string(value))
	require.ErrorIs(t, reader.Upsert(t.Context(), testkit.One("a", "1")), kv.ErrInvalid)
	require.NoError(t, reader.Flush(t.Context()))
	require.NoError(t, reader.Close())
	require.Equal(t, before, namesIn(t, dir), "looking made files")

	kill()
	s, err := f.Open(t.Context(), "t")
	require.NoError(t, err)
	value, err = s.Get(t.Context(), "of the child")
	require.NoError(t, err)
	require.Equal(t, "1", string(value))
	require.NoError(t, s.Close())
	require.Equal(t, []string{"kv_store_t.json", "kv_store_t.lock"}, namesIn(t, dir))
}

func TestJSONLockedByAnotherFactory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := jsonFactory(t, dir), jsonFactory(t, dir)
	a, err := first.Open(t.Context(), "t")
	require.NoError(t, err)
	b, err := first.Open(t.Context(), "t")
	require.NoError(t, err)
	require.NoError(t, a.Upsert(t.Context(), testkit.One("x", "1")))
	value, err := b.Get(t.Context(), "x")
	require.NoError(t, err, "two stores of a factory share the files")
	require.Equal(t, "1", string(value))
	for _, s := range []kv.Store{a, b} {
		_, err = second.Open(t.Context(), "t")
		require.ErrorIs(t, err, kv.ErrLocked)
		require.NoError(t, s.Close())
	}
	s, err := second.Open(t.Context(), "t")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	other, err := second.Open(t.Context(), "t2")
	require.NoError(t, err, "another namespace has another lock")
	require.NoError(t, other.Close())
}

// TestJSONModes: what is made is for the user alone, whatever the umask. The
// umask is the process's, so that nothing may run beside this.
func TestJSONModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "deep", "er")
	s, err := kv.Open(t.Context(), killConfig(dir, kv.FsyncAlways), "t", quietly())
	require.NoError(t, err)
	expirer, _ := kv.As[kv.Expirer](s)
	require.NoError(t, expirer.UpsertTTL(t.Context(), testkit.One("x", "1"), time.Hour))
	require.NoError(t, s.Flush(t.Context()))
	require.NoError(t, s.Upsert(t.Context(), testkit.One("y", "1")))
	for _, name := range []string{"kv_store_t.json", "kv_store_t.lock", "kv_store_t.ttl", "kv_store_t.journal.2", ".", ".."} {
		info, err := os.Lstat(filepath.Join(dir, name))
		require.NoError(t, err)
		want := fs.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		require.Equal(t, want, info.Mode().Perm(), name)
	}
	require.NoError(t, s.Close())
}

// TestJSONNotAFile: what is not a regular file is refused, and not waited on.
func TestJSONNotAFile(t *testing.T) {
	t.Parallel()
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.WriteFile(elsewhere, []byte(`{"a":1}`), 0o600))
	for what, make := range map[string]func(path string) error{
		"symbolic link": func(path string) error { return os.Symlink(elsewhere, path) },
		"named pipe":    func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory":     func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		for _, name := range []string{"json", "lock", "ttl", "journal.1"} {
			dir := t.TempDir()
			require.NoError(t, make(filepath.Join(dir, "kv_store_t."+name)))
			done := testkit.InBackground(func() error {
				_, err := kv.Open(t.Context(), killConfig(dir, kv.FsyncAlways), "t", quietly())
				return err
			})
			select {
			case err := <-done:
				require.ErrorContains(t, err, "kv_store_t."+name)
				require.ErrorContains(t, err, "is a "+what)
			case <-time.After(10 * time.Second):
				require.Fail(t, "blocked by a "+what)
			}
		}
	}
	text, err := os.ReadFile(elsewhere)
	require.NoError(t, err)
	require.Equal(t, `{"a":1}`, string(text))
}

// TestJSONForeignChanges: a document file that another program changes while
// it is open is noticed, and left as that program left it.
func TestJSONForeignChanges(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"cut":     func(path string) error { return os.Truncate(path, 10) },
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"removed": os.Remove,
		"rewritten": func(path string) error {
			return os.WriteFile(path, []byte(`{"theirs": 1, "and": "so on and on"}`), 0o600)
		},
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".new", []byte(`{"theirs": 1}`), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "kv_store_t.json")
			require.NoError(t, os.WriteFile(path, []byte(`{"a": "aaaaaaaaaaaaa", "b": "bbbbbbbbbbbbb"}`), 0o600))
			f := jsonFactory(t, dir)
			s, err := f.Open(t.Context(), "t")
			require.NoError(t, err)
			require.NoError(t, change(path))
			theirs, theirErr := os.ReadFile(path)
			value, err := s.Get(t.Context(), "b")
			if err == nil { // The file that we have open is still there.
				require.Equal(t, `"bbbbbbbbbbbbb"`, string(value))
			} else {
				require.ErrorIs(t, err, kv.ErrCorrupt)
			}
			require.NoError(t, s.Flush(t.Context()), "nothing was written")
			require.NoError(t, s.Upsert(t.Context(), testkit.One("c", "1")))
			for range 3 {
				err = s.Flush(t.Context())
				require.ErrorIs(t, err, kv.ErrCorrupt)
				require.ErrorContains(t, err, path)
				require.NoError(t, s.Upsert(t.Context(), testkit.One("d", "1")))
			}
			require.ErrorIs(t, s.Close(), kv.ErrCorrupt)
			_, err = f.Open(t.Context(), "t")
			require.ErrorIs(t, err, kv.ErrCorrupt)
			require.ErrorContains(t, err, path)
			now, err := os.ReadFile(path)
			require.Equal(t, theirErr == nil, err == nil)
			require.Equal(t, string(theirs), string(now))
			require.Less(t, len(namesIn(t, dir)), 5, "failures must not pile up files: %v", namesIn(t, dir))
		})
	}
}

// TestJSONForeignChangeWhilePending: the writer died, and then somebody else
// changed the file that its journal continues.
func TestJSONForeignChangeWhilePending(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "kv_store_t.json")
	original := `{"a": 1}`
	require.NoError(t, os.WriteFile(path, []byte(original), 0o600))
	kill, _ := holder(t, dir)
	kill()
	require.NoError(t, os.WriteFile(path, []byte(`{"a": 2}`), 0o600))
	journal, err := os.ReadFile(filepath.Join(dir, "kv_store_t.journal.1"))
	require.NoError(t, err)
	f := jsonFactory(t, dir)
	for range 2 {
		_, err = f.Open(t.Context(), "t")
		require.ErrorIs(t, err, kv.ErrCorrupt)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, filepath.Join(dir, "kv_store_t.journal.1"))
	}
	after, err := os.ReadFile(filepath.Join(dir, "kv_store_t.journal.1"))
	require.NoError(t, err)
	require.Equal(t, journal, after)
	require.NoError(t, os.WriteFile(path, []byte(original), 0o600))
	s, err := f.Open(t.Context(), "t")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "{\n  \"a\": 1,\n  \"of the child\": 1\n}", string(text))
}

// TestJSONForkDoesNotKeepTheLock: a process that is being started has all
// open files until its own program runs, and must not have the lock.
func TestJSONForkDoesNotKeepTheLock(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = exec.Command("/bin/true").Run()
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	dir := t.TempDir()
	for range 200 {
		s, err := kv.Open(t.Context(), killConfig(dir, kv.FsyncNo), "t", quietly())
		require.NoError(t, err)
		require.NoError(t, s.Close())
		runtime.Gosched()
	}
	require.Equal(t, []string{"kv_store_t.lock"}, namesIn(t, dir))
	require.False(t, strings.Contains(strings.Join(namesIn(t, dir), " "), ".tmp"))
}
