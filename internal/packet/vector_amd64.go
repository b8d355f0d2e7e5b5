//go:build !purego

package packet

import "golang.org/x/sys/cpu"

const (
	vectorBlock = 64 // bytes of one turn of the loop
	// vectorMin is the length in bytes from which the vector code wins over
	// the loop of checksum_words.go (BenchmarkSum, BenchmarkCopySum).
	vectorMin = 128
)

// hasVector is never written after start.
var hasVector = cpu.X86.HasAVX2

// sumVector returns the sum of the n bytes at p as little-endian 32-bit words.
// n is a positive multiple of vectorBlock.
//
//go:noescape
func sumVector(p *byte, n int) uint64

// copySumVector copies n bytes from src to dst and returns their sumVector.
//
//go:noescape
func copySumVector(dst, src *byte, n int) uint64
