package packet

import (
	"encoding/binary"
	"math/bits"
)

// The portable loop. Carries ride through one chain of add-with-carry per
// block. A block cannot end with acc at its maximum and a carry as well (that
// state has only itself as predecessor), so adding the carry back never carries
// again.

// sumWords adds b to acc as little-endian 64-bit words, the last one padded
// with zeros.
func sumWords(b []byte, acc uint64) uint64 {
	var c uint64
	le := binary.LittleEndian
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		acc, c = bits.Add64(acc, le.Uint64(p[0:]), 0)
		acc, c = bits.Add64(acc, le.Uint64(p[8:]), c)
		acc, c = bits.Add64(acc, le.Uint64(p[16:]), c)
		acc, c = bits.Add64(acc, le.Uint64(p[24:]), c)
		acc, c = bits.Add64(acc, le.Uint64(p[32:]), c)
		acc, c = bits.Add64(acc, le.Uint64(p[40:]), c)
		acc, c = bits.Add64(acc, le.Uint64(p[48:]), c)
		acc, c = bits.Add64(acc, le.Uint64(p[56:]), c)
		acc += c
		b = b[64:]
	}
	if len(b) >= 32 {
		p := (*[32]byte)(b)
		acc, c = bits.Add64(acc, le.Uint64(p[0:]), 0)
		acc, c = bits.Add64(acc, le.Uint64(p[8:]), c)
		acc, c = bits.Add64(acc, le.Uint64(p[16:]), c)
		acc, c = bits.Add64(acc, le.Uint64(p[24:]), c)
		acc += c
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, le.Uint64(b), 0)
		acc += c
		b = b[8:]
	}
	if len(b) > 0 {
		acc, c = bits.Add64(acc, tail(b), 0)
		acc += c
	}
	return acc
}

// tail loads 1 to 7 bytes as the low end of a little-endian word.
func tail(b []byte) (w uint64) {
	le := binary.LittleEndian
	var shift uint
	if len(b) >= 4 {
		w = uint64(le.Uint32(b))
		b, shift = b[4:], 32
	}
	if len(b) >= 2 {
		w |= uint64(le.Uint16(b)) << shift
		b, shift = b[2:], shift+16
	}
	if len(b) >= 1 {
		w |= uint64(b[0]) << shift
	}
	return w
}
