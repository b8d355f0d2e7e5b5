package netdev

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// rxCounters is written by the holder of the poll lock, once per batch or per
// rare event.
type rxCounters struct {
	batches, packets, delivered atomic.Uint64
	partial, notAttached        atomic.Uint64
	acksMerged                  atomic.Uint64
	sleeps                      atomic.Uint64
	reasons                     [packet.Reasons]atomic.Uint64
}

// txCounters is written by the holder of the transmit lock.
type txCounters struct {
	packets, frames          atomic.Uint64
	acksSpared, acksLate     atomic.Uint64
	droppedFull, droppedDown atomic.Uint64
	droppedClosed            atomic.Uint64
	reasons                  [packet.Reasons]atomic.Uint64
}

// QueueStats is what one queue has counted. Every received frame is in RXDelivered,
// or under one of the reasons of Drops that begin with "rx".
type QueueStats struct {
	Queue  uint32 // hardware queue
	Socket xsk.Statistics

	RXBatches   uint64 // receive batches that had packets
	RXDelivered uint64 // frames handed to netstack
	RXPackets   uint64 // packets that they were merged into
	RXPartial   uint64 // of the frames, with a partial checksum that was accepted
	RXACKs      uint64 // of the frames, pure ACKs that a later one made needless
	Sleeps      uint64 // times the poller, or a goroutine in its place, went to sleep

	TXPackets    uint64 // packets from netstack that were done with
	TXFrames     uint64 // frames that they were cut into
	TXACKsSpared uint64 // pure ACKs that another segment made needless; package stack/inline does not make most of them
	TXACKsLate   uint64 // pure ACKs that were held and sent all the same

	// Drops counts frames (rx) and packets (tx) by the reason why they were
	// dropped; reasons that did not occur are left out.
	Drops map[string]uint64
}

// Stats is what a device has counted.
type Stats struct {
	Queues []QueueStats

	// Steering is what the program did with the frames that arrived at the
	// interface; zero over NewOn.
	Steering xsk.Counters
}

// Drops sums the drops of all queues by reason.
func (s Stats) Drops() map[string]uint64 {
	sum := make(map[string]uint64)
	for _, q := range s.Queues {
		for k, v := range q.Drops {
			sum[k] += v
		}
	}
	return sum
}

// Stats reads all counters. What could not be read is zero, and err says so.
func (d *Device) Stats() (Stats, error) {
	var st Stats
	var errs []error
	for _, q := range d.queues {
		qs, err := q.stats()
		st.Queues = append(st.Queues, qs)
		errs = append(errs, err)
	}
	if d.host != nil {
		var err error
		st.Steering, err = d.host.steer.Counters()
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return st, fmt.Errorf("netdev: statistics of %s: %w", d.link.Name, err)
	}
	return st, nil
}

func (q *queue) stats() (QueueStats, error) {
	sock, err := q.sock.Statistics()
	r, t := &q.st, &q.tx.st
	st := QueueStats{
		Queue:  q.sock.Queue(),
		Socket: sock,

		RXBatches: r.batches.Load(), RXDelivered: r.delivered.Load(),
		RXPackets: r.packets.Load(), RXPartial: r.partial.Load(),
		RXACKs: r.acksMerged.Load(), Sleeps: r.sleeps.Load(),

		TXPackets: t.packets.Load(), TXFrames: t.frames.Load(),
		TXACKsSpared: t.acksSpared.Load(), TXACKsLate: t.acksLate.Load(),

		Drops: make(map[string]uint64),
	}
	add := func(name string, v uint64) {
		if v != 0 {
			st.Drops[name] = v
		}
	}
	for i := range r.reasons {
		add("rx "+packet.Reason(i).String(), r.reasons[i].Load())
		add("tx "+packet.Reason(i).String(), t.reasons[i].Load())
	}
	add("rx not attached", r.notAttached.Load())
	add("rx bad descriptor", sock.RXBadDescs)
	add("rx over several frames", sock.RXContinued)
	add("rx kernel: fill ring empty or frame too long", sock.Kernel.RXDropped)
	add("rx kernel: RX ring full", sock.Kernel.RXRingFull)
	add("rx kernel: bad fill address", sock.Kernel.RXInvalidDescs)
	add("tx queue full", t.droppedFull.Load())
	add("tx link down", t.droppedDown.Load())
	add("tx closed", t.droppedClosed.Load())
	add("tx device", sock.TXDeviceDrops)
	add("tx stray completion", sock.TXStrays)
	add("tx kernel: bad descriptor", sock.Kernel.TXInvalidDescs)
	return st, err
}

// Audit counts every queue's frames by who has them. It stops each queue for
// the moment of its count, and may deliver a packet that came meanwhile: the
// caller must hold no lock that this takes. When no traffic is under way, Held and
// TX are 0 once the completions are in, which Audit collects first.
func (d *Device) Audit() []umem.Audit {
	var all []umem.Audit
	for _, q := range d.queues {
		q.pollMu.Lock()
		q.tx.mu.Lock()
		if !q.tx.dead {
			q.tx.tx.Reclaim()
		}
		all = append(all, q.region.Audit())
		q.tx.unlock()
		q.leave()
	}
	return all
}
