package inline

import (
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A segment is tcp.segment, of which nothing is known here.
type segment = unsafe.Pointer

// The private functions of pkg/tcpip/transport/tcp, as in the versions of
// Tested: segment.go, endpoint.go, dispatcher.go. newIncomingSegment returns a
// segment with one reference, and enqueueSegment takes another if it keeps it.

//go:linkname newIncomingSegment gvisor.dev/gvisor/pkg/tcpip/transport/tcp.newIncomingSegment
func newIncomingSegment(id gstack.TransportEndpointID, clock tcpip.Clock, pkt *gstack.PacketBuffer) (segment, error)

//go:linkname decRef gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*segment).DecRef
func decRef(s segment)

//go:linkname enqueueSegment gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).enqueueSegment
func enqueueSegment(ep *tcp.Endpoint, s segment) bool

// handleConnected processes the queued segments of a connected endpoint, unless
// somebody holds its lock: a user, who wakes netstack's goroutine when he lets
// go, or that goroutine.
//
//go:linkname handleConnected gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleConnected
func handleConnected(ep *tcp.Endpoint)

// handleConnecting and handleListen do the same for an endpoint in its handshake
// and for a listener.
//
//go:linkname handleConnecting gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleConnecting
func handleConnecting(ep *tcp.Endpoint)

//go:linkname handleListen gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleListen
func handleListen(ep *tcp.Endpoint)

//go:linkname isOwnedByUser gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).isOwnedByUser
func isOwnedByUser(ep *tcp.Endpoint) bool

// segmentQueueEmpty takes the address of the endpoint's queue.
//
//go:linkname segmentQueueEmpty gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*segmentQueue).empty
func segmentQueueEmpty(q unsafe.Pointer) bool

// handleSegmentsLocked processes the queued segments of a connected endpoint, and
// resetConnectionLocked is what follows if it returns an error. The endpoint's
// lock is held for both, and not for drainClosingSegmentQueue, which follows that
// or the end of the connection.
//
//go:linkname handleSegmentsLocked gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).handleSegmentsLocked
func handleSegmentsLocked(ep *tcp.Endpoint) tcpip.Error

//go:linkname resetConnectionLocked gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).resetConnectionLocked
func resetConnectionLocked(ep *tcp.Endpoint, err tcpip.Error)

//go:linkname drainClosingSegmentQueue gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).drainClosingSegmentQueue
func drainClosingSegmentQueue(ep *tcp.Endpoint)

// A sender is tcp.sender, of which nothing is known but the place of MaxSentAck.
type sender = unsafe.Pointer

// sendAck sends an acknowledgement; the endpoint's lock is held.
//
//go:linkname sendAck gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).sendAck
func sendAck(s sender)

// conn is what is read and written here of a connected endpoint.
type conn struct {
	snd        sender
	maxSentAck *seqnum.Value // the highest acknowledgement sent
	rcvNxt     *seqnum.Value // the next byte to receive
	rcvAcc     *seqnum.Value // the end of the window that the peer knows
	pending    *[]segment    // out of order
	waiters    *waiter.Queue // who hears of the endpoint
}

// outOfOrder returns how many segments wait for others before them.
func (c *conn) outOfOrder() int { return len(*c.pending) }

// connOf returns the parts of an endpoint. Its lock is held, and it is connected.
func connOf(ep *tcp.Endpoint) conn {
	at := func(p unsafe.Pointer, offset uintptr) unsafe.Pointer { return unsafe.Add(p, offset) }
	e := unsafe.Pointer(ep)
	snd, rcv := *(*unsafe.Pointer)(at(e, offsets.snd)), *(*unsafe.Pointer)(at(e, offsets.rcv))
	return conn{
		snd:        snd,
		maxSentAck: (*seqnum.Value)(at(snd, offsets.maxSentAck)),
		rcvNxt:     (*seqnum.Value)(at(rcv, offsets.rcvNxt)),
		rcvAcc:     (*seqnum.Value)(at(rcv, offsets.rcvAcc)),
		pending:    (*[]segment)(at(rcv, offsets.pending)),
		waiters:    *(**waiter.Queue)(at(e, offsets.waiters)),
	}
}

// queueEmpty tells whether an endpoint has nothing left to process.
func queueEmpty(ep *tcp.Endpoint) bool {
	return segmentQueueEmpty(unsafe.Add(unsafe.Pointer(ep), offsets.queue))
}
