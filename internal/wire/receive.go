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
	parts := 1
	if most := q.region.MaxPacket(); len(frame) > most {
		if q.port.parts == 1 {
			q.stats.rxDropped.Add(1)
			return tooLong
		}
		parts = (len(frame) + most - 1) / most
	}
	for len(q.spare) < parts {
		a, ok := q.takeFillLocked()
		if !ok {
			// The kernel keeps what it has for the next packet.
			q.stats.fillEmpty.Add(1)
			q.stats.rxDropped.Add(1)
			return noFrame
		}
		q.spare = append(q.spare, a)
	}
	if q.rxRoomLocked() < parts {
		q.stats.rxFull.Add(1)
		return rxFull
	}
	count.end(good)
	q.copyLocked(frame, parts)
	q.publishRXLocked()
	return good
}

// takeFillLocked takes a frame to receive into out of the fill ring and returns
// its start. Entries outside the region are counted and skipped.
func (q *Queue) takeFillLocked() (a umem.Addr, ok bool) {
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

// rxRoomLocked returns the free slots of the RX ring.
func (q *Queue) rxRoomLocked() int {
	m := &q.rings.RX
	return len(m.Slots) - int(q.rxProd-m.Cons.Load()) // (A)
}

// copyLocked copies a packet to spare frames and puts their descriptors into the
// RX ring. There is room.
func (q *Queue) copyLocked(frame []byte, parts int) {
	for ; parts > 0; parts-- {
		last := len(q.spare) - 1
		d := umem.Desc{
			Addr: q.spare[last] + umem.Addr(umem.KernelHeadroom+q.region.Headroom()),
			Len:  uint32(min(len(frame), q.region.MaxPacket())),
		}
		q.spare = q.spare[:last]
		if parts > 1 {
			d.Options = umem.OptionContinues
		}
		frame = frame[copy(q.region.Bytes(d), frame):]
		q.putRXLocked(d)
	}
}

// putRXLocked puts a descriptor into the RX ring. There is room.
func (q *Queue) putRXLocked(d umem.Desc) {
	m := &q.rings.RX
	m.Slots[q.rxProd&uint32(len(m.Slots)-1)] = d
	q.rxProd++
}

// publishRXLocked lets user space see all that was put into the RX ring.
func (q *Queue) publishRXLocked() { q.rings.RX.Prod.Store(q.rxProd) } // (B)
