package stack

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Least path MTUs, less the IP header. Netstack believes an ICMP message that
// says the path takes 0 bytes, and sends segments of one byte from then on;
// anybody who knows the ports of a connection can forge one.
const (
	// 552 is Linux's net.ipv4.route.min_pmtu.
	leastPayload4 = 552 - header.IPv4MinimumSize
	// Every IPv6 link takes 1280 (RFC 8200, 5), and nobody shall go below
	// (RFC 8201, 4).
	leastPayload6 = header.IPv6MinimumMTU - header.IPv6MinimumSize
)

// A guard stands between netstack's IP and transport layers and keeps away what
// the latter takes and should not:
//
//   - ICMP messages that would make a path's MTU smaller than any is, and those
//     about TCP segments that are not under way;
//   - TCP segments that acknowledge what was never sent, or what was
//     acknowledged long ago: the peer does not send them;
//   - the sequence numbers of answers to SYN cookies that are not of the first byte.
//
// And it lets in what the latter does not take and should: SYNs of peers that
// come back while the earlier connection is in TIME-WAIT.
type guard struct {
	ns     *gstack.Stack // set before the first packet
	ledger ledger        // what acknowledgements may say
	forged atomic.Uint64 // segments with others, which were not delivered

	forgedErrors atomic.Uint64 // ICMP errors about segments that are not under way

	paths pathMTUs // of datagrams
}

// A guardedDispatcher is the NIC as an IP endpoint sees it.
type guardedDispatcher struct {
	gstack.TransportDispatcherWithDefaultHandlerResult
	g *guard
}

// protect returns d behind the guard, or d itself if it is of another shape than
// the one known here. A nil guard lets everything pass.
func (g *guard) protect(d gstack.TransportDispatcher) gstack.TransportDispatcher {
	if inner, ok := d.(gstack.TransportDispatcherWithDefaultHandlerResult); ok && g != nil {
		return &guardedDispatcher{inner, g}
	}
	return d
}

// DeliverTransportPacket implements gstack.TransportDispatcher.
func (d *guardedDispatcher) DeliverTransportPacket(p tcpip.TransportProtocolNumber, pkt *gstack.PacketBuffer) gstack.TransportPacketDisposition {
	if p == header.TCPProtocolNumber {
		d.g.reopen(pkt)
		d.g.screen(pkt, pkt.TransportHeader().Slice(), nil)
	}
	return d.TransportDispatcherWithDefaultHandlerResult.DeliverTransportPacket(p, pkt)
}

// DeliverTransportError implements gstack.TransportDispatcher. What the message
// says is read from its header again, for netstack has one kind of error for many.
func (d *guardedDispatcher) DeliverTransportError(local, remote tcpip.Address, net tcpip.NetworkProtocolNumber, trans tcpip.TransportProtocolNumber, from gstack.TransportError, pkt *gstack.PacketBuffer) {
	v6 := net == header.IPv6ProtocolNumber
	var e *icmpError
	ok, tell := false, d.quoted
	if p := pkt.TransportProtocolNumber; p == header.ICMPv4ProtocolNumber || p == header.ICMPv6ProtocolNumber {
		e, ok = newICMPError(v6, pkt.TransportHeader().Slice())
	}
	if !ok { // a packet of our own, whose next hop did not answer
		e, ok = newICMPError(v6, []byte{from.Type(), from.Code(), 7: 0})
		tell = d.deliver
	} else if v6 { // netstack knows one extension header of the packet that is quoted
		trans, ok = skipExtensions(trans, pkt)
	}
	if !ok {
		return
	}
	if e.kind == gstack.PacketTooBigTransportError {
		least := uint32(leastPayload4)
		if v6 {
			least = leastPayload6
		}
		e.info = max(from.Info(), least)
	}
	tell(local, remote, net, trans, e, pkt)
}
