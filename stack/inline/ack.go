package inline

import (
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/afxnet/afxnet/stack/internal/segments"
)

// # Acknowledgements that are not made
//
// Netstack makes an acknowledgement as soon as it has processed a segment. In an
// exchange of requests and answers netdev holds it back, and the answer makes it
// needless: that is 6 to 10 % of what the server does. So where the only segment
// of a batch brings the next data, netstack is told that these were acknowledged
// already, and told the truth when it has processed them. Whatever it sends then
// acknowledges them; if it sends nothing in time, the caller asks for it.
//
// That is for a connection that owes nothing yet, so that what netstack answers to
// timestamps (RFC 7323, 4.3) is what it would be with an acknowledgement that is
// late, and that has no data out of order, which has to be answered at once (RFC
// 5681, 4.2).

// roomLeft is how many bytes the peer may send after the data whose
// acknowledgement waits: it may not be held up for want of a larger window.
const roomLeft = 64 << 10

// processEstablished does what handleConnected does, for an established endpoint, and
// tells whether the endpoint owes an acknowledgement after it: if it has been given one
// segment, with d, it may. If done is false, it has done nothing.
func processEstablished(ep *tcp.Endpoint, d segments.Data, h segments.Host) (owes, done bool) {
	if ep.EndpointState() != tcp.StateEstablished || !ep.TryLock() {
		return false, false
	}
	if ep.EndpointState() != tcp.StateEstablished {
		ep.ResumeWork() // which unlocks, no more
		return false, false
	}
	h.StopClock()
	c, first := connOf(ep), seqnum.Value(d.Seq)
	next := first.Add(seqnum.Size(d.Size))
	late := d.Size != 0 && *c.rcvNxt == first && *c.maxSentAck == first && c.outOfOrder() == 0 && next.Add(roomLeft).LessThanEq(*c.rcvAcc)
	sent := &ep.Stats().(*tcp.Stats).SegmentsSent
	before := sent.Value()
	if late {
		*c.maxSentAck = next
	}
	err := handleSegmentsLocked(ep)
	if late && *c.maxSentAck == next && sent.Value() == before {
		*c.maxSentAck, owes = first, true
	}
	if err != nil {
		resetConnectionLocked(ep, err)
	}
	h.RunClock()
	over := err != nil || ep.EndpointState() == tcp.StateClose
	ep.ResumeWork()
	if over {
		drainClosingSegmentQueue(ep)
		c.waiters.Notify(waiter.EventHUp | waiter.EventErr | waiter.ReadableEvents | waiter.WritableEvents)
	}
	return owes && !over, true
}

// acknowledge sends the acknowledgement that an endpoint owes, if it still does,
// and tells whether it did.
func acknowledge(tep gstack.TransportEndpoint) bool {
	ep, ok := tep.(*tcp.Endpoint)
	if !ok {
		return false
	}
	ep.LockUser()
	defer ep.UnlockUser()
	if ep.EndpointState() != tcp.StateEstablished {
		return false // a FIN or a reset has said it, or there is nobody to hear it
	}
	c := connOf(ep)
	if *c.maxSentAck == *c.rcvNxt {
		return false
	}
	sendAck(c.snd)
	return true
}
