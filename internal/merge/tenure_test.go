package merge

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// A token says which process has the lease.
func TestHolder(t *testing.T) {
	pid, host := readHolder(newHolder())
	require.Equal(t, fmt.Sprint(os.Getpid()), pid)
	require.NotEmpty(t, host)
}
