package jsonscan

const hasMarks = true

// marks has a bit for each byte of a block that is not a plain ASCII character
// of a string, the lowest for the first byte. SSE2 is all it takes, which every
// amd64 has.
//
//go:noescape
func marks(block *[blockSize]byte) uint64
