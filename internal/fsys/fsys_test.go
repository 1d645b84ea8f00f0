package fsys

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// recordingDirs are those of the system, whose syncs are written down.
type recordingDirs struct {
	osDirs
	synced *[]string
	err    error
}

func (d recordingDirs) Sync(path string) error {
	*d.synced = append(*d.synced, path)
	return d.err
}

// A directory that was made, and those above it, are found after a crash: the
// parent of each is synced, from above, and that of the one that was there.
func TestNewDirectoriesAreSynced(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	path := filepath.Join(top, "a", "b", "c")
	var synced []string
	require.NoError(t, MakeAll(recordingDirs{synced: &synced}, path))
	require.DirExists(t, path)
	require.Equal(t, []string{filepath.Dir(top), top, filepath.Join(top, "a"), filepath.Join(top, "a", "b")}, synced)

	failed := errors.New("EIO")
	require.ErrorIs(t, MakeAll(recordingDirs{synced: &synced, err: failed}, filepath.Join(path, "d")), failed)
}

func TestOpenMakesDirectories(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b")
	_, err := Open(path, false)
	require.ErrorIs(t, err, os.ErrNotExist)
	d, err := Open(path, true)
	require.NoError(t, err)
	require.NoError(t, d.Close())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	file := filepath.Join(path, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(file, true)
	require.Error(t, err)
}
