package floor

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/afxnet/afxnet/internal/packet"
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
	parts []umem.Desc // of a frame that is being written, or sent back
	bytes [][]byte    // the chunks of parts, or of a received packet but the first
	held  reply       // an ACK that the next frame of its flow may replace
}

// reply is a frame to send.
type reply struct {
	addr umem.Addr
	n    int // bytes; 0 is none
	hash uint32
}

// chunksOf returns how many chunks a frame takes at an MTU.
func chunksOf(mtu int) int {
	return (packet.EthernetLen + mtu + defaultChunk - 1) / defaultChunk
}

// defaultChunk is the size in bytes of the chunks that xsk.Open makes.
const defaultChunk = 4096

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
		for parts := range umem.Packets(q.descs[:n]) {
			q.frame(parts)
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
	per := (len(f.frame) + q.region.ChunkSize() - 1) / q.region.ChunkSize()
	for room := q.tx.Free(batch*per) / per; n < min(room, batch) && f.ready(); n++ {
		length, ok := q.put(f, per)
		if !ok {
			q.count[unsent]++
			break
		}
		q.count[framesOut]++
		q.count[bytesOut] += uint64(length)
	}
	q.count[tcpSent] += uint64(n)
	return n
}

// put queues the next frame of a flow, which may take so many chunks; there is
// room. It returns the frame's length.
func (q *queue) put(f *flow, chunks int) (length int, ok bool) {
	q.parts, q.bytes = q.parts[:0], q.bytes[:0]
	for range chunks {
		addr, chunk, ok := q.tx.Frame()
		if !ok {
			break
		}
		q.parts, q.bytes = append(q.parts, umem.Desc{Addr: addr}), append(q.bytes, chunk)
	}
	used := 0
	if len(q.parts) == chunks {
		length = f.next(q.bytes[0], q.bytes[1:]...)
		for left := length; left > 0; used++ {
			q.parts[used].Len = uint32(min(left, len(q.bytes[used])))
			left -= int(q.parts[used].Len)
		}
		if ok = q.tx.QueueParts(q.parts[:used]); !ok {
			used = 0
		}
	}
	for _, d := range q.parts[used:] {
		q.tx.Cancel(d.Addr)
	}
	return length, ok
}

// frame answers one received packet, which lies in one frame or several.
func (q *queue) frame(parts []umem.Desc) {
	d, total := parts[0], int(parts[0].Len)
	q.bytes = q.bytes[:0]
	for _, p := range parts[1:] {
		total += int(p.Len)
		q.bytes = append(q.bytes, q.region.Bytes(p))
	}
	buf := q.region.Bytes(umem.Desc{Addr: d.Addr, Len: max(d.Len, slack)})
	r := reply{addr: d.Addr, n: q.answer(buf, int(d.Len), total, q.bytes...), hash: q.info.Hash}
	if r.n > len(buf) {
		q.sendHeld()
		q.sendBack(parts, r.n)
		return
	}
	for _, p := range parts[1:] {
		q.free(p.Addr)
	}
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

// sendBack queues the first n bytes of a packet in several frames, which lie in
// more than one. Without room it is dropped, as by send.
func (q *queue) sendBack(parts []umem.Desc, n int) {
	used := 0
	for left := n; left > 0; used++ {
		parts[used].Len = min(parts[used].Len, uint32(left))
		left -= int(parts[used].Len)
	}
	ok := q.tx.QueueParts(parts[:used])
	if !ok {
		q.tx.Flush()
		q.tx.Reclaim()
		ok = q.tx.QueueParts(parts[:used])
	}
	if ok {
		q.count[framesOut]++
		q.count[bytesOut] += uint64(n)
	} else {
		q.count[unsent]++
		used = 0
	}
	for _, p := range parts[used:] {
		q.free(p.Addr)
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
