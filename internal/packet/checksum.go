package packet

import (
	"encoding/binary"
	"math/bits"
)

// The Internet checksum (RFC 1071) does not depend on byte order but for one
// swap at the end, so words are loaded little endian, 8 bytes at a time, which
// is one plain load on the machines that matter and right on all others.

// Sum adds the bytes of b to a partial sum, as big-endian 16-bit words. An odd
// last byte is padded with zero; see Swap for what may follow it.
func Sum(b []byte, sum uint32) uint32 {
	var acc uint64
	if len(b) >= vectorMin && hasVector {
		n := len(b) &^ (vectorBlock - 1)
		acc = sumVector(&b[0], n)
		b = b[n:]
	}
	return sum + uint32(foldSwap(sumWords(b, acc)))
}

// CopySum copies src to dst and returns Sum(src, sum). It panics if dst is
// shorter than src; the two must not overlap. With vector code it is one pass.
// Without, it is two: the compiler's one-carry loop is no faster for being
// fused (measured at 1448 and 8948 bytes), memmove is faster than storing
// word by word, and the second pass finds a frame in the L1 cache.
func CopySum(dst, src []byte, sum uint32) uint32 {
	var acc uint64
	dst = dst[:len(src)]
	if len(src) >= vectorMin && hasVector {
		n := len(src) &^ (vectorBlock - 1)
		acc = copySumVector(&dst[0], &src[0], n)
		dst, src = dst[n:], src[n:]
	}
	copy(dst, src)
	return sum + uint32(foldSwap(sumWords(src, acc)))
}

// Fold reduces a partial sum to 16 bits. The value to send in a checksum field
// is ^Fold(sum); data that includes its checksum is intact if Fold is 0xffff.
func Fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}

// Swap prepares a sum for what follows a piece of odd length, which starts in
// the middle of a word: sum = Swap(Sum(piece, sum)). A sum that has been swapped
// an odd number of times needs one more Swap at the end (RFC 1071, 2.B).
func Swap(sum uint32) uint32 {
	return uint32(bits.ReverseBytes16(Fold(sum)))
}

// sumParts adds n bytes of parts, each of which of sums by itself, to the sum of
// what precedes them, an odd number of bytes if odd is set, and folds it.
func sumParts(sum uint32, odd bool, parts [][]byte, n int, of func([]byte) uint32) uint32 {
	for _, p := range parts {
		p = p[:min(len(p), n)]
		n -= len(p)
		s := of(p)
		if odd {
			s = Swap(s)
		}
		sum += s
		odd = odd != (len(p)&1 != 0)
	}
	return uint32(Fold(sum))
}

// SumParts adds the next n bytes of parts to the sum of what precedes them, an odd
// number of bytes if odd is set, and folds it.
func SumParts(sum uint32, odd bool, parts [][]byte, n int) uint32 {
	return sumParts(sum, odd, parts, n, sumOf)
}

// sumOf is Sum of one piece.
func sumOf(b []byte) uint32 { return Sum(b, 0) }

// PseudoHeader4 sums the pseudo-header of a TCP or UDP packet over IPv4 (RFC
// 9293, 3.1): addrs is the 8 bytes of source and destination address as they
// are in the header, length the bytes from the transport header on.
func PseudoHeader4(addrs *[8]byte, proto uint8, length int) uint32 {
	acc := uint64(binary.BigEndian.Uint32(addrs[0:])) +
		uint64(binary.BigEndian.Uint32(addrs[4:])) +
		uint64(proto) + uint64(length)
	return uint32(fold64(acc))
}

// PseudoHeader6 is PseudoHeader4 for IPv6 (RFC 8200, 8.1): addrs is the 32 bytes
// of source and destination address.
func PseudoHeader6(addrs *[32]byte, proto uint8, length int) uint32 {
	acc, c := bits.Add64(binary.BigEndian.Uint64(addrs[0:]), binary.BigEndian.Uint64(addrs[8:]), 0)
	acc, c = bits.Add64(acc, binary.BigEndian.Uint64(addrs[16:]), c)
	acc, c = bits.Add64(acc, binary.BigEndian.Uint64(addrs[24:]), c)
	acc, c = bits.Add64(acc, uint64(proto)+uint64(length), c)
	return uint32(fold64(acc + c))
}

// fold64 folds a ones-complement sum of 64-bit words to 16 bits.
func fold64(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc>>16 + acc)
}

// foldSwap folds a sum of little-endian words to one of big-endian ones.
func foldSwap(acc uint64) uint16 { return bits.ReverseBytes16(fold64(acc)) }
