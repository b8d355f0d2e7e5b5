package netdev

import (
	"sync"
	"sync/atomic"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/xsk"
)

// txQueue is the transmit side of a queue: arrivals, flows, the TX ring.
//
// Any goroutine may write. If nobody is at it, it takes the transmit lock and sends
// its packet. Otherwise it appends that to the arrivals and tries to take the lock
// again; whoever has it drains for all. The one that gives the lock back looks at
// the arrivals once more, so that no packet is left to nobody: a writer whose last
// TryLock failed has appended before.
//
// A drain fills the TX ring with all there is and then wakes the kernel once:
// wakeups are per burst, not per packet. It does not wait for anything. What
// finds no room stays, in the flow queues, and the poller goes on with it.
type txQueue struct {
	d *Device
	q *queue

	arriveMu sync.Mutex // held for an append only
	arrivals []*gstack.PacketBuffer
	arrived  atomic.Int32 // len(arrivals)
	gathers  atomic.Int32 // how many will drain what has arrived

	mu      sync.Mutex // the transmit lock; owns all below and the TX half
	tx      *xsk.TX
	batch   []*gstack.PacketBuffer // arrivals being sorted
	flows   flowTable
	current job // the packet being cut; it may span many drains
	most    int // descriptors of a burst
	burst   int // descriptors queued since the last flush
	cut     int // frames queued since the last flush
	done    int // packets done with since the last flush
	long    longFrame
	acks    ackTable
	dead    bool // closed: packets are dropped

	stuckOn atomic.Uint32         // a wait
	broken  atomic.Pointer[error] // the kernel's side of a ring is impossible
	st      txCounters
}

// wait says what a queue that holds packets waits for.
type wait uint32

const (
	waitNothing wait = iota
	waitRing         // room in the TX ring: frames to come back
	waitDevice       // the device: it takes nothing, or gives no frame back; there is no event
)

// drainRounds bounds how often one goroutine takes the arrivals of the others
// before it leaves them to the poller.
const drainRounds = 8

func (t *txQueue) init(d *Device, q *queue) {
	t.d, t.q, t.tx = d, q, q.sock.TX()
	t.most = t.tx.Burst()
	t.long.init(t.tx.MaxPacket() / q.region.MaxTXFrame())
	t.flows.init(d.cfg.QueueBytes)
	t.acks.init(t)
}

// write queues a packet and sends what can be sent. It keeps a reference.
func (t *txQueue) write(pkt *gstack.PacketBuffer) {
	if t.gathers.Load() == 0 && t.mu.TryLock() {
		// Nobody is at it. If nothing has arrived before, the packet need not
		// take the way through the arrivals.
		if t.arrived.Load() == 0 && !t.dead {
			t.accept(pkt.IncRef())
			t.send()
			t.unlock()
			return
		}
		t.mu.Unlock() // what writers have left to us meanwhile goes with this one
	}
	t.arriveMu.Lock()
	t.arrivals = append(t.arrivals, pkt.IncRef())
	t.arrived.Store(int32(len(t.arrivals)))
	t.arriveMu.Unlock()
	t.drain()
}

// drain sends what has arrived, unless another goroutine is at it or will be.
func (t *txQueue) drain() {
	if t.gathers.Load() == 0 {
		t.drainNow()
	}
}

// drainNow is drain, whoever gathers.
func (t *txQueue) drainNow() {
	for range drainRounds {
		if t.arrived.Load() == 0 || !t.mu.TryLock() {
			return
		}
		t.drainLocked()
		t.mu.Unlock()
	}
	if t.arrived.Load() != 0 {
		t.q.interrupt()
	}
}

// gather lets packets pile up among the arrivals until release, which sends them
// as one burst. In between, whoever holds the poll lock processes what a batch
// has brought: each acknowledgement lets a few segments go, which would be a
// wakeup each. Or a goroutine writes much, which netstack makes several segments
// of. Any goroutine may call it; it must not wait before its release.
func (t *txQueue) gather() {
	if !t.d.cfg.NoGather {
		t.gathers.Add(1)
	}
}

// release ends one gather. A writer that has seen one going on has counted its
// packet as arrived before, so it is seen here. Others that gather still do not
// hold up what is there: each would wait for the next.
func (t *txQueue) release() {
	if !t.d.cfg.NoGather {
		t.gathers.Add(-1)
	}
	t.drainNow()
}

// resume is the poller's part: packets left behind by a full ring or by a writer
// that had drained enough.
func (t *txQueue) resume() {
	if t.arrived.Load() == 0 && wait(t.stuckOn.Load()) == waitNothing {
		return
	}
	t.mu.Lock()
	t.drainLocked()
	t.unlock()
}

// unlock gives the transmit lock back, for holders other than drain: a writer
// that found it taken has left its packet to the holder.
func (t *txQueue) unlock() {
	t.mu.Unlock()
	t.drain()
}

