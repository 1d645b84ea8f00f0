package jsonscan

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// marks and skipPlain agree on every byte, at every place in a block.
func TestMarks(t *testing.T) {
	if !hasMarks {
		t.Skip("this system has no marks")
	}
	for at := range blockSize {
		for c := range 256 {
			block := [blockSize]byte([]byte(strings.Repeat("x", blockSize)))
			block[at] = byte(c)
			want := uint64(0)
			if !plain[c] {
				want = 1 << at
			}
			require.Equal(t, want, marks(&block), "byte %#x at %d", c, at)
		}
	}
	var all [blockSize]byte
	require.Equal(t, ^uint64(0), marks(&all))
}
