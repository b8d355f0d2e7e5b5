package stack

import (
	"net/netip"
	"sync"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A datagram is one that waits to be read.
type datagram struct {
	pkt  *gstack.PacketBuffer // a reference
	from netip.AddrPort
	size int // what it is charged for, in bytes
}

// A datagramQueue holds received datagrams until they are read. It is bounded in
// bytes, those of the packets and of what netstack keeps of each besides, so that
// datagrams without data count too. One that arrives while there is any room is
// taken, as with Linux; others are dropped and counted. Its methods may be called
// from any goroutine.
type datagramQueue struct {
	mu      sync.Mutex // a leaf
	slots   []datagram // a ring; its length is a power of two
	first   int        // in slots, of the oldest
	n       int
	bytes   int
	limit   int
	closed  bool
	offered uint64 // datagrams, also those that were dropped
	dropped uint64
}

// viewBytes is what netstack takes for each view of a packet besides its data:
// measured with views of 8 bytes, the least that a fragment has. A datagram in many
// fragments has one for each, and then its data is the smaller part of it.
const viewBytes = 144

// memoryOf returns what a packet is charged for, in bytes. The two views of one that
// came whole are in netstack's number.
func memoryOf(pkt *gstack.PacketBuffer) int {
	views, _ := pkt.AsViewList()
	more := -2
	for v := views.Front(); v != nil; v = v.Next() {
		more++
	}
	return pkt.MemSize() + max(more, 0)*viewBytes
}

// leastSlots is the length of a ring that has held anything. It doubles as it
// has to, and stays.
const leastSlots = 16

// push queues a datagram and keeps a reference of its packet. It tells whether
// it is the first in the queue, and reports false if it was dropped.
func (q *datagramQueue) push(pkt *gstack.PacketBuffer, from netip.AddrPort) (first, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.offered++
	if q.closed || q.bytes >= q.limit {
		q.dropped++
		return false, false
	}
	if q.n == len(q.slots) {
		q.grow()
	}
	size := memoryOf(pkt)
	q.slots[(q.first+q.n)&(len(q.slots)-1)] = datagram{pkt.IncRef(), from, size}
	q.n++
	q.bytes += size
	return q.n == 1, true
}

func (q *datagramQueue) grow() {
	slots := make([]datagram, max(leastSlots, 2*len(q.slots)))
	n := copy(slots, q.slots[q.first:])
	copy(slots[n:], q.slots[:q.first])
	q.slots, q.first = slots, 0
}

// pop takes the oldest datagram; the reference is the caller's. It reports false
// if there is none.
func (q *datagramQueue) pop() (d datagram, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n == 0 {
		return d, false
	}
	slot := &q.slots[q.first]
	d, *slot = *slot, datagram{}
	q.first = (q.first + 1) & (len(q.slots) - 1)
	q.n--
	q.bytes -= d.size
	return d, true
}

// close drops what is queued and refuses more. It reports false if it was called
// before.
func (q *datagramQueue) close() bool {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.mu.Unlock()
	for d, ok := q.pop(); ok; d, ok = q.pop() {
		d.pkt.DecRef()
	}
	return first
}

// setLimit changes the bound. What is queued stays.
func (q *datagramQueue) setLimit(bytes int) {
	q.mu.Lock()
	q.limit = bytes
	q.mu.Unlock()
}

// counts returns how many datagrams have come, and how many of those were
// dropped.
func (q *datagramQueue) counts() (offered, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.offered, q.dropped
}

// copyTo copies the datagram's data to b, as far as it fits, and returns the
// bytes copied.
func (d *datagram) copyTo(b []byte) int { return d.copyFrom(b, 0) }

// copyFrom is copyTo for the data from an offset on.
func (d *datagram) copyFrom(b []byte, offset int) (n int) {
	views, skip := d.pkt.AsViewList()
	skip += d.pkt.HeaderSize() + offset
	for v := views.Front(); v != nil && n < len(b); v = v.Next() {
		p := v.AsSlice()
		if skip >= len(p) {
			skip -= len(p)
			continue
		}
		n += copy(b[n:], p[skip:])
		skip = 0
	}
	return n
}
