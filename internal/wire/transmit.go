package wire

import (
	"syscall"

	"github.com/afxnet/afxnet/umem"
)

// WakeTX implements xsk.Kernel: __xsk_generic_xmit of Linux 6.18
// net/xdp/xsk.c. Without delay it returns when the packets are with the
// receiver.
func (q *Queue) WakeTX() syscall.Errno {
	q.tx.Lock()
	defer q.tx.Unlock()
	if e := q.check(); e != 0 {
		return e
	}
	if q.failures > 0 {
		q.failures--
		return q.fail
	}
	sent, e := q.transmitLocked()
	if sent {
		q.rings.TX.Cons.Store(q.txCons) // (D)
		q.wait.wake()                   // there may be room for Wait(tx)
	}
	return e
}

func (q *Queue) transmitLocked() (sent bool, _ syscall.Errno) {
	for budget := q.budget; ; budget-- {
		d, ok, valid := q.peekTXLocked()
		if !ok {
			return sent, 0
		}
		if !valid {
			// The kernel skips it but tells user space only with the next
			// packet it sends, or the next time it finds the ring empty.
			q.txCons++
			q.dropPartsLocked()
			return sent, 0
		}
		if budget == 0 || !q.completionRoomLocked() {
			return sent, syscall.EAGAIN
		}
		q.txCons++
		frame := q.region.Bytes(d)
		if d.Continues() || len(q.parts) != 0 {
			if frame = q.gatherLocked(d); frame == nil {
				continue
			}
		}
		refused := q.port.out.send(frame)
		for _, a := range q.parts {
			q.completeLocked(a)
		}
		q.parts = q.parts[:0]
		q.completeLocked(d.Addr)
		if refused {
			// Linux returns here before it counts the packet as sent, and
			// the consumer index stays behind until the next look. So does
			// this one.
			return sent, syscall.EBUSY
		}
		sent = true
	}
}

// maxParts is how many frames a packet may be sent from: MAX_SKB_FRAGS.
const maxParts = 17

// gatherLocked adds a descriptor to the packet over several frames, and returns
// the packet if it is the last.
func (q *Queue) gatherLocked(d umem.Desc) []byte {
	if len(q.parts) == 0 {
		q.packet = q.packet[:0]
	}
	q.packet = append(q.packet, q.region.Bytes(d)...)
	switch {
	case !d.Continues():
		return q.packet
	case len(q.parts) == maxParts-1:
		q.stats.txInvalid.Add(1)
		q.dropPartsLocked()
	default:
		q.parts = append(q.parts, d.Addr)
	}
	return nil
}

// dropPartsLocked drops what there is of a packet over several frames. As in
// Linux 6.18 (xsk_drop_skb), its frames do not come back.
func (q *Queue) dropPartsLocked() {
	q.stats.txInvalid.Add(uint64(len(q.parts)))
	q.parts = q.parts[:0]
}

// peekTXLocked reads the next descriptor once and checks the copy.
func (q *Queue) peekTXLocked() (d umem.Desc, ok, valid bool) {
	m := &q.rings.TX
	if q.txCons == q.txProd {
		m.Cons.Store(q.txCons)   // (D)
		q.txProd = m.Prod.Load() // (C)
		if n := q.txProd - q.txCons; n > uint32(len(m.Slots)) {
			// An impossible index: user space's fault. It gets nothing sent.
			q.txProd = q.txCons
			q.stats.txInvalid.Add(1)
			return d, false, false
		}
	}
	if q.txCons == q.txProd {
		q.stats.txEmpty.Add(1)
		return d, false, false
	}
	d = m.Slots[q.txCons&uint32(len(m.Slots)-1)]
	if d.Options&^umem.OptionContinues != 0 || d.Continues() && q.port.parts == 1 || !q.region.Check(d) {
		q.stats.txInvalid.Add(1)
		return d, true, false
	}
	return d, true, true
}

// completionRoomLocked tells whether one more completion fits.
func (q *Queue) completionRoomLocked() bool {
	m := &q.rings.Comp
	used := q.compProd - m.Cons.Load() + uint32(len(q.finished)+len(q.parts)) // (A)
	return used < uint32(len(m.Slots))
}

// completeLocked gives a frame back. There is room.
func (q *Queue) completeLocked(a umem.Addr) {
	if q.hold {
		q.finished = append(q.finished, a)
		return
	}
	m := &q.rings.Comp
	m.Slots[q.compProd&uint32(len(m.Slots)-1)] = a
	q.compProd++
	m.Prod.Store(q.compProd) // (B): one by one, as the skb destructor does
}
