package xsk

import (
	"sync/atomic"
	"syscall"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/internal/sys"
	"github.com/afxnet/afxnet/umem"
)

// TX is the sending half of a socket: the TX ring, which carries packets to the
// kernel, and the completion ring, which brings their frames back. One
// goroutine at a time may use it, independently of the RX half.
//
//	Free             room for how many frames; reclaims completions if short
//	Frame            a frame to write: Free -> Held
//	Queue            its packet goes into the ring: Held -> TX; QueueParts for
//	                 one over several frames, QueueRequest if it asks for something
//	Flush            ring published, kernel woken
//	Reclaim          completions: TX -> Free
type TX struct {
	region *umem.Region
	kernel Kernel
	tx     ring.Producer[umem.Desc]
	comp   ring.Consumer[umem.Addr]
	cache  *umem.Cache
	lent   uint32 // frames in state TX; never more than the TX ring is long
	share  *share // of a completion ring that other sockets use too, or nil
	parts  uint32 // how many frames a packet may lie in
	burst  int    // see Burst
	busy   bool   // sendto is what moves frames on; see busypoll.go
	async  bool   // a driver moves them on by itself, once woken
	down   syscall.Errno
	mute   error // the device had no transmit queue for this one when it was opened
	muted  bool  // that is why the last wakeup sent nothing

	metadata bool      // the region has room for requests
	offload  TXOffload // what may be asked for
	times    *txTimes  // nil if that is no timestamps

	st     txCounters
	failed halfError
}

// txCounters is written by the TX goroutine and read by any.
type txCounters struct {
	frames, bytes  atomic.Uint64
	more           atomic.Uint64
	requests       atomic.Uint64
	queued         uint64 // since the last Flush; only the TX goroutine's
	queuedMore     uint64
	queuedBytes    uint64
	queuedRequests uint64
	completions    atomic.Uint64
	strays         atomic.Uint64
	wakeups        atomic.Uint64
	deviceDrops    atomic.Uint64
	stalls         atomic.Uint64
	wakeupErrors   atomic.Uint64
	wakeupsSpared  atomic.Uint64
	lastWakeupErrn atomic.Uint32
}

func (t *TX) init(region *umem.Region, k Kernel) {
	m := k.Rings()
	t.region, t.kernel, t.burst = region, k, sys.KernelTXBudget
	t.tx = ring.NewProducer(m.TX)
	t.comp = ring.NewConsumer(m.Comp)
	t.cache = region.NewCache()
	t.metadata = region.TXMetadata() != 0
	t.busy = k.BusyPoll().On() && k.BusyPoll().Prefer
	t.async = k.ZeroCopy() && !t.busy
	t.parts = uint32(max(1, min(k.MaxParts(), maxTXParts, int(t.tx.Len()))))
	if t.parts > 1 {
		// A packet over several frames, of which one call has taken some and
		// that the device has no room for in the next, is read again as a
		// whole (xskq_cons_cancel_n, Linux net/xdp/xsk.c). Its slots are not
		// written again before that: lent counts its frames.
		t.tx.AllowBack(t.parts)
	}
}

// Free returns for how many frames there is room now: slots in the TX ring and
// free frames. If that is less than want, it looks at the completion ring
// first.
func (t *TX) Free(want int) int {
	if n := t.room(want); n >= want {
		return n
	}
	if t.Reclaim() == 0 && t.busy {
		t.reclaimBusy()
	}
	return t.room(want)
}

func (t *TX) room(want int) int {
	n := min(t.tx.Free(uint32(want)), t.tx.Len()-t.lent)
	if n == 0 {
		return 0
	}
	return min(int(n), t.cache.Available(min(want, int(n))))
}

// Frame takes a frame to write a packet into and returns the whole chunk, but for
// Config.UMEM.TXMetadata bytes at its start; a is where chunk begins. After a
// Free that returned n, it succeeds n times. The frame is Held: give it to Queue
// or to Cancel.
func (t *TX) Frame() (a umem.Addr, chunk []byte, ok bool) {
	if a, ok = t.cache.Get(); !ok {
		return 0, nil, false
	}
	chunk = t.region.Chunk(a)
	if t.metadata {
		room := t.region.TXMetadata()
		return a + umem.Addr(room), chunk[room:], true
	}
	return a, chunk, true
}

