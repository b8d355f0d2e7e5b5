package hostile

import (
	"net/netip"

	"github.com/afxnet/afxnet/internal/packet"
)

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// stranded returns an address of the peer's /24 or /64 that nobody has, most
// likely.
func (g *Generator) stranded(a netip.Addr) netip.Addr {
	if a.Is4() {
		b := a.As4()
		b[3] = byte(3 + g.rng.IntN(250))
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	be.PutUint64(b[8:], g.rng.Uint64()|1<<63)
	return netip.AddrFrom16(b)
}

// impossible returns a source address that no packet may have.
func (g *Generator) impossible(f *Flow) netip.Addr {
	all := []netip.Addr{
		netip.IPv6Unspecified(), netip.IPv6Loopback(), netip.MustParseAddr("ff02::1"),
		netip.MustParseAddr("::ffff:10.0.0.2"), f.Dst.Addr(),
	}
	if f.Src.Addr().Is4() {
		all = []netip.Addr{
			netip.IPv4Unspecified(), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("224.0.0.1"),
			netip.MustParseAddr("255.255.255.255"), f.Dst.Addr(),
		}
	}
	return all[g.rng.IntN(len(all))]
}

// quote appends what the target could have sent, as an ICMP error quotes it.
func (g *Generator) quote(f *Flow) {
	start := len(g.buf)
	src, dst := f.Dst, f.Src
	proto := uint8(packet.ProtoUDP)
	if f.TCP {
		proto = packet.ProtoTCP
	}
	if src.Addr().Is4() {
		s, d := src.Addr().As4(), dst.Addr().As4()
		g.buf = append(g.buf, 0x45, 0, 0x05, 0xdc, 0, 1, 0x40, 0, 63, proto, 0, 0)
		g.buf = append(append(g.buf, s[:]...), d[:]...)
		h := g.buf[start:]
		be.PutUint16(h[10:], ^packet.Fold(packet.Sum(h, 0)))
	} else {
		s, d := src.Addr().As16(), dst.Addr().As16()
		g.buf = append(g.buf, 0x60, 0, 0, 0, 0x05, 0xb4, proto, 63)
		g.buf = append(append(g.buf, s[:]...), d[:]...)
	}
	g.buf = be.AppendUint16(g.buf, src.Port())
	g.buf = be.AppendUint16(g.buf, dst.Port())
	seq := f.SendMax
	if g.one(2) {
		seq = g.rng.Uint32()
	}
	g.buf = be.AppendUint32(g.buf, seq)
	g.buf = append(g.buf, g.bytes(g.below(64))...)
	if g.one(8) {
		g.buf = g.buf[:start+g.below(len(g.buf)-start)]
	}
}

// icmpError makes an error about a packet of the flow, from anybody.
func (g *Generator) icmpError(f *Flow) {
	s := *f
	if g.one(2) {
		s.Src = addrPort(g.stranded(s.Src.Addr()), 0)
	}
	info := uint32(g.rng.IntN(3000)) // an MTU, where there is one
	if g.one(4) {
		info = g.rng.Uint32()
	}
	if f.Src.Addr().Is4() {
		l4 := g.header(&s, protoICMP4)
		typ := []byte{3, 3, 3, 3, 4, 5, 11, 12}[g.rng.IntN(8)]
		code := byte(g.rng.IntN(16))
		if typ == 3 && g.one(3) {
			code = 4 // fragmentation needed
		}
		g.buf = append(g.buf, typ, code, 0, 0)
		g.buf = be.AppendUint32(g.buf, info)
		g.quote(f)
		g.lengths()
		g.sum(l4, protoICMP4, 2)
		return
	}
	l4 := g.header(&s, protoICMP6)
	g.buf = append(g.buf, byte(1+g.rng.IntN(5)), byte(g.rng.IntN(8)), 0, 0)
	g.buf = be.AppendUint32(g.buf, info)
	g.quote(f)
	g.lengths()
	g.sum(l4, protoICMP6, 2)
}

// icmpOther makes requests, replies and group management.
func (g *Generator) icmpOther(f *Flow) {
	s := *f
	if g.one(3) {
		s.Src = addrPort(g.stranded(s.Src.Addr()), 0)
	}
	if s.Src.Addr().Is4() {
		l4 := g.header(&s, protoICMP4)
		g.buf = append(g.buf, []byte{0, 8, 8, 8, 13, 15, 17, byte(g.rng.Uint32())}[g.rng.IntN(8)], byte(g.rng.IntN(3)), 0, 0)
		g.buf = append(g.buf, g.bytes(4+g.below(g.link.MTU-100))...)
		g.lengths()
		g.sum(l4, protoICMP4, 2)
		if g.one(8) { // IGMP has the same checksum
			g.buf[l3+9] = 2
			g.sum4()
		}
		return
	}
	l4 := g.header(&s, protoICMP6)
	g.buf = append(g.buf, []byte{128, 128, 129, 130, 131, 132, 143, byte(g.rng.Uint32())}[g.rng.IntN(8)], byte(g.rng.IntN(3)), 0, 0)
	g.buf = append(g.buf, g.bytes(4+g.below(g.link.MTU-100))...)
	g.lengths()
	g.sum(l4, protoICMP6, 2)
}

// neighbor makes ARP and neighbour discovery: lies, floods, and forms that are
// wrong.
func (g *Generator) neighbor(f *Flow) {
	who := f.Src.Addr()
	if g.one(2) {
		who = g.stranded(who)
	}
	mac := g.link.Peer
	if !g.one(4) {
		copy(mac[:], g.bytes(6))
	}
	if who.Is4() {
		g.ether(etherARP)
		if g.one(2) {
			copy(g.buf, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		}
		s, d := who.As4(), f.Dst.Addr().As4()
		if g.one(4) {
			d = s // gratuitous
		}
		g.buf = append(g.buf, 0, 1, 8, 0, 6, 4, 0, byte(1+g.rng.IntN(2)))
		g.buf = append(append(g.buf, mac[:]...), s[:]...)
		g.buf = append(append(g.buf, g.bytes(6)...), d[:]...)
		if g.one(8) {
			g.buf[l3+g.rng.IntN(8)] ^= byte(1 + g.rng.IntN(255))
		}
		return
	}
	s := *f
	s.Src = addrPort(who, 0)
	l4 := g.header(&s, protoICMP6)
	if !g.one(8) {
		g.buf[l3+7] = 255
	}
	typ := []byte{133, 134, 135, 136, 137}[g.rng.IntN(5)]
	g.buf = append(g.buf, typ, 0, 0, 0, byte(g.rng.Uint32()), 0, 0, 0)
	target := who.As16()
	if typ == 135 || g.one(8) {
		target = f.Dst.Addr().As16()
	}
	g.buf = append(g.buf, target[:]...)
	if typ == 137 {
		d := g.stranded(who).As16()
		g.buf = append(g.buf, d[:]...)
	}
	for range g.rng.IntN(3) {
		g.buf = append(g.buf, byte(1+g.rng.IntN(3)), byte(1))
		g.buf = append(g.buf, mac[:]...)
	}
	if g.one(8) {
		g.buf = append(g.buf, byte(g.rng.IntN(40)), byte(g.rng.IntN(3)))
	}
	g.lengths()
	g.sum(l4, protoICMP6, 2)
}
