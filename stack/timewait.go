package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// opens tells whether a TCP header is of a segment that begins a connection.
func opens(h header.TCP) bool {
	const all = header.TCPFlagSyn | header.TCPFlagAck | header.TCPFlagRst | header.TCPFlagFin
	return h.Flags()&all == header.TCPFlagSyn
}

// reopen makes way for a packet of TCP if it is a SYN.
func (g *guard) reopen(pkt *gstack.PacketBuffer) {
	h := header.TCP(pkt.TransportHeader().Slice())
	if !complete(h) || !opens(h) || !sound(h, pkt) {
		return
	}
	net, id := pkt.NetworkProtocolNumber, idOf(pkt)
	g.makeWay(net, id, g.ns.FindTransportEndpoint(net, tcp.ProtocolNumber, id, nicID), h)
}

// idOf returns who a TCP packet is for.
func idOf(pkt *gstack.PacketBuffer) gstack.TransportEndpointID {
	ip, h := pkt.Network(), header.TCP(pkt.TransportHeader().Slice())
	return gstack.TransportEndpointID{
		LocalAddress: ip.DestinationAddress(), LocalPort: h.DestinationPort(),
		RemoteAddress: ip.SourceAddress(), RemotePort: h.SourcePort(),
	}
}

// makeWay lets a SYN, which has come for id and so for held, begin a connection between the ends
// of an earlier one that is in TIME-WAIT here, unless its timestamp says that it is
// older (RFC 6191, 2, as Linux does in net/ipv4/tcp_minisocks.c). Netstack itself
// asks for a sequence number above the last of the earlier connection and ignores
// the SYN otherwise, for up to a minute. The clock that a host's first sequence
// numbers follow is no faster than 16 MB a second (RFC 6528 in Linux), so that is
// what a peer gets that has sent a lot and comes back from the same port.
//
// A peer may come back within one tick of its timestamps, a millisecond mostly.
// Linux answers such a SYN with an acknowledgement, the peer that with a reset, and
// that ends TIME-WAIT; here the SYN does. At worst it is a repetition of the one
// that the earlier connection began with, which the peer refuses.
//
// The earlier connection's endpoint is only taken out of the demultiplexer. Its
// owner, if it still has one, reads what it has received, and it ends as it would
// have. Without a listener, nothing is done. makeWay tells whether it was: the SYN
// is for another endpoint then.
func (g *guard) makeWay(net tcpip.NetworkProtocolNumber, id gstack.TransportEndpointID, held gstack.TransportEndpoint, h header.TCP) bool {
	ep, ok := held.(*tcp.Endpoint)
	if !ok || ep.EndpointState() != tcp.StateTimeWait {
		return false
	}
	opts := header.ParseSynOptions(h[header.TCPMinimumSize:], false)
	if !opts.TS {
		return false
	}
	at := gstack.TransportEndpointID{LocalAddress: id.LocalAddress, LocalPort: id.LocalPort}
	ln, ok := g.ns.FindTransportEndpoint(net, tcp.ProtocolNumber, at, nicID).(*tcp.Endpoint)
	if !ok || ln.EndpointState() != tcp.StateListen {
		return false
	}
	if !g.takeOut(net, id, ep, opts.TSVal) {
		return false
	}
	ep.SocketOptions().SetKeepAlive(false) // a probe would reach the new connection
	return true
}

// takeOut takes an endpoint in TIME-WAIT out of the demultiplexer for a SYN with a
// timestamp. It reports false if it must not.
func (g *guard) takeOut(net tcpip.NetworkProtocolNumber, id gstack.TransportEndpointID, ep *tcp.Endpoint, stamp uint32) bool {
	ep.LockUser()
	defer ep.UnlockUser()
	// With the lock held, an endpoint in this state is still registered.
	if ep.EndpointState() != tcp.StateTimeWait || ep.SendTSOk && int32(stamp-ep.RecentTS) < 0 {
		return false
	}
	// It has the flags of the listener it came from, and the port manager lets
	// those share the port (SO_REUSEADDR).
	nets := []tcpip.NetworkProtocolNumber{net}
	g.ns.StartTransportEndpointCleanup(nets, tcp.ProtocolNumber, id, ep, ports.Flags{TupleOnly: true}, 0)
	return true
}

// endTimeWaits ends the connections in TIME-WAIT that have made way: netstack,
// which is being closed, waits for them.
func endTimeWaits(ns *gstack.Stack) {
	for _, tep := range ns.CleanupEndpoints() {
		if ep, ok := tep.(*tcp.Endpoint); ok && ep.EndpointState() == tcp.StateTimeWait {
			ep.Abort()
		}
	}
}
