package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// DeliverRawPacket implements gstack.TransportDispatcher. It is called for each
// whole packet before netstack looks at it, and is where those ICMP errors are
// found of which netstack tells nobody: see isUndelivered. Packets that were put
// together of fragments come by here too: see emptyOversized.
func (d *guardedDispatcher) DeliverRawPacket(p tcpip.TransportProtocolNumber, pkt *gstack.PacketBuffer) {
	emptyOversized(pkt)
	d.TransportDispatcherWithDefaultHandlerResult.DeliverRawPacket(p, pkt)
	v6 := p == header.ICMPv6ProtocolNumber
	if !v6 && p != header.ICMPv4ProtocolNumber || v6 != (pkt.NetworkProtocolNumber == ipv6.ProtocolNumber) {
		return
	}
	e, ok := newICMPError(v6, pkt.TransportHeader().Slice())
	if !ok || !e.isUndelivered() || !soundICMP(v6, pkt) {
		return
	}
	own := pkt.Clone() // netstack looks at pkt afterwards
	defer own.DecRef()
	local, remote, trans, ok := quotedFlow(v6, own)
	if ok && d.g.ns.CheckLocalAddress(0, own.NetworkProtocolNumber, local) != 0 {
		d.quoted(local, remote, own.NetworkProtocolNumber, trans, e, own)
	}
}

// soundICMP checks the checksum of a message.
func soundICMP(v6 bool, pkt *gstack.PacketBuffer) bool {
	h, sum := pkt.TransportHeader().Slice(), pkt.Data().Checksum()
	if !v6 {
		return header.ICMPv4Checksum(h, sum) == header.ICMPv4(h).Checksum()
	}
	ip := header.IPv6(pkt.NetworkHeader().Slice())
	return header.ICMPv6(h).Checksum() == header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header: h, Src: ip.SourceAddress(), Dst: ip.DestinationAddress(),
		PayloadCsum: sum, PayloadLen: pkt.Data().Size(),
	})
}

// quotedFlow takes the IP header off the packet that an ICMP error quotes, and
// returns what it says. It reports false if there is no transport header behind
// it.
func quotedFlow(v6 bool, pkt *gstack.PacketBuffer) (local, remote tcpip.Address, p tcpip.TransportProtocolNumber, ok bool) {
	size := header.IPv4MinimumSize
	if v6 {
		size = header.IPv6MinimumSize
	}
	b, ok := pkt.Data().PullUp(size)
	if !ok {
		return local, remote, p, false
	}
	if v6 {
		h := header.IPv6(b)
		local, remote, p = h.SourceAddress(), h.DestinationAddress(), tcpip.TransportProtocolNumber(h.NextHeader())
	} else {
		h := header.IPv4(b)
		if size = int(h.HeaderLength()); size < header.IPv4MinimumSize || h.FragmentOffset() != 0 {
			return local, remote, p, false
		}
		local, remote, p = h.SourceAddress(), h.DestinationAddress(), h.TransportProtocol()
	}
	if _, ok = pkt.Data().Consume(size); ok && v6 {
		p, ok = skipExtensions(p, pkt)
	}
	return local, remote, p, ok
}

// maxExtensions is how many extension headers a quoted packet may have: more than
// RFC 8200 (4.1) has kinds of.
const maxExtensions = 8

// skipExtensions takes the extension headers, of which p is the first, off an IPv6
// packet, and returns what is behind them. It reports false if that is not the
// beginning of a transport header, or not there.
func skipExtensions(p tcpip.TransportProtocolNumber, pkt *gstack.PacketBuffer) (tcpip.TransportProtocolNumber, bool) {
	for range maxExtensions {
		size := header.IPv6FragmentHeaderSize // the least that there is
		h, ok := pkt.Data().PullUp(size)
		switch header.IPv6ExtensionHeaderIdentifier(p) {
		case header.IPv6HopByHopOptionsExtHdrIdentifier, header.IPv6RoutingExtHdrIdentifier, header.IPv6DestinationOptionsExtHdrIdentifier:
			if ok {
				size += int(h[1]) * 8
			}
		case header.IPv6AuthenticationExtHdrIdentifier: // RFC 4302: counted in 4 bytes
			if ok {
				size += int(h[1]) * 4
			}
		case header.IPv6FragmentExtHdrIdentifier:
			ok = ok && header.IPv6Fragment(h).FragmentOffset() == 0
		default:
			return p, true
		}
		if !ok {
			return p, false
		}
		p = tcpip.TransportProtocolNumber(h[0])
		if _, ok = pkt.Data().Consume(size); !ok {
			return p, false
		}
	}
	return p, false
}

// quoted is deliver, for what a message says that has come. What it says of TCP has
// to be about a segment that is under way.
func (d *guardedDispatcher) quoted(local, remote tcpip.Address, net tcpip.NetworkProtocolNumber, trans tcpip.TransportProtocolNumber, e *icmpError, pkt *gstack.PacketBuffer) {
	if trans == header.TCPProtocolNumber && !d.g.underWay(local, remote, pkt) {
		d.g.forgedErrors.Add(1)
		return
	}
	d.deliver(local, remote, net, trans, e, pkt)
}

// deliver tells the endpoint that has sent a packet of an error. The packet's data
// begins with the quoted transport header.
func (d *guardedDispatcher) deliver(local, remote tcpip.Address, net tcpip.NetworkProtocolNumber, trans tcpip.TransportProtocolNumber, e *icmpError, pkt *gstack.PacketBuffer) {
	if trans == header.TCPProtocolNumber && d.g.soften(local, remote, net, e, pkt) {
		return
	}
	if trans == header.UDPProtocolNumber && e.kind == gstack.PacketTooBigTransportError {
		d.g.tooLong(local, remote, net, e, pkt)
	}
	if trans != header.ICMPv4ProtocolNumber && trans != header.ICMPv6ProtocolNumber {
		d.TransportDispatcherWithDefaultHandlerResult.DeliverTransportError(local, remote, net, trans, e, pkt)
		return
	}
	// Netstack takes a request's identifier for the remote port.
	request := byte(header.ICMPv4Echo)
	if net != ipv4.ProtocolNumber {
		request = byte(header.ICMPv6EchoRequest)
	}
	h, ok := pkt.Data().PullUp(header.ICMPv4MinimumSize)
	if !ok || h[0] != request {
		return
	}
	id := gstack.TransportEndpointID{LocalAddress: local, LocalPort: binary.BigEndian.Uint16(h[4:]), RemoteAddress: remote}
	if ep := d.g.ns.FindTransportEndpoint(net, trans, id, pkt.NICID); ep != nil {
		ep.HandleError(e, pkt)
	}
}