// stuck returns what the queue waits for.
func (t *txQueue) stuck() wait {
	if t.arrived.Load() != 0 {
		return waitDevice // a writer is between append and drain: do not sleep for long
	}
	return wait(t.stuckOn.Load())
}

// drainLocked sorts the arrivals and fills the TX ring. Precondition: mu held.
func (t *txQueue) drainLocked() {
	t.arriveMu.Lock()
	t.batch, t.arrivals = t.arrivals, t.batch[:0]
	t.arrived.Store(0)
	t.arriveMu.Unlock()

	for i, pkt := range t.batch {
		t.batch[i] = nil
		if t.dead {
			t.drop(pkt, &t.st.droppedClosed)
			continue
		}
		t.accept(pkt)
	}
	if t.dead {
		return
	}
	t.send()
}

// send fills the TX ring from the flow queues and wakes the kernel, again and
// again while that makes room at once, as it does in copy mode. After fillRounds
// the poller goes on: a writer should not work for all others for ever.
func (t *txQueue) send() {
	for range fillRounds {
		full := !t.fill()
		left := t.flush()
		if !full || left != 0 {
			t.park(full, left)
			return
		}
	}
	t.park(true, 0)
}

const fillRounds = 4

// accept takes one packet from the arrivals: it is held back, written at once if
// nothing waits, or queued.
func (t *txQueue) accept(pkt *gstack.PacketBuffer) {
	if !t.acks.hold(pkt) {
		t.enqueue(pkt)
	}
}

func (t *txQueue) enqueue(pkt *gstack.PacketBuffer) {
	if t.current.pkt == nil && t.flows.empty() {
		t.begin(pkt)
		t.work() // what finds no room stays the current packet
		return
	}
	t.flows.push(pkt)
	for lost := t.flows.shed(); lost != nil; lost = t.flows.shed() {
		t.drop(lost, &t.st.droppedFull)
	}
}

// waits tells whether packets of a flow wait for room in the TX ring. It may be
// those of another flow.
func (t *txQueue) waits(hash uint32) bool {
	return t.current.pkt != nil && t.current.pkt.Hash == hash || t.flows.waits(hash)
}

// fill moves packets from the flow queues into the TX ring until there is none
// left (true) or no room.
func (t *txQueue) fill() bool {
	for {
		if !t.work() {
			return false
		}
		pkt := t.flows.pop()
		if pkt == nil {
			return true
		}
		t.begin(pkt)
	}
}

// park notes what the queue waits for and sees to it that the poller knows.
func (t *txQueue) park(full bool, left int) {
	w := waitNothing
	need := t.chunks()
	switch room := t.tx.Free(need) >= need; {
	case left != 0 && (room || !full):
		w = waitDevice // a full ring with nothing beside it has to be tried again, too
	case full && !room && t.tx.Writable():
		// The frames are with the device, the ring itself has room, or has not
		// enough for a packet over several: its event would come at once, again
		// and again.
		w = waitDevice
	case full:
		w = waitRing
	}
	// Only the transmit lock's holder writes it, and mostly it stays what it is.
	if wait(t.stuckOn.Load()) == w {
		return
	}
	t.stuckOn.Store(uint32(w))
	if w != waitNothing {
		t.q.interrupt()
	}
}

// drop releases a packet that is not sent, and counts it.
func (t *txQueue) drop(pkt *gstack.PacketBuffer, counter *atomic.Uint64) {
	counter.Add(1)
	pkt.DecRef()
}

// discard drops everything that waits: the link is down, and what could be sent
// when it is up again would be stale.
func (t *txQueue) discard() {
	t.mu.Lock()
	t.arriveMu.Lock()
	t.batch, t.arrivals = t.arrivals, t.batch[:0]
	t.arrived.Store(0)
	t.arriveMu.Unlock()
	for i, pkt := range t.batch {
		t.batch[i] = nil
		t.drop(pkt, &t.st.droppedDown)
	}
	t.discardLocked(&t.st.droppedDown)
	t.unlock()
}

func (t *txQueue) discardLocked(counter *atomic.Uint64) {
	if t.dead {
		return
	}
	t.acks.drop(counter)
	if pkt := t.current.pkt; pkt != nil {
		t.current.pkt = nil
		t.drop(pkt, counter)
	}
	for pkt := t.flows.pop(); pkt != nil; pkt = t.flows.pop() {
		t.drop(pkt, counter)
	}
	w := waitNothing
	if t.tx.Pending() != 0 {
		w = waitDevice // in the ring already: they go when the link is up
	}
	t.stuckOn.Store(uint32(w))
}

// close drops everything and refuses more.
func (t *txQueue) close() {
	t.mu.Lock()
	t.discardLocked(&t.st.droppedClosed)
	t.acks.stop()
	t.dead = true
	t.mu.Unlock()
	t.drain()
	t.mu.Lock()
	t.tx.Reclaim()
	t.unlock()
}
