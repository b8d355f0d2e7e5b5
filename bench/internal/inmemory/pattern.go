package inmemory

import (
	"bytes"
	"math/rand/v2"
)

// period is the length of the pattern that is sent over and over: a prime, so
// that a block, a segment or a window that is lost, sent twice or moved shows.
const period = 65521

// pattern is random data of that period, long enough for a Write or a Read at
// any place in it.
var pattern = func() []byte {
	b := make([]byte, period+max(maxSize, readSize))
	random := rand.NewChaCha8([32]byte{1})
	random.Read(b[:period]) //nolint:errcheck // never fails
	for n := period; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
	return b
}()

// patternAt returns n bytes from offset on of the endless pattern. They must
// not be changed.
func patternAt(offset uint64, n int) []byte {
	at := int(offset % period)
	return pattern[at : at+n : at+n]
}

// firstDifference returns the index of the first byte of b that is not the
// pattern's at offset, or -1.
func firstDifference(b []byte, offset uint64) int {
	want := patternAt(offset, len(b))
	if bytes.Equal(b, want) {
		return -1
	}
	for i := range b {
		if b[i] != want[i] {
			return i
		}
	}
	return -1
}
