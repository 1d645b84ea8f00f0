package crashfs

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/fsys"
)

func create(t *testing.T, d *FS, name, text string) fsys.File {
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte(text), 0)
	require.NoError(t, err)
	return f
}

func content(d *FS, name string) string {
	text, ok := d.Bytes(name)
	if !ok {
		return "no file"
	}
	return string(text)
}

func TestBothSyncsAreNeeded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, dir bool
		want      string
	}{{false, false, "no file"}, {true, false, "no file"}, {false, true, ""}, {true, true, "text"}} {
		d := New()
		f := create(t, d, "a", "text")
		if c.file {
			require.NoError(t, f.Sync())
		}
		if c.dir {
			require.NoError(t, d.Sync())
		}
		require.Equal(t, c.want, content(d.Crash(Nothing, 0), "a"))
		require.Equal(t, "text", content(d.Crash(Everything, 0), "a"))
		killed := d.Crash(Process, 0)
		require.Equal(t, "text", content(killed, "a"))
		require.Equal(t, c.want, content(killed.Crash(Nothing, 0), "a"), "a killed process syncs nothing")
	}
}

func TestFailedSyncLosesForGood(t *testing.T) {
	t.Parallel()
	d := New()
	f := create(t, d, "a", "old")
	require.NoError(t, f.Sync())
	require.NoError(t, d.Sync())
	_, err := f.WriteAt([]byte("new"), 0)
	require.NoError(t, err)
	d.SetHook(func(Op) error { return syscall.EIO })
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	d.SetHook(nil)
	require.NoError(t, f.Sync())
	require.Equal(t, "new", content(d, "a"))
	require.Equal(t, "old", content(d.Crash(Everything, 0), "a"))
}

func TestFaults(t *testing.T) {
	t.Parallel()
	d := New()
	f := create(t, d, "a", "12345678")
	d.SetHook(func(Op) error { return Short{syscall.ENOSPC} })
	n, err := f.WriteAt([]byte("abcdefgh"), 0)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, 4, n)
	require.Equal(t, "abcd5678", content(d, "a"))
	d.SetHook(func(Op) error { return ErrLie })
	require.NoError(t, f.Truncate(1))
	require.NoError(t, d.Rename("a", "b"))
	require.Equal(t, []string{"a"}, d.Names())
	d.SetHook(nil)
	require.NoError(t, f.Close())
	require.Error(t, f.Sync())
	require.Zero(t, d.Handles())
}

// TestRandom: of two files and one rename, all that may be left is left for
// some seed, and nothing else.
func TestRandom(t *testing.T) {
	t.Parallel()
	old, text := strings.Repeat("o", 3*sectorSize), strings.Repeat("n", 3*sectorSize)
	d := New()
	f := create(t, d, "a", old)
	require.NoError(t, f.Sync())
	require.NoError(t, d.Sync())
	_, err := f.WriteAt([]byte(text), 0)
	require.NoError(t, err)
	create(t, d, "b", "")
	require.NoError(t, d.Rename("a", "c"))
	for _, mode := range []Mode{Random, Reordered} {
		contents, names := make(map[string]bool), make(map[string]bool)
		for seed := range uint64(2000) {
			after := d.Crash(mode, seed)
			list := strings.Join(after.Names(), " ")
			names[list] = true
			name := "a"
			if strings.Contains(list, "c") {
				name = "c"
			}
			got := content(after, name)
			require.Len(t, got, 3*sectorSize)
			sectors := ""
			for at := 0; at < len(got); at += sectorSize {
				sectors += got[at : at+1]
			}
			contents[sectors] = true
			require.Equal(t, content(d.Crash(mode, seed), name), got, "a seed is one outcome")
		}
		require.Len(t, contents, 8, "each of three sectors")
		want := map[string]bool{"a": true, "a b": true, "b c": true}
		if mode == Reordered {
			want["c"] = true
		}
		require.Equal(t, want, names)
	}
}
