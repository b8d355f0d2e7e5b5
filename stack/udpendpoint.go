package stack

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// A udpEndpoint is what a UDPConn stands on. It is not netstack's own endpoint,
// which allocates ten times for a datagram that comes and is answered, but has
// its place in netstack's tables of ports and endpoints beside those: netstack
// demultiplexes to it, tells it of ICMP errors, and routes what it sends.
//
//	HandlePacket -> in (datagramQueue) -> read
//	write -> out (sendBuffer), routes -> Route.WritePacket
//
// HandlePacket and HandleError come from goroutines that poll the device, also
// from one that is inside the socket's own read or write. They take no lock but
// in's.
type udpEndpoint struct {
	sock *socket

	// What follows is constant once the endpoint is in netstack's table.
	port    ports.Reservation // with no Networks if there is none
	flags   ports.Flags       // who may have the port besides
	id      gstack.TransportEndpointID
	entered bool          // it is in the table
	nic     tcpip.NICID   // the way to all destinations, if it is bound to one
	source  tcpip.Address // what datagrams are sent from, if it is bound to that
	peer    *gstack.Route // to whom it is connected; nil: nobody
	hash    uint32        // of the datagrams that it sends, see netdev's flows

	untold // by ICMP

	set    atomic.Pointer[sendOptions] // nil: none is set
	groups membership

	in     datagramQueue
	out    sendBuffer
	routes routeCache // guarded by sock.wr.mu
}

var _ gstack.TransportEndpoint = (*udpEndpoint)(nil)

// init readies e for a socket that is about to start.
func (e *udpEndpoint) init(s *Stack, k *socket) {
	e.sock = k
	e.hash = max(rand.Uint32(), 1) // 0 would mean none
	e.in.limit = tcpip.GetStackReceiveBufferLimits(s.ns).Default
	e.out.limit = tcpip.GetStackSendBufferLimits(s.ns).Default
	e.out.writer = &k.wr.parker
	e.routes.seed = rand.Uint64() | 1<<32 | 1 // far from 0 as a factor
}

// bind takes a local address: one of the stack's, or that of a group or network,
// which receives but is not sent from. If the port is 0, one is chosen.
// Precondition: sock.wr.mu is held.
func (e *udpEndpoint) bind(local tcpip.FullAddress, nets ...tcpip.NetworkProtocolNumber) tcpip.Error {
	ns := e.sock.stack.ns
	e.nic = local.NIC
	a := local.Addr
	shared := a == header.IPv4Broadcast || header.IsV4MulticastAddress(a) || header.IsV6MulticastAddress(a) ||
		ns.IsSubnetBroadcast(local.NIC, nets[0], a)
	if a.BitLen() != 0 && !shared {
		e.source = a
		if e.nic = e.sock.stack.interfaceOf(nets[0], a); e.nic == 0 {
			return &tcpip.ErrBadLocalAddress{}
		}
	}
	return e.reserve(local.Addr, local.Port, nets)
}

// reserve takes a port, or any if it is 0.
func (e *udpEndpoint) reserve(a tcpip.Address, port uint16, nets []tcpip.NetworkProtocolNumber) (terr tcpip.Error) {
	ns := e.sock.stack.ns
	e.id.LocalAddress = a
	e.port = ports.Reservation{Networks: nets, Transport: udp.ProtocolNumber, Addr: a, Port: port, Flags: e.flags}
	if e.id.LocalPort, terr = ns.ReservePort(ns.SecureRNG(), e.port, nil); terr == nil {
		e.port.Port = e.id.LocalPort
	} else {
		e.port.Networks = nil
	}
	return terr
}

// connect sets the peer; nobody else's datagrams are received. It takes a local
// address if bind has not. Preconditions: sock.wr.mu is held, enter was not
// called.
func (e *udpEndpoint) connect(to netip.AddrPort) tcpip.Error {
	r, terr := e.findRoute(to.Addr(), e.source, e.options())
	if terr != nil {
		return terr
	}
	e.peer = r
	e.id.RemoteAddress, e.id.RemotePort = r.RemoteAddress(), to.Port()
	if e.port.Networks != nil {
		return nil
	}
	return e.reserve(r.LocalAddress(), 0, []tcpip.NetworkProtocolNumber{r.NetProto()})
}

