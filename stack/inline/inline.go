// Package inline makes stacks process TCP segments on the goroutine that
// receives them. A program opts into it by importing it for its effect:
//
//	import _ "github.com/afxnet/afxnet/stack/inline"
//
// Without it, netstack hands every segment to a goroutine of its own, which
// wakes the one that waits in Read: two switches of goroutines, and often of
// processors, for each packet. With it, the goroutine that found the packet,
// often the very one that waits for it, does the work of TCP at the end of its
// batch, once per connection.
//
// It needs functions that gVisor does not export. They are reached by name
// (go:linkname), and a gVisor in which one of them takes other arguments would
// build and corrupt memory. So this package works with the versions of gVisor it
// was tested with (see Tested) and no other: with a newer one, or one that is
// replaced in go.mod, it does nothing, and Stack.Info tells why. If gVisor loses
// one of the functions, a program that imports this package does not link; leave
// the import out, and everything works as before.
package inline

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/stack/internal/segments"
)

// module is where netstack comes from.
const module = "gvisor.dev/gvisor"

// Tested returns the versions of gVisor that this package works with.
func Tested() []string {
	return []string{"v0.0.0-20260905035102-160fafc42237"}
}

func init() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = nil
	}
	err := supported(info)
	if shapeErr != nil {
		segments.Offer(nil, fmt.Errorf("stack/inline: %s: %w: %w", module, shapeErr, errors.ErrUnsupported))
		return
	}
	segments.Offer(&segments.Processor{Queue: queue, Process: process, Acknowledge: acknowledge, Fill: fill}, err)
}

// supported returns why the gVisor of a build cannot be used. The answer wraps
// errors.ErrUnsupported.
func supported(info *debug.BuildInfo) error {
	if info == nil {
		return fmt.Errorf("stack/inline: the binary does not tell its version of %s: build it as a module: %w", module, errors.ErrUnsupported)
	}
	for _, d := range info.Deps {
		switch {
		case d.Path != module:
		case d.Replace != nil:
			return fmt.Errorf("stack/inline: %s is replaced by %s %s: %w", module, d.Replace.Path, d.Replace.Version, errors.ErrUnsupported)
		case !slices.Contains(Tested(), d.Version):
			return fmt.Errorf("stack/inline: %s is %s, tested is %v: %w", module, d.Version, Tested(), errors.ErrUnsupported)
		default:
			return nil
		}
	}
	return fmt.Errorf("stack/inline: the binary does not name %s: %w", module, errors.ErrUnsupported)
}

// queue does what netstack's dispatcher does with a segment, but for waking its
// goroutine.
func queue(clock tcpip.Clock, counts *tcpip.TCPStats, tep gstack.TransportEndpoint, id gstack.TransportEndpointID, pkt *gstack.PacketBuffer, h header.TCP) bool {
	ep, ok := tep.(*tcp.Endpoint)
	if !ok || stepFor(ep.EndpointState()) == nil {
		return false
	}
	rst := h.Flags().Contains(header.TCPFlagRst) // netstack may use the packet up
	s, err := newIncomingSegment(id, clock, pkt)
	if err != nil {
		return false // netstack counts it
	}
	counts.ValidSegmentsReceived.Increment()
	if rst {
		counts.ResetsReceived.Increment()
	}
	ep.Stats().(*tcp.Stats).SegmentsReceived.Increment()
	enqueueSegment(ep, s) // counts what it refuses
	decRef(s)
	return true
}

// stepFor returns how netstack's goroutine processes the segments of an endpoint
// in this state, or nil if they are left to it: those of connections that are
// over, and of sockets that do nothing yet. None of the functions waits; each
// does nothing while somebody holds the endpoint or its state is another.
func stepFor(state tcp.EndpointState) func(*tcp.Endpoint) {
	switch state {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing:
		return handleConnected
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		return handleConnecting
	case tcp.StateListen:
		return handleListen
	}
	return nil
}

// steps is how often process looks at an endpoint's state: the segment that ends
// a handshake may have data behind it, which belong to the next state.
const steps = 2

// process lets an endpoint take its segments in. Segments may be left: there
// were too many, the connection is over, or somebody else holds the endpoint. A
// user looks at the queue when he lets go, and netstack's goroutine does; a timer
// does not, so then somebody has to wait for it and act as a user.
func process(tep gstack.TransportEndpoint, d segments.Data, h segments.Host) bool {
	ep, ok := tep.(*tcp.Endpoint)
	if !ok {
		return false
	}
	owes, done := processEstablished(ep, d, h)
	for range steps {
		if step := stepFor(ep.EndpointState()); step != nil && !done {
			step(ep)
		}
		if queueEmpty(ep) || isOwnedByUser(ep) {
			return owes
		}
		done = false
	}
	h.Spawn(func() {
		ep.LockUser()
		ep.UnlockUser()
	})
	return owes
}
