package hostile

import "github.com/afxnet/afxnet/internal/packet"

func (g *Generator) noise() {
	if !g.one(3) {
		g.ether([]uint16{etherIPv4, etherIPv6, etherARP, 0x8100, 0x88a8, uint16(g.rng.Uint32())}[g.rng.IntN(6)])
	}
	g.buf = append(g.buf, g.bytes(g.below(g.link.MTU))...)
	if len(g.buf) > l3 && g.one(2) {
		g.buf[l3] = []byte{0x45, 0x46, 0x4f, 0x60}[g.rng.IntN(4)]
	}
}

// spoil makes a frame of a flow and breaks it.
func (g *Generator) spoil(f *Flow, c Class) {
	l4 := g.harmless(f, 1+g.below(200))
	switch c {
	case Truncated:
		g.buf = g.buf[:g.rng.IntN(len(g.buf))]
	case Checksums:
		// One word changes by less than its size: no sum stays the same.
		at := l4 + 6
		if f.TCP {
			at = l4 + 16
		}
		if g.is4() && g.one(2) {
			at = l3 + 10
		}
		v := be.Uint16(g.buf[at:])
		if v == 0xffff { // the other zero
			v = 0
		}
		be.PutUint16(g.buf[at:], uint16((uint32(v)+1+g.rng.Uint32N(0xfffd))%0xffff))
		if !f.TCP && be.Uint16(g.buf[l4+6:]) == 0 {
			be.PutUint16(g.buf[l4+6:], 1)
		}
	case Lengths:
		switch g.rng.IntN(4) {
		case 0:
			at := l3 + 4
			if g.is4() {
				at = l3 + 2
			}
			be.PutUint16(g.buf[at:], uint16(g.rng.Uint32()))
		case 1:
			g.buf[l3] = byte(g.rng.Uint32())
		case 2:
			if f.TCP {
				g.buf[l4+12] = byte(g.rng.Uint32())
			} else {
				be.PutUint16(g.buf[l4+4:], uint16(g.rng.Uint32()))
			}
		case 3:
			g.buf = append(g.buf, g.bytes(1+g.below(64))...) // behind the packet
			if f.TCP {
				g.buf[l4+12] = byte(g.rng.IntN(5)) << 4
			} else {
				be.PutUint16(g.buf[l4+4:], uint16(g.rng.IntN(8)))
			}
		}
		if g.is4() {
			g.sum4()
		}
	}
}

// options puts IPv4 options or IPv6 extension headers before a harmless packet.
func (g *Generator) options(f *Flow) {
	l4 := g.harmless(f, g.below(64))
	inner := append([]byte(nil), g.buf[l4:]...)
	if g.is4() {
		var o []byte
		for len(o) < 40 && !g.one(4) {
			typ := []byte{0, 1, 7, 68, 131, 137, 148, byte(g.rng.Uint32())}[g.rng.IntN(8)]
			n := g.rng.IntN(12)
			o = append(append(o, typ, byte(n)), g.bytes(max(n-2, 0))...)
		}
		o = append(o, 0, 0, 0)
		o = o[:min(len(o)&^3, 40)]
		g.buf[l3] = byte(0x45 + len(o)/4)
		g.buf = append(append(g.buf[:l3+packet.IPv4Len], o...), inner...)
		g.lengths()
		return
	}
	proto := g.buf[l3+6]
	at := l3 + 6 // of the next header field
	g.buf = g.buf[:l3+packet.IPv6Len]
	for range g.rng.IntN(12) {
		next := []byte{protoHop, protoRouting, protoFragment, protoAuth, protoDestination, protoNone, 135, 253}[g.rng.IntN(8)]
		g.buf[at] = next
		at = len(g.buf)
		n := g.rng.IntN(4)
		if g.one(16) {
			n = g.rng.IntN(256) // past the end
		}
		g.buf = append(g.buf, 0, byte(n))
		g.buf = append(g.buf, g.bytes(8*min(n, 3)+6)...)
		if next == protoFragment && g.one(2) {
			clear(g.buf[at+2 : at+4]) // an atomic one
		}
	}
	g.buf[at] = proto
	g.buf = append(g.buf, inner...)
	g.lengths()
}

// fragment makes one fragment of a datagram for the flow, rarely one that
// completes it.
func (g *Generator) fragment(f *Flow) {
	l4 := g.harmless(f, 8+g.below(600))
	id := uint16(g.rng.IntN(64))
	if g.one(4) {
		id = uint16(g.rng.Uint32())
	}
	payload := append([]byte(nil), g.buf[l4:]...)
	proto := uint8(packet.ProtoUDP)
	if f.TCP {
		proto = packet.ProtoTCP
	}
	offset, n := 8*g.rng.IntN(16), 8*(1+g.rng.IntN(64))
	switch g.rng.IntN(4) {
	case 0:
		offset = 8 * g.rng.IntN(8192) // past 65535 together with n
	case 1:
		n = 8 // tiny
	case 2:
		offset = 0
	}
	if g.one(16) {
		n = 1 + g.rng.IntN(64)
	}
	more := !g.one(3)
	part := payload[min(offset, len(payload)):]
	part = part[:min(n, len(part))]
	part = append(append([]byte(nil), part...), g.bytes(n-len(part))...)
	g.buf = g.buf[:l4]
	field := uint16(offset / 8)
	if g.is4() {
		if more {
			field |= 0x2000
		}
		if g.one(16) {
			field |= 0x4000
		}
		be.PutUint16(g.buf[l3+4:], id)
		be.PutUint16(g.buf[l3+6:], field)
	} else {
		g.buf[l3+6] = protoFragment
		field <<= 3
		if more {
			field |= 1
		}
		g.buf = append(g.buf, proto, byte(g.rng.Uint32())*b2i(g.one(8)), byte(field>>8), byte(field))
		g.buf = be.AppendUint32(g.buf, uint32(id))
	}
	g.buf = append(g.buf, part...)
	g.lengths()
}

// stranger makes what no flow expects.
func (g *Generator) stranger(f *Flow) {
	s := *f
	switch g.rng.IntN(4) {
	case 0, 1: // SYNs for the listener, and segments for it and for closed ports
		if g.one(2) {
			s.Src = addrPort(g.stranded(s.Src.Addr()), uint16(g.rng.Uint32()))
		} else {
			s.Src = addrPort(s.Src.Addr(), uint16(g.rng.Uint32())|1024)
		}
		port := g.link.Listen
		if g.one(3) {
			port = uint16(g.rng.Uint32())
		}
		flags := uint8(packet.SYN)
		if g.one(3) {
			flags = uint8(g.rng.Uint32())
		}
		l4 := g.header(&s, packet.ProtoTCP)
		g.tcpHeader(s.Src.Port(), port, g.rng.Uint32(), g.rng.Uint32(), flags, uint16(g.rng.Uint32()), g.tcpOptions(f, flags))
		g.lengths()
		g.sum(l4, packet.ProtoTCP, 16)
		if s.Src == f.Src && port == f.Dst.Port() {
			g.buf[l4+16] ^= 0xff // it would be a flow's after all
		}
	case 2: // sources that cannot be
		s.Src = addrPort(g.impossible(&s), s.Src.Port())
		if g.one(4) {
			s.Src = s.Dst
		}
		g.harmless(&s, g.below(64))
	case 3: // protocols that nobody speaks
		proto := uint8(g.rng.Uint32())
		for proto == packet.ProtoTCP || proto == packet.ProtoUDP {
			proto++
		}
		g.header(&s, proto)
		g.buf = append(g.buf, g.bytes(g.below(200))...)
		g.lengths()
	}
}
