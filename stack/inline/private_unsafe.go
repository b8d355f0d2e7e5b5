package inline

import (
	"reflect"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
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

// queueOffset is where in a tcp.Endpoint its segment queue is; ok is false if it
// has none of the type known here.
var queueOffset, queueKnown = func() (uintptr, bool) {
	f, ok := reflect.TypeFor[tcp.Endpoint]().FieldByName("segmentQueue")
	return f.Offset, ok && len(f.Index) == 1 && f.Type.Name() == "segmentQueue" && f.Type.Kind() == reflect.Struct
}()

// queueEmpty tells whether an endpoint has nothing left to process.
func queueEmpty(ep *tcp.Endpoint) bool {
	return segmentQueueEmpty(unsafe.Add(unsafe.Pointer(ep), queueOffset))
}
