package hostile

import (
	"encoding/binary"

	"github.com/afxnet/afxnet/internal/packet"
)

// Protocol and header numbers (IANA).
const (
	etherIPv4, etherARP, etherIPv6 = 0x0800, 0x0806, 0x86dd

	protoHop, protoICMP4, protoRouting, protoFragment  = 0, 1, 43, 44
	protoAuth, protoICMP6, protoNone, protoDestination = 51, 58, 59, 60
)

var be = binary.BigEndian

// ether appends an Ethernet header from the peer to the target.
func (g *Generator) ether(proto uint16) {
	g.buf = append(g.buf, g.link.Target[:]...)
	g.buf = append(g.buf, g.link.Peer[:]...)
	g.buf = be.AppendUint16(g.buf, proto)
}

const l3 = packet.EthernetLen // where the IP header starts

// header appends Ethernet and IP headers without options from f.Src to f.Dst
// and returns where the transport header starts. finish fills in the lengths.
func (g *Generator) header(f *Flow, proto uint8) (l4 int) {
	src, dst := f.Src.Addr(), f.Dst.Addr()
	if src.Is4() {
		g.ether(etherIPv4)
		s, d := src.As4(), dst.As4()
		g.buf = append(g.buf, 0x45, 0, 0, 0)
		g.buf = be.AppendUint16(g.buf, uint16(g.rng.Uint32()))
		g.buf = append(g.buf, 0x40, 0, 64, proto, 0, 0)
		g.buf = append(append(g.buf, s[:]...), d[:]...)
		return l3 + packet.IPv4Len
	}
	g.ether(etherIPv6)
	s, d := src.As16(), dst.As16()
	g.buf = append(g.buf, 0x60, 0, 0, 0, 0, 0, proto, 64)
	g.buf = append(append(g.buf, s[:]...), d[:]...)
	return l3 + packet.IPv6Len
}

func (g *Generator) is4() bool { return g.buf[l3]>>4 == 4 }

// lengths fills in the IP length, and for IPv4 the header's checksum.
func (g *Generator) lengths() {
	if !g.is4() {
		be.PutUint16(g.buf[l3+4:], uint16(len(g.buf)-l3-packet.IPv6Len))
		return
	}
	be.PutUint16(g.buf[l3+2:], uint16(len(g.buf)-l3))
	g.sum4()
}

// sum4 fills in the checksum of the IPv4 header.
func (g *Generator) sum4() {
	n := min(int(g.buf[l3]&15)*4, len(g.buf)-l3)
	if n < packet.IPv4Len {
		return
	}
	h := g.buf[l3 : l3+n]
	h[10], h[11] = 0, 0
	be.PutUint16(h[10:], ^packet.Fold(packet.Sum(h, 0)))
}

// sum fills in the checksum of what starts at l4, of which field is the offset.
func (g *Generator) sum(l4 int, proto uint8, field int) {
	body := g.buf[l4:]
	body[field], body[field+1] = 0, 0
	var s uint32
	switch {
	case g.is4() && proto == protoICMP4:
	case g.is4():
		s = packet.PseudoHeader4((*[8]byte)(g.buf[l3+12:]), proto, len(body))
	default:
		s = packet.PseudoHeader6((*[32]byte)(g.buf[l3+8:]), proto, len(body))
	}
	c := ^packet.Fold(packet.Sum(body, s))
	if c == 0 && proto == packet.ProtoUDP {
		c = 0xffff
	}
	be.PutUint16(body[field:], c)
}

// tcpHeader appends a TCP header with options, whose length is a multiple of 4.
func (g *Generator) tcpHeader(src, dst uint16, seq, ack uint32, flags uint8, window uint16, options []byte) {
	g.buf = be.AppendUint16(g.buf, src)
	g.buf = be.AppendUint16(g.buf, dst)
	g.buf = be.AppendUint32(g.buf, seq)
	g.buf = be.AppendUint32(g.buf, ack)
	g.buf = append(g.buf, byte(5+len(options)/4)<<4|byte(g.below(16))*b2i(g.one(8)), flags)
	g.buf = be.AppendUint16(g.buf, window)
	g.buf = be.AppendUint16(g.buf, 0)
	urgent := uint16(0)
	if flags&packet.URG != 0 {
		urgent = uint16(g.rng.Uint32())
	}
	g.buf = be.AppendUint16(g.buf, urgent)
	g.buf = append(g.buf, options...)
}

func b2i(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// udpHeader appends a UDP header for n bytes of data.
func (g *Generator) udpHeader(src, dst uint16, n int) {
	g.buf = be.AppendUint16(g.buf, src)
	g.buf = be.AppendUint16(g.buf, dst)
	g.buf = be.AppendUint16(g.buf, uint16(packet.UDPLen+n))
	g.buf = be.AppendUint16(g.buf, 0)
}
