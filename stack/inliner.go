package stack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack/internal/segments"
)

// An inliner has TCP segments processed at the end of the batch they came in, by
// the goroutine that polls the queue, once per connection. It does so if the
// program imports package stack/inline; the zero inliner does nothing.
type inliner struct {
	p *segments.Processor
	d batcher

	counts tcpip.TCPStats // netstack's, set before the first packet

	// queues are, by queue, what is under way there.
	queues []inlineQueue

	// spawned are goroutines that wait for an endpoint somebody holds, to hand
	// its segments over. Netstack must not be closed before they have.
	spawned sync.WaitGroup
	clock   *clock
}

// An inlineQueue belongs to whoever polls the queue.
type inlineQueue struct {
	// dirty are the endpoints that have segments of the batch that is being
	// handed up.
	dirty []dirtyEndpoint
	last  [1 << slotBits]uint16 // the place in dirty, plus 1, of the last of each slot; 0: none
	owed  owed

	arrival arrival
}

// An arrival is a clock that is read once in a batch, when the first segment is
// queued: all of the batch were in the ring by then, so none came later.
type arrival struct {
	tcpip.Clock
	now  tcpip.MonotonicTime
	read bool // now is of the present batch
}

// NowMonotonic implements tcpip.Clock.
func (a *arrival) NowMonotonic() tcpip.MonotonicTime {
	if !a.read {
		a.now, a.read = a.Clock.NowMonotonic(), true
	}
	return a.now
}

type dirtyEndpoint struct {
	ep   gstack.TransportEndpoint
	data segments.Data // its only segment; Size is 0 if that has to be acknowledged at once
	slot uint8         // see slotOf
	prev uint16        // the one before it of its slot, as in last
}

// slotBits is such that most endpoints of a batch have a slot of their own.
const slotBits = 8

// slotOf returns the slot of an endpoint that a packet is for: by the hash of the
// flow, of which only a listener has many.
func slotOf(ep gstack.TransportEndpoint, pkt *gstack.PacketBuffer) uint8 {
	if e, ok := ep.(*tcp.Endpoint); !ok || e.EndpointState() == tcp.StateListen {
		return 0
	}
	return uint8(pkt.Hash >> (32 - slotBits))
}

// batcher is the part of netdev.Device that the inliner needs.
type batcher interface {
	AfterBatch(func(queue int))
	QueueCount() int
	ACKHold() int
	SendACKs(queue int)
}

// start makes the inliner work on a device, before the first packet.
func (in *inliner) start(p *segments.Processor, d batcher, clock *clock) {
	in.p, in.d, in.clock = p, d, clock
	in.queues = make([]inlineQueue, d.QueueCount())
	for i := range in.queues {
		in.queues[i].arrival.Clock = clock
		in.queues[i].owed.init(p.Acknowledge, in.sendACKs)
	}
	d.AfterBatch(in.finish)
}

// Spawn implements segments.Host.
func (in *inliner) Spawn(f func()) { in.spawned.Go(f) }

// StopClock implements segments.Host.
func (in *inliner) StopClock() { in.clock.stop() }

// RunClock implements segments.Host.
func (in *inliner) RunClock() { in.clock.run() }

// sendACKs sends what the device holds. On all queues: a connection sends by one of
// its own, whichever its segments come by.
func (in *inliner) sendACKs() {
	for i := range in.queues {
		in.d.SendACKs(i)
	}
}

// close ends what the inliner has under way. The device is closed.
func (in *inliner) close() {
	for i := range in.queues {
		in.queues[i].owed.close()
	}
	in.spawned.Wait()
}

// stop tells the device that nothing will be queued from the next batch on. What
// is in the present one is still processed. Precondition: queue is called no more
// but for a batch that had begun before.
func (in *inliner) stop() {
	if in.d != nil {
		in.d.AfterBatch(nil)
	}
}

// queue gives a segment, whose header is h, to its endpoint, to be processed at the end of the
// batch. It reports false if the segment has to take the common way.
func (in *inliner) queue(ep gstack.TransportEndpoint, id gstack.TransportEndpointID, pkt *gstack.PacketBuffer, h header.TCP) bool {
	if in.p == nil {
		return false
	}
	data := in.late(pkt, h) // netstack may use the packet up
	q := &in.queues[netdev.Queue(pkt)]
	if !in.p.Queue(&q.arrival, &in.counts, ep, id, pkt, h) {
		return false
	}
	slot := slotOf(ep, pkt)
	for at := q.last[slot]; at != 0; at = q.dirty[at-1].prev {
		if e := &q.dirty[at-1]; e.ep == ep {
			e.data.Size = 0 // one of several
			return true
		}
	}
	q.dirty = append(q.dirty, dirtyEndpoint{ep: ep, data: data, slot: slot, prev: q.last[slot]})
	q.last[slot] = uint16(len(q.dirty))
	return true
}

// late returns what a segment brings whose acknowledgement may wait, if no other
// comes with it: data, less than two full segments by the MTU that the device has
// now, and no flag that says more.
func (in *inliner) late(pkt *gstack.PacketBuffer, h header.TCP) segments.Data {
	n := pkt.Data().Size()
	if n >= in.d.ACKHold() || h.Flags()&^header.TCPFlagPsh != header.TCPFlagAck {
		return segments.Data{}
	}
	return segments.Data{Seq: h.SequenceNumber(), Size: n}
}

// finish processes what was queued in a batch.
func (in *inliner) finish(queue int) {
	q := &in.queues[queue]
	q.arrival.read = false
	for i := range q.dirty {
		e := &q.dirty[i]
		q.last[e.slot] = 0
		if in.p.Process(e.ep, e.data, in) {
			q.owed.add(e.ep)
		}
	}
	clear(q.dirty) // they may be closed by now
	q.dirty = q.dirty[:0]
}
