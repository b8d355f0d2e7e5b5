package stack

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/stack/internal/segments"
)

// oneQueue is a device with one queue.
type oneQueue struct{}

func (oneQueue) AfterBatch(func(int)) {}
func (oneQueue) QueueCount() int      { return 1 }
func (oneQueue) ACKHold() int         { return 0 }
func (oneQueue) SendACKs(int)         {}

// TestArrival queues segments: those of a batch came at one moment, those of the
// next at a later one.
func TestArrival(t *testing.T) {
	var came []tcpip.MonotonicTime
	p := &segments.Processor{
		Queue: func(c tcpip.Clock, _ *tcpip.TCPStats, _ gstack.TransportEndpoint, _ gstack.TransportEndpointID, _ *gstack.PacketBuffer, _ header.TCP) bool {
			came = append(came, c.NowMonotonic())
			return true
		},
		Process: func(gstack.TransportEndpoint, segments.Data, segments.Host) bool { return false },
	}
	base := new(readClock)
	var in inliner
	in.start(p, oneQueue{}, &clock{Clock: base})
	defer in.close()
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{})
	pkt.Hash = 1 // it came by queue 0
	defer pkt.DecRef()
	for range 2 {
		for range 3 {
			in.queue(nil, gstack.TransportEndpointID{}, pkt, make(header.TCP, header.TCPMinimumSize))
		}
		in.finish(0)
	}
	if came[0] != came[1] || came[0] != came[2] || came[3] != came[4] || came[3] != came[5] {
		t.Errorf("segments of two batches came at %v, want one moment for each batch", came)
	}
	if !came[0].Before(came[3]) {
		t.Errorf("the second batch came at %v, the first at %v", came[3], came[0])
	}
	if n := base.reads.Load(); n != 2 {
		t.Errorf("the clock was read %d times for two batches, want 2", n)
	}
}
