package wire

import "github.com/afxnet/afxnet/umem"

// receive copies a frame into the next one of the fill ring and puts it into
// the RX ring: xsk_generic_rcv of Linux 6.18 net/xdp/xsk.c. It counts where the
// frame ended, good if it is delivered, before user space can see it.
func (q *Queue) receive(frame []byte, count *counters, good outcome) bool {
	q.rx.Lock()
	o := q.receiveLocked(frame, count, good)
	q.rx.Unlock()
	if o != good {
		count.end(o)
		return false
	}
	q.wait.wake()
	return true
}

func (q *Queue) receiveLocked(frame []byte, count *counters, good outcome) outcome {
	if q.closed.Load() {
		return noSocket
	}
	if len(frame) > q.region.MaxPacket() {
		q.stats.rxDropped.Add(1)
		return tooLong
	}
	a, ok := q.takeFillLocked()
	if !ok {
		q.stats.fillEmpty.Add(1)
		q.stats.rxDropped.Add(1)
		return noFrame
	}
	if !q.rxRoomLocked() {
		q.spare = append(q.spare, a) // the kernel keeps it for the next packet
		q.stats.rxFull.Add(1)
		return rxFull
	}
	d := umem.Desc{Addr: a + umem.Addr(umem.KernelHeadroom+q.region.Headroom()), Len: uint32(len(frame))}
	copy(q.region.Bytes(d), frame)
	count.end(good)
	q.putRXLocked(d)
	return good
}

// takeFillLocked returns the start of the next frame to receive into. Entries
// outside the region are counted and skipped.
func (q *Queue) takeFillLocked() (a umem.Addr, ok bool) {
	if n := len(q.spare); n > 0 {
		a = q.spare[n-1]
		q.spare = q.spare[:n-1]
		return a, true
	}
	m := &q.rings.Fill
	n := m.Prod.Load() - q.fillCons // (C)
	if n > uint32(len(m.Slots)) {
		q.stats.rxInvalid.Add(1) // an impossible index: user space's fault
		return 0, false
	}
	for ; n > 0 && !ok; n-- {
		a = q.region.Frame(m.Slots[q.fillCons&uint32(len(m.Slots)-1)])
		q.fillCons++
		if ok = q.region.Check(umem.Desc{Addr: a, Len: uint32(q.region.ChunkSize())}); !ok {
			q.stats.rxInvalid.Add(1)
		}
	}
	m.Cons.Store(q.fillCons) // (D)
	return a, ok
}

func (q *Queue) rxRoomLocked() bool {
	m := &q.rings.RX
	return q.rxProd-m.Cons.Load() < uint32(len(m.Slots)) // (A)
}

// putRXLocked publishes a descriptor. There is room.
func (q *Queue) putRXLocked(d umem.Desc) {
	m := &q.rings.RX
	m.Slots[q.rxProd&uint32(len(m.Slots)-1)] = d
	q.rxProd++
	m.Prod.Store(q.rxProd) // (B)
}
