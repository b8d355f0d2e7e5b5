package netdev

import gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

const (
	// flowBuckets is the number of flow queues. Flows that share one share its
	// turn; netstack's hash is random per connection, so nobody aims at one.
	flowBuckets = 256

	// flowQuantum is the bytes that a flow may send per turn: a few full-sized
	// frames, so that a small packet never waits for more than that from every
	// other flow.
	flowQuantum = 16 << 10
)

// flowTable holds the packets that found no room in the TX ring: one queue per
// flow, served by deficit round robin (Shreedhar and Varghese, 1995), bounded in
// bytes all together. A packet is linked into its queue through an item, which
// is reused.
type flowTable struct {
	buckets [flowBuckets]flow
	active  []uint16 // ring of buckets that have packets, in order of service
	first   int      // of active
	n       int      // of active
	bytes   int
	limit   int
	spare   *item
}

type flow struct {
	head, tail *item
	bytes      int
	deficit    int
}

type item struct {
	pkt  *gstack.PacketBuffer
	size int
	next *item
}

func (t *flowTable) init(limit int) {
	t.limit = limit
	t.active = make([]uint16, flowBuckets)
}

func (t *flowTable) empty() bool { return t.n == 0 }

// waits tells whether there are packets in the queue of a flow.
func (t *flowTable) waits(hash uint32) bool { return t.buckets[hash%flowBuckets].head != nil }

// push queues a packet.
func (t *flowTable) push(pkt *gstack.PacketBuffer) {
	it := t.spare
	if it == nil {
		it = new(item)
	} else {
		t.spare = it.next
	}
	it.pkt, it.size, it.next = pkt, pkt.Size(), nil
	b := uint16(pkt.Hash % flowBuckets)
	f := &t.buckets[b]
	if f.head == nil {
		f.head = it
		f.deficit = 0
		t.active[(t.first+t.n)%flowBuckets] = b
		t.n++
	} else {
		f.tail.next = it
	}
	f.tail = it
	f.bytes += it.size
	t.bytes += it.size
}

// shed takes, above the limit, the oldest packet of the largest flow that has
// more than one: its sender learns of it from the ones behind. A lone packet is
// kept, or a flow could starve.
func (t *flowTable) shed() *gstack.PacketBuffer {
	if t.bytes <= t.limit {
		return nil
	}
	var largest *flow
	for i := range t.n {
		f := &t.buckets[t.active[(t.first+i)%flowBuckets]]
		if f.head != f.tail && (largest == nil || f.bytes > largest.bytes) {
			largest = f
		}
	}
	if largest == nil {
		return nil
	}
	return t.take(largest)
}

// pop takes the next packet in turn, nil if there is none.
func (t *flowTable) pop() *gstack.PacketBuffer {
	for t.n > 0 {
		b := t.active[t.first]
		f := &t.buckets[b]
		if f.head.size > f.deficit {
			f.deficit += flowQuantum
			t.first = (t.first + 1) % flowBuckets
			t.active[(t.first+t.n-1)%flowBuckets] = b
			continue
		}
		f.deficit -= f.head.size
		pkt := t.take(f)
		if f.head == nil {
			t.first = (t.first + 1) % flowBuckets
			t.n--
		}
		return pkt
	}
	return nil
}

// take unlinks a flow's first packet.
func (t *flowTable) take(f *flow) *gstack.PacketBuffer {
	it := f.head
	f.head = it.next
	if f.head == nil {
		f.tail = nil
	}
	f.bytes -= it.size
	t.bytes -= it.size
	pkt := it.pkt
	it.pkt, it.next = nil, t.spare
	t.spare = it
	return pkt
}
