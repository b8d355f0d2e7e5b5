// Package segments is where package stack finds what package stack/inline
// offers, if a program imports it. Neither imports the other: a build without
// stack/inline has none of its code.
package segments

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A Processor processes TCP segments on the goroutine that received them.
type Processor struct {
	// Queue gives a segment with header h, whose headers are parsed and whose
	// checksum is verified, to its endpoint, and reports whether it has: if not,
	// nothing was done and the segment takes the common way. The endpoint does
	// nothing about it before Process. clock tells when the segment came,
	// counts are those of its stack, which copies all that it has for who asks.
	Queue func(clock tcpip.Clock, counts *tcpip.TCPStats, ep gstack.TransportEndpoint, id gstack.TransportEndpointID, pkt *gstack.PacketBuffer, h header.TCP) bool

	// Process lets an endpoint do what its queued segments ask for. It does not
	// wait for anything: what has to wait it spawns.
	//
	// If d.Size is not 0, the endpoint was given one segment since the last call,
	// and its acknowledgement may wait. Process then may tell that it does: it is
	// owed until the endpoint sends anything, and the caller has to see to it by
	// Acknowledge.
	Process func(ep gstack.TransportEndpoint, d Data, h Host) (owes bool)

	// Acknowledge sends the acknowledgement that an endpoint owes, if it still
	// does, and tells whether. It may wait for a user of the endpoint.
	Acknowledge func(ep gstack.TransportEndpoint) bool

	// Fill makes the frames of a connection, whose endpoint the caller has
	// locked, hold as much data as they can with the options that it has agreed
	// to and that nearly all segments have. It tells for how many bytes of
	// options they have room then, or that it has changed nothing. size returns
	// the largest packet, in bytes, of a connection with such an MSS.
	Fill func(ep *tcp.Endpoint, size func(mss int) int) (room int, ok bool)
}

// A Host is what a Processor needs of the stack.
type Host interface {
	// Spawn runs f on a goroutine of its own.
	Spawn(f func())

	// StopClock has netstack's clock stand still for the goroutine that calls,
	// until RunClock. An endpoint is locked all the time between.
	StopClock()
	RunClock()
}

// Data is what a segment with no flags but ACK and PSH brings.
type Data struct {
	Seq  uint32 // of its first byte
	Size int    // bytes
}

var state struct {
	mu      sync.Mutex
	p       *Processor
	refused error
}

// Offer is called when stack/inline is initialised, with a processor and, if it
// must not be used, the reason.
func Offer(p *Processor, refused error) {
	state.mu.Lock()
	defer state.mu.Unlock()
	state.p, state.refused = p, refused
}

// Offered returns what may be used, or why nothing may: nil and nil if nothing
// was offered.
func Offered() (*Processor, error) {
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.refused != nil {
		return nil, state.refused
	}
	return state.p, nil
}

// Accept takes a refusal back. It is for tests: a test binary does not tell the
// versions of the modules it is made of (go.dev/issue/33976).
func Accept() {
	state.mu.Lock()
	defer state.mu.Unlock()
	state.refused = nil
}
