package stack

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
)

// An icmpEndpoint is what an ICMPConn stands on: it is in netstack's table of
// endpoints once for each identifier that it has sent.
type icmpEndpoint struct {
	sock  *socket
	net   tcpip.NetworkProtocolNumber
	proto tcpip.TransportProtocolNumber
	local tcpip.Address // no bytes: any
	nic   tcpip.NICID
	peer  tcpip.Address // no bytes: anybody

	untold // by ICMP

	idents []uint16 // guarded by sock.wr.mu
	in     datagramQueue
}

var _ gstack.TransportEndpoint = (*icmpEndpoint)(nil)

// maxIdents is how many identifiers one may have: enough for a program that takes
// one for each host that it watches to notice that it should not.
const maxIdents = 64

// write sends an echo request. Precondition: sock.wr.mu is held.
func (e *icmpEndpoint) write(b []byte, to netip.Addr, how sendControl) tcpip.Error {
	request := byte(header.ICMPv4Echo)
	if e.proto == header.ICMPv6ProtocolNumber {
		request = byte(header.ICMPv6EchoRequest)
	}
	if len(b) < header.ICMPv4MinimumSize || b[0] != request || b[1] != 0 {
		return &tcpip.ErrInvalidOptionValue{}
	}
	if terr := e.failure(); terr != nil {
		return terr
	}
	source := e.local
	if how.source.IsValid() {
		source = tcpipAddr(how.source)
	}
	r, terr := e.route(to, source)
	if terr != nil {
		return terr
	}
	defer r.Release()
	if len(b) > int(^uint16(0))-header.IPv4MinimumSize {
		return &tcpip.ErrMessageTooLong{}
	}
	if terr := e.take(binary.BigEndian.Uint16(b[4:])); terr != nil {
		return terr
	}
	opts := gstack.PacketBufferOptions{ReserveHeaderBytes: int(r.MaxHeaderLength()) + header.ICMPv4MinimumSize}
	data := b[header.ICMPv4MinimumSize:]
	if len(data) != 0 {
		opts.Payload = buffer.MakeWithData(data)
	}
	pkt := gstack.NewPacketBuffer(opts)
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = e.proto
	h := pkt.TransportHeader().Push(header.ICMPv4MinimumSize)
	copy(h, b)
	h[2], h[3] = 0, 0
	sum := packet.Sum(data, packet.Sum(h, 0))
	if e.proto == header.ICMPv6ProtocolNumber {
		var addrs [32]byte
		src, dst := r.LocalAddress().As16(), r.RemoteAddress().As16()
		copy(addrs[:], src[:])
		copy(addrs[16:], dst[:])
		sum += packet.PseudoHeader6(&addrs, uint8(e.proto), len(b))
	}
	binary.BigEndian.PutUint16(h[2:], ^packet.Fold(sum))
	params := gstack.NetworkHeaderParams{Protocol: e.proto, TTL: r.DefaultTTL()}
	if how.ttl >= 0 {
		params.TTL = uint8(how.ttl)
	}
	if how.tos >= 0 {
		params.TOS = uint8(how.tos)
	}
	return r.WritePacket(params, pkt)
}

// route returns the way to a host from an address, or from any if that has no bytes.
// The caller releases it.
func (e *icmpEndpoint) route(to netip.Addr, source tcpip.Address) (*gstack.Route, tcpip.Error) {
	return e.sock.stack.findRoute(e.nic, source, to, true)
}

// take enters an identifier in netstack's table, if it is not there for us.
func (e *icmpEndpoint) take(ident uint16) tcpip.Error {
	if slices.Contains(e.idents, ident) {
		return nil
	}
	if len(e.idents) == maxIdents {
		return &tcpip.ErrNoBufferSpace{}
	}
	terr := e.sock.stack.ns.RegisterTransportEndpoint([]tcpip.NetworkProtocolNumber{e.net}, e.proto, e.id(ident), e, ports.Flags{}, 0)
	if terr == nil {
		e.idents = append(e.idents, ident)
	}
	return terr
}

func (e *icmpEndpoint) id(ident uint16) gstack.TransportEndpointID {
	return gstack.TransportEndpointID{LocalAddress: e.local, LocalPort: ident}
}

// HandlePacket implements gstack.TransportEndpoint: a message with one of the
// identifiers. Netstack has checked its checksum.
func (e *icmpEndpoint) HandlePacket(id gstack.TransportEndpointID, pkt *gstack.PacketBuffer) {
	h := pkt.TransportHeader().Slice()
	reply := byte(header.ICMPv4EchoReply)
	if e.proto == header.ICMPv6ProtocolNumber {
		reply = byte(header.ICMPv6EchoReply)
	}
	if len(h) == 0 || h[0] != reply {
		return // somebody's request with the same identifier
	}
	if e.peer.BitLen() != 0 && e.peer != id.RemoteAddress {
		return
	}
	from := e.sock.stack.addrPort(tcpip.FullAddress{Addr: id.RemoteAddress})
	first, ok := e.in.push(pkt, from)
	if !ok {
		e.sock.stack.droppedDatagrams.Add(1)
	}
	if first {
		e.sock.rd.wake()
	}
}

// HandleError implements gstack.TransportEndpoint, as that of UDP does.
func (e *icmpEndpoint) HandleError(terr gstack.TransportError, _ *gstack.PacketBuffer) {
	if e.peer.BitLen() != 0 && e.hear(terr) {
		e.sock.rd.wake()
	}
}

// Abort implements gstack.TransportEndpoint.
func (e *icmpEndpoint) Abort() { e.sock.halt(stopStack) }

// Wait implements gstack.TransportEndpoint.
func (*icmpEndpoint) Wait() {}

// end implements ender.
func (e *icmpEndpoint) end(bool) {
	for _, ident := range e.idents {
		e.sock.stack.ns.UnregisterTransportEndpoint([]tcpip.NetworkProtocolNumber{e.net}, e.proto, e.id(ident), e, ports.Flags{}, 0)
	}
	e.in.close()
}