// enter has netstack deliver datagrams, which may come before it returns.
// Preconditions: sock.wr.mu is held, a local address was taken.
func (e *udpEndpoint) enter() tcpip.Error {
	e.entered = true
	terr := e.sock.stack.ns.RegisterTransportEndpoint(e.port.Networks, udp.ProtocolNumber, e.id, e, e.flags, 0)
	if terr != nil {
		e.entered = false
	}
	return terr
}

// localAddr returns the address to show: the wildcard of a family has none in
// netstack.
func (e *udpEndpoint) localAddr(family tcpip.NetworkProtocolNumber) netip.AddrPort {
	full := tcpip.FullAddress{Addr: e.id.LocalAddress, Port: e.id.LocalPort}
	if e.peer != nil {
		full.Addr = e.peer.LocalAddress()
	}
	return e.sock.stack.shownAddr(full, family)
}

// HandlePacket implements gstack.TransportEndpoint. It queues a datagram, of
// which it keeps a reference.
func (e *udpEndpoint) HandlePacket(id gstack.TransportEndpointID, pkt *gstack.PacketBuffer) {
	s := e.sock.stack
	h := header.UDP(pkt.TransportHeader().Slice())
	sound, summed := header.UDPValid(h, func() uint16 { return pkt.Data().Checksum() }, uint16(pkt.Data().Size()),
		pkt.NetworkProtocolNumber, id.RemoteAddress, id.LocalAddress, pkt.RXChecksumValidated)
	if !sound {
		s.udp.MalformedPacketsReceived.Increment()
		return
	}
	if !summed {
		s.udp.ChecksumErrors.Increment()
		return
	}
	if id.RemoteAddress == header.IPv6Any {
		return // nobody's datagram (RFC 4291, 2.5.2), and the answer would be for the stack
	}
	if !e.groups.admits(id.LocalAddress, id.RemoteAddress) {
		return // as if it had not come, as with Linux
	}
	s.udp.PacketsReceived.Increment()
	from := s.addrPort(tcpip.FullAddress{Addr: id.RemoteAddress, Port: h.SourcePort()})
	first, ok := e.in.push(pkt, from)
	if !ok {
		s.udp.ReceiveBufferErrors.Increment()
		s.droppedDatagrams.Add(1)
	}
	if first {
		e.sock.rd.wake()
	}
}

// HandleError implements gstack.TransportEndpoint. Like Linux, and like
// netstack, it has errors of connected sockets only, and only those that say that
// the next datagram will not arrive either.
func (e *udpEndpoint) HandleError(terr gstack.TransportError, _ *gstack.PacketBuffer) {
	if e.peer != nil && e.hear(terr) {
		e.sock.rd.wake()
		e.sock.wr.wake()
	}
}

// Abort implements gstack.TransportEndpoint. A Stack that is closed ends its
// sockets before it has netstack abort endpoints; it is for others that do.
func (e *udpEndpoint) Abort() {
	e.sock.halt(stopStack)
	e.withdraw()
}

// Wait implements gstack.TransportEndpoint.
func (*udpEndpoint) Wait() {}

// end implements ender.
func (e *udpEndpoint) end(bool) {
	e.withdraw()
	if e.peer != nil {
		e.peer.Release()
	}
	e.routes.release()
}

// withdraw takes e out of netstack's tables and drops what is queued.
func (e *udpEndpoint) withdraw() {
	if !e.in.close() {
		return
	}
	ns := e.sock.stack.ns
	for _, j := range e.groups.take() {
		e.sock.stack.leaveGroup(addrOf(j.group))
	}
	if e.entered {
		ns.UnregisterTransportEndpoint(e.port.Networks, udp.ProtocolNumber, e.id, e, e.flags, 0)
	}
	if e.port.Networks != nil {
		ns.ReleasePort(e.port)
	}
}
