package wire

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// Queue is the kernel's side of one socket. It implements xsk.Kernel, and has
// hooks that make it lie.
type Queue struct {
	port   *Port
	id     int
	region *umem.Region
	rings  xsk.Rings
	budget int
	stats  kernelCounters
	wait   waiter
	closed atomic.Bool

	// tx guards the kernel's ends of the TX and the completion ring, as
	// xdp_sock.mutex does. It is held while frames are delivered, and comes
	// before every lock but Wire.state.
	tx       sync.Mutex
	txCons   uint32      // next descriptor to read
	txProd   uint32      // last prod seen
	compProd uint32      // next completion to write
	packet   []byte      // what there is of a packet over several frames
	parts    []umem.Addr // its frames; empty: there is none
	finished []umem.Addr // completions held back by HoldCompletions
	hold     bool
	fail     syscall.Errno // of the next failures wakeups
	failures int

	// rx guards the kernel's ends of the fill and the RX ring, as
	// xsk_buff_pool.rx_lock does. A leaf.
	rx       sync.Mutex
	fillCons uint32      // next address to read
	rxProd   uint32      // next descriptor to write
	spare    []umem.Addr // frames taken from the fill ring and not used
}

var _ xsk.Kernel = (*Queue)(nil)

// kernelCounters is xsk.KernelStatistics, for any goroutine.
type kernelCounters struct {
	rxDropped, rxInvalid, txInvalid, rxFull, fillEmpty, txEmpty atomic.Uint64
}

// newQueue makes the rings; zero sizes mean what xsk.RingSizes says.
func newQueue(p *Port, id int, region *umem.Region, n xsk.RingSizes) (*Queue, error) {
	const defaultSize = 2048
	orElse := func(n, other uint32) uint32 {
		if n == 0 {
			return other
		}
		return n
	}
	n.RX, n.TX = orElse(n.RX, defaultSize), orElse(n.TX, defaultSize)
	n.Fill, n.Completion = orElse(n.Fill, n.RX), orElse(n.Completion, n.TX)
	q := &Queue{port: p, id: id, region: region, budget: p.budget}
	var errs [4]error
	q.rings.Fill, errs[0] = ring.Heap[umem.Addr](n.Fill)
	q.rings.Comp, errs[1] = ring.Heap[umem.Addr](n.Completion)
	q.rings.RX, errs[2] = ring.Heap[umem.Desc](n.RX)
	q.rings.TX, errs[3] = ring.Heap[umem.Desc](n.TX)
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%s ring: %w", [...]string{"fill", "completion", "RX", "TX"}[i], err)
		}
	}
	q.rings.TX.Flags.Store(ring.FlagNeedWakeup) // in copy mode always
	q.wait.init()
	return q, nil
}

// Rings implements xsk.Kernel.
func (q *Queue) Rings() xsk.Rings { return q.rings }

// ZeroCopy implements xsk.Kernel: it copies.
func (q *Queue) ZeroCopy() bool { return false }

// MaxParts implements xsk.Kernel.
func (q *Queue) MaxParts() int { return q.port.parts }

// BusyPoll implements xsk.Kernel: there is no NAPI, frames come by themselves.
func (q *Queue) BusyPoll() xsk.BusyPolling { return xsk.BusyPolling{} }

// Statistics implements xsk.Kernel; it goes on working after Close.
func (q *Queue) Statistics() (xsk.KernelStatistics, error) {
	s := &q.stats
	return xsk.KernelStatistics{
		RXDropped: s.rxDropped.Load(), RXInvalidDescs: s.rxInvalid.Load(),
		TXInvalidDescs: s.txInvalid.Load(), RXRingFull: s.rxFull.Load(),
		FillRingEmpty: s.fillEmpty.Load(), TXRingEmptyRead: s.txEmpty.Load(),
	}, nil
}

// check is what the kernel asks before it looks at any ring.
func (q *Queue) check() syscall.Errno {
	flags := q.port.flags.Load()
	switch {
	case q.closed.Load():
		return syscall.EBADF
	case flags&isGone != 0:
		return syscall.ENXIO
	case flags&isDown != 0:
		return syscall.ENETDOWN
	}
	return 0
}

// WakeRX implements xsk.Kernel. Copy mode reads the fill ring when a packet
// comes and has nothing to do here.
func (q *Queue) WakeRX() syscall.Errno { return q.check() }

// Arm implements xsk.Kernel.
func (q *Queue) Arm(tx bool) error {
	if q.closed.Load() {
		return os.ErrClosed
	}
	arm := int32(armRX)
	if tx {
		arm |= armTX
	}
	q.wait.armed.Store(arm)
	q.wait.wake()
	return nil
}

// Disarm implements xsk.Kernel.
func (q *Queue) Disarm() error {
	q.wait.armed.Store(0)
	return nil
}

// Park implements xsk.Kernel: it returns when it was armed and the RX ring is
// not empty, or (with tx) at most half of the TX ring is in use
// (xsk_tx_writeable in Linux net/xdp/xsk.c), which disarms it as EPOLLONESHOT
// does; after an Interrupt since the last Park, when d is over (if positive), or
// with os.ErrClosed.
func (q *Queue) Park(d time.Duration) error {
	return q.wait.wait(d, func() bool {
		arm := q.wait.armed.Load()
		ready := arm&armRX != 0 && q.readable() || arm&armTX != 0 && q.writable()
		return ready && q.wait.armed.CompareAndSwap(arm, 0)
	})
}

func (q *Queue) readable() bool { return q.rings.RX.Prod.Load() != q.rings.RX.Cons.Load() }

func (q *Queue) writable() bool {
	m := &q.rings.TX
	return m.Prod.Load()-m.Cons.Load() <= uint32(len(m.Slots)/2)
}

// Interrupt implements xsk.Kernel.
func (q *Queue) Interrupt() { q.wait.interrupt() }

// Close implements xsk.Kernel: Wait ends, and the rings and the region are not
// touched any more when it returns. The queue is free for another socket.
func (q *Queue) Close() error {
	if q.closed.Swap(true) {
		return nil
	}
	q.wait.close()
	q.port.queues[q.id].CompareAndSwap(q, nil)
	// Whoever works on a ring just now has its lock; the next one sees closed.
	q.tx.Lock()
	q.finished, q.parts = nil, nil
	q.tx.Unlock()
	q.rx.Lock()
	q.spare = nil
	q.rx.Unlock()
	return nil
}
