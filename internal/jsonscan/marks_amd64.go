package jsonscan

import "unsafe"

const hasMarks = true

// marks has a bit for each byte of a block that is not a plain ASCII character
// of a string, the lowest for the first byte. SSE2 is all it takes, which every
// amd64 has.
//
//go:noescape
func marks(block *[blockSize]byte) uint64

// mostPrefetched is how much of a text Prefetch asks for. The processor itself
// notices where a longer one leads.
const mostPrefetched = 2 << 10

// Prefetch has the processor fetch the beginning of a text into its cache,
// without waiting for it. Whoever checks many small texts that are scattered
// over the memory, such as those of a map, waits for each otherwise.
func Prefetch[T ~string | ~[]byte](text T) {
	if len(text) > 0 {
		prefetch(unsafe.StringData(*(*string)(unsafe.Pointer(&text))), min(len(text), mostPrefetched))
	}
}

//go:noescape
func prefetch(p *byte, n int)
