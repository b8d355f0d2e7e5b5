package floor

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// batch is how many frames are received at once, and thus sent with one wakeup.
const batch = 64

// spinCheck is how many empty polls go by, some 20 ns each, before a spinning
// queue lets others run. Other threads always, or a client that was put on the
// same CPU would wait for the end of a time slice, 3 ms. Other goroutines only
// if the queues occupy all of GOMAXPROCS, since the scheduler would take 10 ms to
// step in by itself; with a processor to spare, yielding to goroutines would wake
// another thread each time for nothing.
const spinCheck = 64

// retry bounds the wait of a blocking queue whose packets the device did not
// take: in copy mode there is no event for that.
const retry = 500 * time.Microsecond

// queue is one AF_XDP socket and the goroutine that answers on it.
type queue struct {
	*answerer
	sock   *xsk.Socket
	rx     *xsk.RX
	tx     *xsk.TX
	region *umem.Region
	block  bool
	totals *totals

	descs [batch]umem.Desc
	held  reply // an ACK that the next frame of its flow may replace
}

// reply is a frame to send.
type reply struct {
	addr umem.Addr
	n    int // bytes; 0 is none
	hash uint32
}

func newQueue(s *xsk.Socket, a *answerer, block bool, t *totals) *queue {
	q := &queue{answerer: a, sock: s, rx: s.RX(), tx: s.TX(), region: s.Region(), block: block, totals: t}
	q.rx.Refill() // before the first frame
	return q
}

// serve answers until stop is set; whoever sets it interrupts the socket. With
// yield, a spinning queue lets other goroutines run.
func (q *queue) serve(stop *atomic.Bool, yield bool) error {
	for idle := 0; !stop.Load(); {
		if q.poll() != 0 {
			idle = 0
			continue
		}
		if err := q.rx.Err(); err != nil {
			return err
		}
		if q.block {
			if err := q.wait(); err != nil {
				return err
			}
			continue
		}
		if idle++; idle%spinCheck != 0 {
			continue
		}
		q.settle()
		q.awaiting()
		yieldCPU()
		if yield {
			runtime.Gosched()
		}
	}
	return nil
}

// wait sleeps until a frame arrives, or until packets may be sent that the
// device did not take.
func (q *queue) wait() error {
	q.settle()
	if !q.rx.Empty() {
		return nil
	}
	var d time.Duration
	switch {
	case q.tx.Pending() != 0:
		d = retry
	case q.awaiting():
		d = patience
	}
	return q.sock.Wait(false, d)
}

// poll answers one batch, sends one of the source, and returns the number of
// frames of both.
func (q *queue) poll() int {
	n := q.rx.Receive(q.descs[:])
	if n != 0 {
		q.count[batches]++
		for _, d := range q.descs[:n] {
			q.frame(d)
		}
		if !q.patient {
			q.sendHeld()
		}
	}
	n += q.pump()
	if n != 0 {
		q.count.publish(q.totals) // before anyone can have a reply
		q.tx.Flush()
	} else if q.tx.Pending() != 0 {
		q.tx.Flush()
	}
	// At once, so that few frames go round, which stay in the CPU's cache.
	q.tx.Reclaim()
	q.rx.Refill()
	return n
}

// pump queues what a source has to send, a batch at most.
func (q *queue) pump() (n int) {
	f := q.sender()
	if f == nil {
		return 0
	}
	for room := q.tx.Free(batch); n < min(room, batch) && f.ready(); n++ {
		addr, chunk, ok := q.tx.Frame()
		if !ok {
			break
		}
		length := f.next(chunk)
		if !q.tx.Queue(addr, length) {
			q.tx.Cancel(addr)
			q.count[unsent]++
			break
		}
		q.count[framesOut]++
		q.count[bytesOut] += uint64(length)
	}
	q.count[tcpSent] += uint64(n)
	return n
}

// frame answers one received frame.
func (q *queue) frame(d umem.Desc) {
	n := int(d.Len)
	buf := q.region.Bytes(umem.Desc{Addr: d.Addr, Len: max(d.Len, slack)})
	r := reply{addr: d.Addr, n: q.answer(buf, n), hash: q.info.Hash}
	if q.held.n != 0 && r.n != 0 && r.hash == q.held.hash {
		q.count[tcpAcks]--
		q.free(q.held.addr)
		q.held.n = 0
	}
	q.sendHeld()
	switch {
	case r.n == 0:
		q.free(r.addr)
	case q.later:
		q.held = r
	default:
		q.send(r)
	}
}

// settle sends the ACK that waited for more segments, now that none come.
func (q *queue) settle() {
	if q.held.n != 0 {
		q.sendHeld()
		q.count.publish(q.totals)
		q.tx.Flush()
	}
}

func (q *queue) sendHeld() {
	if q.held.n != 0 {
		q.send(q.held)
		q.held.n = 0
	}
}

// send queues a reply. If the ring is full even after a wakeup, the reply is
// dropped, as a full device queue would.
func (q *queue) send(r reply) {
	if !q.tx.Queue(r.addr, r.n) {
		q.tx.Flush()
		q.tx.Reclaim()
		if !q.tx.Queue(r.addr, r.n) {
			q.count[unsent]++
			q.free(r.addr)
			return
		}
	}
	q.count[framesOut]++
	q.count[bytesOut] += uint64(r.n)
}

func (q *queue) free(a umem.Addr) {
	one := [1]umem.Desc{{Addr: a}}
	q.rx.Recycle(one[:])
}