// Queue puts the packet of n bytes at a into the TX ring; Flush publishes it.
// It refuses a packet that does not lie in one chunk, behind the TXMetadata bytes
// at its start, a frame that is not Held, and a full ring; the frame then stays
// with the caller.
func (t *TX) Queue(a umem.Addr, n int) bool {
	d := umem.Desc{Addr: a, Len: uint32(n)}
	if n <= 0 || n > t.region.ChunkSize() || !t.region.Check(d) || t.metadata && !t.region.CheckTX(d) || t.lent >= t.tx.Len() {
		return false
	}
	slot, ok := t.tx.Reserve(1)
	if !ok {
		return false
	}
	if !t.region.Move(a, umem.Held, umem.TX) {
		t.tx.Cancel(1)
		return false
	}
	if t.share != nil {
		t.share.own(a)
	}
	if t.metadata {
		t.ask(nil, a)
	}
	t.tx.Set(slot, d)
	t.lent++
	t.st.queued++
	t.st.queuedBytes += uint64(n)
	return true
}

// Cancel frees a frame that Frame gave and that Queue did not take.
func (t *TX) Cancel(a umem.Addr) { t.cache.Put(a) }

// Reclaim frees the frames that the kernel is done with and returns how many.
// A completion that was not sent, comes twice or lies outside the region is
// counted as a stray.
func (t *TX) Reclaim() int {
	if t.share != nil {
		return t.share.reclaim(t)
	}
	first, n := t.comp.Peek(t.comp.Len())
	if n == 0 {
		return 0
	}
	good := 0
	for i := range n {
		if uint32(good) == t.lent {
			break
		}
		a, ok := t.comp.Get(first+i), false
		if t.times == nil {
			ok = t.cache.PutFrom(a, umem.TX)
		} else {
			ok = t.times.free(t.cache, t.region, a)
		}
		if ok {
			good++
		}
	}
	t.comp.Release()
	t.lent -= uint32(good)
	t.st.completions.Add(uint64(good))
	if strays := int(n) - good; strays != 0 {
		t.st.strays.Add(uint64(strays))
	}
	return good
}

// Burst returns how many descriptors to queue before a Flush if there are more to
// come: in copy mode as many as one system call sends, so that flushing in such
// bursts costs no more calls than flushing once. A zero-copy driver works on them
// while the next are queued.
func (t *TX) Burst() int { return t.burst }

// Lent returns the number of frames that are with the kernel for sending.
func (t *TX) Lent() int { return int(t.lent) }

// Pending returns the number of published packets that the kernel has not taken
// out of the TX ring yet.
func (t *TX) Pending() int { return int(t.tx.Pending()) }

// Writable tells whether a Wait for room to send would end at once: no more than
// half of the TX ring is in use (xsk_tx_writeable in Linux net/xdp/xsk.c). That may
// be less than a packet over several frames needs, and frames may be short.
func (t *TX) Writable() bool { return t.tx.Pending() <= t.tx.Len()/2 }

// Err returns an error once the kernel's side of a ring is impossible, or the
// errno with which the last wakeup failed for good (ENETDOWN, ENXIO); nil again
// when a later one succeeds. It is an *OpError with device and queue, whose Err is a
// syscall.Errno if it may pass. Where the device has fewer queues to send than to
// receive (ethtool -l), sockets on those beyond receive only: once they were given
// something to send, the error says so, and errors.Is(err, unix.ENXIO) holds.
func (t *TX) Err() error {
	err := t.ringErr()
	switch {
	case err != nil:
	case t.muted:
		err = t.mute
	case t.down != 0:
		err = t.down
	default:
		return nil
	}
	return t.failed.of(err)
}

// ringErr returns why the rings are of no use.
func (t *TX) ringErr() error {
	if err := t.tx.Err(); err != nil {
		return err
	}
	if t.share != nil {
		return t.share.compErr()
	}
	return t.comp.Err()
}
