//go:build !amd64

package jsonscan

// Elsewhere skipPlain does the work.
const hasMarks = false

func marks(*[blockSize]byte) uint64 { panic("jsonscan: there are no marks") }

// Prefetch does nothing on this system.
func Prefetch[T ~string | ~[]byte](T) {}
