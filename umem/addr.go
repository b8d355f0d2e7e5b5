package umem

import (
	"iter"
	"math/bits"
)

// Addr is a position in a Region: an offset in bytes from its start, as the
// kernel's descriptors use it.
type Addr uint64

// Desc is an RX or TX descriptor, laid out as struct xdp_desc
// (linux/if_xdp.h, 4.18).
type Desc struct {
	Addr    Addr   // first byte of the packet
	Len     uint32 // bytes of the packet
	Options uint32 // OptionContinues, OptionTXMetadata
}

// OptionContinues is XDP_PKT_CONTD (6.6): the packet goes on in the next
// descriptor.
const OptionContinues = 1 << 0

// Continues tells whether the packet goes on in the next descriptor.
func (d Desc) Continues() bool { return d.Options&OptionContinues != 0 }

// Packets yields the packets that descs hold, each as its one or more
// descriptors. If the last one has no end, it is what there is of it. Ranging
// over it allocates nothing.
func Packets(descs []Desc) iter.Seq[[]Desc] {
	return func(yield func([]Desc) bool) {
		for len(descs) > 0 {
			n := 1
			for n < len(descs) && descs[n-1].Continues() {
				n++
			}
			if !yield(descs[:n:n]) {
				return
			}
			descs = descs[n:]
		}
	}
}

// KernelHeadroom is XDP_PACKET_HEADROOM (linux/bpf.h): the bytes the kernel
// leaves free at the start of every chunk it receives into.
const KernelHeadroom = 256

// MaxPacket returns the longest packet in bytes, Ethernet header included, that
// the kernel can receive into one chunk. Longer ones take several, this many
// bytes in each but the last.
func (r *Region) MaxPacket() int { return r.chunkSize - KernelHeadroom - r.headroom }

// Frame returns the start of the chunk that a lies in. a must be inside the
// region.
func (r *Region) Frame(a Addr) Addr { return r.number(a) * Addr(r.chunkSize) }

// number returns the number of a's chunk. For every a outside the region it is
// the number of chunks or more.
func (r *Region) number(a Addr) Addr {
	hi, _ := bits.Mul64(uint64(a), r.inverse)
	return Addr(hi)
}

// inverseOf returns what number multiplies with instead of dividing by a chunk
// size, which need not be a power of two: 2^64/size, rounded up. The quotient is
// exact for a < 2^64/size: a*inverse/2^64 is too large by a/2^64 at most, and
// 1/size is what is missing to the next integer at least.
func inverseOf(size int) uint64 { return ^uint64(0)/uint64(size) + 1 }

// unalignedOffsetShift is XSK_UNALIGNED_BUF_OFFSET_SHIFT (linux/if_xdp.h, 5.4):
// in a region of unaligned chunks the kernel gives the start of a chunk, and in
// the upper bits how far behind it the packet begins.
const unalignedOffsetShift = 48

// Resolve returns the position that an address from the RX ring means. In a
// region of aligned chunks it is the address itself.
func (r *Region) Resolve(a Addr) Addr {
	if !r.unaligned {
		return a
	}
	return a&(1<<unalignedOffsetShift-1) + a>>unalignedOffsetShift
}

// Check tells whether d names at least one byte and lies in one chunk of the
// region. What comes out of a ring is checked with it before anything else.
func (r *Region) Check(d Desc) bool {
	return d.Len != 0 && d.Addr < Addr(len(r.mem)) && d.Addr-r.Frame(d.Addr)+Addr(d.Len) <= Addr(r.chunkSize)
}

// Bytes returns the bytes of d, or nil if d fails Check. The slice is only
// valid while the caller owns the frame; its capacity ends where it ends, so
// that append cannot run into the next chunk.
func (r *Region) Bytes(d Desc) []byte {
	if !r.Check(d) {
		return nil
	}
	end := d.Addr + Addr(d.Len)
	return r.mem[d.Addr:end:end]
}

// Chunk returns the whole chunk that a lies in, or nil outside the region. Same
// rules as Bytes.
func (r *Region) Chunk(a Addr) []byte {
	if a >= Addr(len(r.mem)) {
		return nil
	}
	start := r.Frame(a)
	end := start + Addr(r.chunkSize)
	return r.mem[start:end:end]
}
