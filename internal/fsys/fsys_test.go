package fsys

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A directory that was made, and those above it, are found after a crash: the
// parent of each is synced, from above.
func TestNewDirectoriesAreSynced(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	path := filepath.Join(top, "a", "b", "c")
	var synced []string
	err := makeAll(path, func(dir string) error {
		synced = append(synced, dir)
		return nil
	})
	require.NoError(t, err)
	require.DirExists(t, path)
	require.Equal(t, []string{top, filepath.Join(top, "a"), filepath.Join(top, "a", "b")}, synced)

	require.NoError(t, makeAll(path, func(string) error { return errors.New("there is nothing to sync") }))
	failed := errors.New("EIO")
	require.ErrorIs(t, makeAll(filepath.Join(path, "d"), func(string) error { return failed }), failed)
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
