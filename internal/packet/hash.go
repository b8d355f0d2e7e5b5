package packet

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// secret keys the flow hash, so that a peer cannot choose ports that fall into
// one bucket. It is never written after start, and never shown: a hash must not
// leave the process.
var secret = func() (s [6]uint64) {
	var b [8 * len(s)]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(b[8*i:]) | 1
	}
	return s
}()

// mix multiplies to 128 bits and folds: the step of wyhash, and of Go's own map
// hash where there are no AES instructions.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// rest packs what a hash covers besides the addresses.
func rest(proto uint8, src, dst uint16) uint64 {
	return uint64(proto)<<32 | uint64(src)<<16 | uint64(dst)
}

// hash4 takes source and destination address as 8 bytes, little endian.
func hash4(addrs uint64, proto uint8, info *Info) uint32 {
	h := mix(addrs^secret[0], rest(proto, info.SrcPort, info.DstPort)^secret[1])
	return uint32(mix(h^secret[2], secret[3]))
}

// hash6 takes source and destination address as they are in the header.
func hash6(addrs *[32]byte, proto uint8, info *Info) uint32 {
	le := binary.LittleEndian
	h := mix(le.Uint64(addrs[0:])^secret[0], le.Uint64(addrs[8:])^secret[1]) ^
		mix(le.Uint64(addrs[16:])^secret[2], le.Uint64(addrs[24:])^secret[3])
	return uint32(mix(h^secret[4], rest(proto, info.SrcPort, info.DstPort)^secret[5]))
}

// FlowHash returns the Hash of packets from src to dst, proto being ProtoTCP or
// ProtoUDP: for tables that are filled before the first packet comes. An IPv4
// address mapped to IPv6 counts as IPv4; both addresses are of one family.
func FlowHash(proto uint8, src, dst netip.AddrPort) uint32 {
	info := Info{SrcPort: src.Port(), DstPort: dst.Port()}
	s, d := src.Addr().Unmap(), dst.Addr().Unmap()
	if s.Is4() && d.Is4() {
		s4, d4 := s.As4(), d.As4()
		addrs := uint64(binary.LittleEndian.Uint32(d4[:]))<<32 | uint64(binary.LittleEndian.Uint32(s4[:]))
		return hash4(addrs, proto, &info)
	}
	s16, d16 := s.As16(), d.As16()
	var addrs [32]byte
	copy(addrs[:16], s16[:])
	copy(addrs[16:], d16[:])
	return hash6(&addrs, proto, &info)
}
