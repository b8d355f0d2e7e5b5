package stack

import (
	"slices"
	"sync"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack/internal/segments"
)

// An inliner has TCP segments processed at the end of the batch they came in, by
// the goroutine that polls the queue, once per connection. It does so if the
// program imports package stack/inline; the zero inliner does nothing.
type inliner struct {
	p *segments.Processor

	// dirty are, by queue, the endpoints that have segments of the batch that
	// is being handed up. Whoever polls the queue owns its element.
	dirty [][]gstack.TransportEndpoint

	// spawned are goroutines that wait for an endpoint somebody holds, to hand
	// its segments over. Netstack must not be closed before they have.
	spawned sync.WaitGroup
	spawn   func(func()) // spawned.Go, made once
}

// batcher is the part of netdev.Device that the inliner needs.
type batcher interface {
	AfterBatch(func(queue int))
	QueueCount() int
}

// start makes the inliner work on a device, before the first packet.
func (in *inliner) start(p *segments.Processor, d batcher) {
	in.p, in.spawn = p, in.spawned.Go
	in.dirty = make([][]gstack.TransportEndpoint, d.QueueCount())
	d.AfterBatch(in.finish)
}

// queue gives a segment to its endpoint, to be processed at the end of the
// batch. It reports false if the segment has to take the common way.
func (in *inliner) queue(ns *gstack.Stack, ep gstack.TransportEndpoint, id gstack.TransportEndpointID, pkt *gstack.PacketBuffer) bool {
	if in.p == nil || !in.p.Queue(ns, ep, id, pkt) {
		return false
	}
	// A batch has few connections, or few segments of each: either way the list
	// is short.
	d := &in.dirty[netdev.Queue(pkt)]
	if !slices.Contains(*d, ep) {
		*d = append(*d, ep)
	}
	return true
}

// finish processes what was queued in a batch.
func (in *inliner) finish(queue int) {
	d := in.dirty[queue]
	for i, ep := range d {
		in.p.Process(ep, in.spawn)
		d[i] = nil // it may be closed by now
	}
	in.dirty[queue] = d[:0]
}
