//go:build !amd64 || purego

package packet

// No vector code: the loop of checksum_words.go does all of it.
const (
	vectorMin   = 0
	vectorBlock = 1
	hasVector   = false
)

func sumVector(*byte, int) uint64            { return 0 }
func copySumVector(_, _ *byte, _ int) uint64 { return 0 }
