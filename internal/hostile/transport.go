package hostile

import "github.com/afxnet/afxnet/internal/packet"

// far is farther from the next sequence number than any window reaches, in
// bytes: netstack's largest is 16 MiB.
const far = 64 << 20

// segment makes a segment in good form for an established flow.
func (g *Generator) segment(f *Flow) (reset bool) {
	l4 := g.header(f, packet.ProtoTCP)
	if g.one(4) {
		g.buf[l3+1] = byte(g.rng.Uint32()) // TOS, or traffic class and flow label
	}
	flags, seq, ack, n := uint8(packet.ACK), f.Next, f.SendMax, 0
	window := max(f.Window, 64)
	most := g.link.MTU - (l4 - l3) - packet.TCPLen - 40
	noise := uint8(g.rng.Uint32()) & (packet.PSH | packet.URG | packet.ECE | packet.CWR)
	switch g.rng.IntN(10) {
	case 0: // data that is there already, also with a FIN
		n = 1 + g.below(most)
		seq -= uint32(n+1) + g.rng.Uint32N(1<<20)
		flags |= noise | uint8(g.rng.IntN(2))*packet.FIN
	case 1: // data far ahead
		n = g.below(most)
		seq += far + g.rng.Uint32N(1<<30)
		flags |= noise | uint8(g.rng.IntN(2))*packet.FIN
	case 2, 3: // acknowledgements of anything, windows of anything
		seq += g.rng.Uint32N(window)
		flags |= noise
	case 4: // a duplicate ACK, as if something were lost
	case 5: // in the window, without ACK
		seq += g.rng.Uint32N(window)
		n = g.below(most)
		flags = noise | uint8(g.rng.IntN(2))*packet.FIN
	case 6: // a new connection in the middle of an old one
		n = g.below(most) * int(b2i(g.one(4)))
		seq += g.around(window)
		flags = packet.SYN | noise | uint8(g.rng.IntN(2))*packet.ACK | uint8(b2i(g.one(8)))*packet.FIN
	case 7: // a reset that is not the one, in the window or out of it
		seq += 1 + g.rng.Uint32N(window-1)
		if g.one(2) {
			seq = f.Next + far + g.rng.Uint32N(1<<31)
		}
		n = g.below(most) * int(b2i(g.one(8)))
		flags = packet.RST | noise | uint8(g.rng.IntN(2))*packet.ACK | uint8(b2i(g.one(8)))*packet.SYN
	case 8: // keepalive, of 0 or 1 bytes
		seq, n = seq-1, g.below(2)
	case 9:
		if reset = f.Sacrifice && g.one(32); reset {
			flags = packet.RST | uint8(g.rng.IntN(2))*packet.ACK
		}
	}
	if g.one(2) {
		ack = g.rng.Uint32()
	} else if g.one(2) {
		ack += g.around(1 << 20)
	}
	wnd := uint16(g.rng.Uint32())
	if g.one(16) {
		wnd = 0
	}
	g.tcpHeader(f.Src.Port(), f.Dst.Port(), seq, ack, flags, wnd, g.tcpOptions(f, flags))
	g.buf = append(g.buf, g.bytes(n)...)
	g.lengths()
	g.sum(l4, packet.ProtoTCP, 16)
	return reset
}

// forged makes data or a FIN in good form and within the window, with an
// acknowledgement that the peer cannot have sent.
func (g *Generator) forged(f *Flow) {
	l4 := g.header(f, packet.ProtoTCP)
	flags := packet.ACK | uint8(g.rng.Uint32())&(packet.PSH|packet.URG|packet.ECE|packet.CWR)
	n := g.below(g.link.MTU - (l4 - l3) - packet.TCPLen - 40)
	if n == 0 || g.one(2) {
		flags |= packet.FIN
	}
	seq := f.Next
	switch g.rng.IntN(4) {
	case 0, 1: // exactly what is next
	case 2:
		seq += g.rng.Uint32N(max(f.Window, 64))
	case 3: // from before it into the window
		seq -= uint32(g.below(n))
	}
	least := max(f.Offered, 1<<16)
	ack := f.SendMax + 1
	switch g.rng.IntN(4) {
	case 0: // a little too new
		ack += g.rng.Uint32N(1 << 16)
	case 1: // a little too old
		ack = f.SendMax - least - 1 - g.rng.Uint32N(1<<16)
	default:
		ack += g.rng.Uint32N(-least - 1)
	}
	g.tcpHeader(f.Src.Port(), f.Dst.Port(), seq, ack, flags, uint16(g.rng.Uint32()), g.tcpOptions(f, flags))
	g.buf = append(g.buf, g.bytes(n)...)
	g.lengths()
	g.sum(l4, packet.ProtoTCP, 16)
}

// around returns a distance that may be negative, of less than n.
func (g *Generator) around(n uint32) uint32 { return g.rng.Uint32N(2*n) - n }

// tcpOptions returns options: none, true ones, lies, or rubbish.
func (g *Generator) tcpOptions(f *Flow, flags uint8) []byte {
	var o [40]byte
	b := o[:0]
	switch g.rng.IntN(6) {
	case 0, 1, 2: // the usual timestamp
		b = append(b, 1, 1, 8, 10)
		b = be.AppendUint32(b, g.rng.Uint32())
		b = be.AppendUint32(b, g.rng.Uint32())
	case 3: // SACK blocks, also upside down
		k := 1 + g.rng.IntN(4)
		b = append(b, 1, 1, 5, byte(2+8*k))
		for range 2 * k {
			b = be.AppendUint32(b, f.SendMax+g.around(1<<16))
		}
	case 4: // what belongs into a SYN
		b = append(b, 2, 4, byte(g.rng.Uint32()), byte(g.rng.Uint32()), 3, 3, byte(g.rng.Uint32()), 4, 2, 1, 1, 1)
	case 5:
		if flags&packet.RST != 0 || !g.one(8) {
			break
		}
		b = append(b, g.bytes(4*g.rng.IntN(11))...)
	}
	return b
}

// datagram makes a datagram in good form.
func (g *Generator) datagram(f *Flow) {
	l4 := g.header(f, packet.ProtoUDP)
	n := g.below(g.link.MTU - (l4 - l3) - packet.UDPLen + 1)
	if g.one(8) {
		n = 0
	}
	g.udpHeader(f.Src.Port(), f.Dst.Port(), n)
	g.buf = append(g.buf, g.bytes(n)...)
	g.lengths()
	if g.is4() && g.one(8) {
		return // without a checksum
	}
	g.sum(l4, packet.ProtoUDP, 6)
}

// harmless makes a frame of the flow that its peer could have sent, and that
// says nothing new. It returns where the transport header starts.
func (g *Generator) harmless(f *Flow, n int) (l4 int) {
	if !f.TCP {
		l4 = g.header(f, packet.ProtoUDP)
		g.udpHeader(f.Src.Port(), f.Dst.Port(), n)
		g.buf = append(g.buf, g.bytes(n)...)
		g.lengths()
		g.sum(l4, packet.ProtoUDP, 6)
		return l4
	}
	l4 = g.header(f, packet.ProtoTCP)
	g.tcpHeader(f.Src.Port(), f.Dst.Port(), f.Next-uint32(n)-1, f.SendMax, packet.ACK, 1<<15, nil)
	g.buf = append(g.buf, g.bytes(n)...)
	g.lengths()
	g.sum(l4, packet.ProtoTCP, 16)
	return l4
}
