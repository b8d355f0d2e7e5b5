package wire

import (
	"syscall"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

// The hooks of a Queue make it a slow or a hostile kernel. Any goroutine may
// call them, but not a function that the wire calls while this queue sends.

// PushRX puts a descriptor into the RX ring as it is: outside the region, of a
// frame that was not lent, or one that is there already. It tells whether there
// was room.
func (q *Queue) PushRX(d umem.Desc) bool {
	q.rx.Lock()
	ok := !q.closed.Load() && q.rxRoomLocked() > 0
	if ok {
		q.putRXLocked(d)
		q.publishRXLocked()
	}
	q.rx.Unlock()
	q.wait.wake()
	return ok
}

// PushCompletion puts an address into the completion ring as it is and tells
// whether there was room.
func (q *Queue) PushCompletion(a umem.Addr) bool {
	q.tx.Lock()
	defer q.tx.Unlock()
	ok := !q.closed.Load() && q.completionRoomLocked()
	if ok {
		hold := q.hold
		q.hold = false
		q.completeLocked(a)
		q.hold = hold
	}
	return ok
}

// HoldCompletions keeps back the completions of packets that are sent from now
// on, as a device that is slow to send does; false lets them all go.
func (q *Queue) HoldCompletions(hold bool) {
	q.tx.Lock()
	defer q.tx.Unlock()
	q.hold = hold
	if hold || q.closed.Load() {
		return
	}
	for _, a := range q.finished {
		q.completeLocked(a)
	}
	q.finished = q.finished[:0]
}

// FailTX makes the next n wakeups return e and look at nothing.
func (q *Queue) FailTX(n int, e syscall.Errno) {
	q.tx.Lock()
	defer q.tx.Unlock()
	q.failures, q.fail = n, e
}

// SetNeedWakeup sets or clears the need-wakeup flags, as a zero-copy driver
// does: without one on the TX ring, the test has to call WakeTX itself.
func (q *Queue) SetNeedWakeup(fill, tx bool) {
	flag := func(on bool) uint32 {
		if on {
			return ring.FlagNeedWakeup
		}
		return 0
	}
	q.rings.Fill.Flags.Store(flag(fill))
	q.rings.TX.Flags.Store(flag(tx))
}

// Index names an index that the kernel writes.
type Index int

const (
	FillCons Index = iota
	RXProd
	TXCons
	CompProd
)

// ShiftIndex adds n to what user space sees of an index; what the kernel works
// with stays, and user space sees it again after the next packet. A ring end
// that finds more entries than the ring has slots stops with ring.ErrCorrupt;
// what can be true is believed.
func (q *Queue) ShiftIndex(i Index, n int32) {
	switch i {
	case FillCons:
		q.rings.Fill.Cons.Add(uint32(n))
	case RXProd:
		q.rings.RX.Prod.Add(uint32(n))
	case TXCons:
		q.rings.TX.Cons.Add(uint32(n))
	case CompProd:
		q.rings.Comp.Prod.Add(uint32(n))
	}
	q.wait.wake()
}
