package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A softError is what an ICMP error has said of a TCP connection that exists. As
// with Linux it does not end the connection, for the network may recover, but is
// the reason to give if the connection ends because nobody answers (tcp_write_err
// in net/ipv4/tcp_timer.c). Netstack keeps it as the connection's last error, which
// it promotes when a timer gives up.
type softError struct {
	toldError
	flow uint64 // the ledger's hash of the connection
	seq  uint32 // of the segment that the message quotes
}

// soften keeps an ICMP error for the connection whose segment it quotes: pkt's data
// begins with the TCP header. It reports false if that is for netstack to do: a dial
// ends, whatever the error says, and a smaller path MTU is obeyed.
//
// It takes the connection's lock, which nobody holds while handing a packet in.
func (g *guard) soften(local, remote tcpip.Address, net tcpip.NetworkProtocolNumber, e *icmpError, pkt *gstack.PacketBuffer) bool {
	h, ok := pkt.Data().PullUp(quotedTCP)
	if !ok || e.kind == gstack.PacketTooBigTransportError {
		return false
	}
	id := gstack.TransportEndpointID{
		LocalAddress: local, LocalPort: binary.BigEndian.Uint16(h),
		RemoteAddress: remote, RemotePort: binary.BigEndian.Uint16(h[2:]),
	}
	ep, ok := g.ns.FindTransportEndpoint(net, header.TCPProtocolNumber, id, pkt.NICID).(*tcp.Endpoint)
	if !ok {
		return false
	}
	switch ep.EndpointState() {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return false
	case tcp.StateListen: // a handshake by cookie: nobody has the connection yet
		return true
	}
	soft := &softError{toldError: toldError{&tcpip.ErrHostUnreachable{}, e.errno}, seq: binary.BigEndian.Uint32(h[header.TCPSeqNumOffset:])}
	if t := g.ledger.table.Load(); t != nil {
		soft.flow, _ = t.hashOfSent(local, remote, h)
	}
	ep.UpdateLastError(soft)
	return true
}

// outlived tells whether the peer has acknowledged the segment since: then it was
// not why the connection has ended.
func (g *guard) outlived(e *softError) bool {
	t := g.ledger.table.Load()
	return t != nil && !t.underWay(e.flow, e.seq)
}
