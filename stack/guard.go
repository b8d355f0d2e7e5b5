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

// maxEmptyDatagrams is how many datagrams without data may wait on a port. A
// queued one costs about a kilobyte, and netstack charges a receive buffer for
// the data only: any number would fit.
const maxEmptyDatagrams = 4096

// A guard stands between netstack's IP and transport layers and keeps away what
// the latter takes and should not:
//
//   - ICMP messages that would make a path's MTU smaller than any is;
//   - datagrams without data, beyond a number;
//   - TCP segments that acknowledge what was never sent, or what was
//     acknowledged long ago: the peer does not send them.
type guard struct {
	// empty counts, by local port, the datagrams without data that wait to be
	// read. It is made when the first one comes. Sockets that share a port
	// share the count: one that is drained clears it.
	empty   atomic.Pointer[[1 << 16]atomic.Int32]
	dropped atomic.Uint64 // datagrams over maxEmptyDatagrams

	ledger ledger        // what acknowledgements may say
	forged atomic.Uint64 // segments with others, which were not delivered
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
	if !d.g.pass(p, pkt) {
		return gstack.TransportPacketHandled
	}
	return d.TransportDispatcherWithDefaultHandlerResult.DeliverTransportPacket(p, pkt)
}

// DeliverTransportError implements gstack.TransportDispatcher.
func (d *guardedDispatcher) DeliverTransportError(local, remote tcpip.Address, net tcpip.NetworkProtocolNumber, trans tcpip.TransportProtocolNumber, e gstack.TransportError, pkt *gstack.PacketBuffer) {
	if e.Kind() == gstack.PacketTooBigTransportError {
		least := uint32(leastPayload4)
		if net == header.IPv6ProtocolNumber {
			least = leastPayload6
		}
		if e.Info() < least {
			e = &tooBig{e, least}
		}
	}
	d.TransportDispatcherWithDefaultHandlerResult.DeliverTransportError(local, remote, net, trans, e, pkt)
}

// tooBig is a "packet too big" with another size.
type tooBig struct {
	gstack.TransportError
	size uint32 // bytes of IP payload
}

// Info implements tcpip.SockErrorCause.
func (e *tooBig) Info() uint32 { return e.size }

// pass tells whether a packet may go on to its endpoint.
func (g *guard) pass(p tcpip.TransportProtocolNumber, pkt *gstack.PacketBuffer) bool {
	switch p {
	case header.TCPProtocolNumber:
		g.screen(pkt)
	case header.UDPProtocolNumber:
		return g.admit(pkt)
	}
	return true
}

// admit tells whether a UDP datagram may go on.
func (g *guard) admit(pkt *gstack.PacketBuffer) bool {
	h := pkt.TransportHeader().Slice()
	if len(h) == 0 { // not parsed yet
		if pkt.Data().Size() != header.UDPMinimumSize {
			return true
		}
		h, _ = pkt.Data().PullUp(header.UDPMinimumSize)
	} else if pkt.Data().Size() != 0 {
		return true
	}
	if len(h) < header.UDPMinimumSize {
		return true // netstack's to refuse
	}
	t := g.empty.Load()
	if t == nil {
		g.empty.CompareAndSwap(nil, new([1 << 16]atomic.Int32))
		t = g.empty.Load()
	}
	if n := &t[header.UDP(h).DestinationPort()]; n.Add(1) > maxEmptyDatagrams {
		n.Add(-1)
		g.dropped.Add(1)
		return false
	}
	return true
}

// took says that an empty datagram was read on a port.
func (g *guard) took(port uint16) {
	t := g.empty.Load()
	if t == nil {
		return
	}
	for n := &t[port]; ; {
		if v := n.Load(); v <= 0 || n.CompareAndSwap(v, v-1) {
			return
		}
	}
}

// drained says that nothing waits on a port any more: all that netstack did not
// queue after all is forgotten.
func (g *guard) drained(port uint16) {
	if t := g.empty.Load(); t != nil {
		t[port].Store(0)
	}
}
