package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// repeats tells whether a segment with data up to end is one that was acknowledged:
// rcv is the last acknowledgement. Nobody sends again what is far below it.
func repeats(rcv, end uint32) bool { return rcv-end < leastWindow }

// refresh has an endpoint echo the timestamp of a segment that has come again, for
// the peer has not heard of the first copy's acknowledgement. Netstack answers such
// a segment before it looks at its timestamp (receiver.handleRcvdSegment in
// pkg/tcpip/transport/tcp/rcv.go), and so with the one of the first copy: the peer
// takes the whole time since for a round trip, and waits for longer when something is
// lost next. RFC 7323 (4.3) wants the timestamp of whatever has come that does not lie
// above the last acknowledgement, if it is newer; Linux takes that of a segment which
// ends there (tcp_sequence and tcp_replace_ts_recent in net/ipv4/tcp_input.c).
//
// A packet must not wait for a user, who over loopback may have sent it. If somebody
// holds the endpoint, the old timestamp goes back, which is only worse.
func (g *guard) refresh(pkt *gstack.PacketBuffer, h header.TCP, to gstack.TransportEndpoint) {
	opts := h.ParsedOptions()
	if !opts.TS {
		return
	}
	ep, ok := g.recipient(pkt, to)
	if !ok || ep.EndpointState() == tcp.StateListen || !ep.TryLock() {
		return
	}
	if ep.SendTSOk && int32(opts.TSVal-ep.RecentTS) > 0 {
		ep.RecentTS = opts.TSVal
	}
	// Who finds it held for that long tries again, and the segment itself is yet to be
	// queued.
	ep.ResumeWork()
}
