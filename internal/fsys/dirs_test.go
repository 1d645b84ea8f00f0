//go:build unix

package fsys_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv/internal/crashfs"
	"github.com/ngraf/kv/internal/fsys"
)

// A working directory, once it is there for us, is there after a crash of the
// machine, whatever came before: an attempt of which any operation failed, or
// a process that was killed in the middle of it.
func TestNewDirectoriesSurviveACrash(t *testing.T) {
	t.Parallel()
	const path = "/srv/kv/data"
	for n := 1; ; n++ {
		over := false
		for _, killed := range []bool{false, true} {
			tree := crashfs.NewTree()
			tree.SetHook(func(op crashfs.Op) error {
				if op.N == n || killed && op.N > n {
					return syscall.EIO
				}
				return nil
			})
			err := fsys.MakeAll(tree, path)
			over = err == nil
			tree.SetHook(nil)
			if killed {
				tree = tree.Crash(crashfs.Process, 0)
			}
			require.NoError(t, fsys.MakeAll(tree, path))
			survives(t, tree, path, fmt.Sprintf("operation %d failed, killed: %v", n, killed))
		}
		if over {
			return
		}
	}
}

func survives(t *testing.T, tree *crashfs.Tree, path, what string) {
	t.Helper()
	for _, mode := range []crashfs.Mode{crashfs.Process, crashfs.Nothing, crashfs.Everything, crashfs.Random, crashfs.Reordered} {
		for seed := range uint64(20) {
			_, err := tree.Crash(mode, seed).Stat(path)
			require.NoError(t, err, "%s, mode %d, seed %d", what, mode, seed)
		}
	}
}

// Without the syncs the rig loses the directory.
func TestDirectoriesAreLostWithoutSyncs(t *testing.T) {
	t.Parallel()
	for _, unsynced := range []string{"/", "/srv", "/srv/kv"} {
		tree := crashfs.NewTree()
		for _, path := range []string{"/srv", "/srv/kv", "/srv/kv/data"} {
			require.NoError(t, tree.Mkdir(path, 0o700))
		}
		for _, path := range []string{"/", "/srv", "/srv/kv"} {
			if path != unsynced {
				require.NoError(t, tree.Sync(path))
			}
		}
		_, err := tree.Crash(crashfs.Nothing, 0).Stat("/srv/kv/data")
		require.Error(t, err, unsynced)
		_, err = tree.Crash(crashfs.Everything, 0).Stat("/srv/kv/data")
		require.NoError(t, err, unsynced)
	}
}
