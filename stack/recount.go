package stack

import (
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// recount has an endpoint take an acknowledgement that leaves the window shut for two.
// Netstack gives a peer up when 15 probes of its window are unanswered. An answer makes
// up for one probe, its own, and those that are lost add up until the window opens,
// however many are answered in between (sender.handleRcvdSegment in
// pkg/tcpip/transport/tcp/snd.go): a peer that reads nothing for hours is given up
// although it is there. With Linux an answer makes up for all before (tcp_ack in
// net/ipv4/tcp_input.c). Taken twice it makes up for one that was lost, too, which is
// enough while most are not.
//
// With nothing under way a duplicate says nothing else.
func (g *guard) recount(pkt *gstack.PacketBuffer, to gstack.TransportEndpoint) {
	if g.tcp == nil {
		return
	}
	id := idOf(pkt)
	if to == nil {
		to = g.ns.FindTransportEndpoint(pkt.NetworkProtocolNumber, tcp.ProtocolNumber, id, nicID)
	}
	ep, ok := to.(*tcp.Endpoint)
	if !ok {
		return
	}
	switch ep.EndpointState() {
	case tcp.StateEstablished, tcp.StateCloseWait, tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
		g.tcp.QueuePacket(ep, id, pkt)
	}
}
