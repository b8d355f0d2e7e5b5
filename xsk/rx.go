package xsk

import (
	"slices"
	"sync/atomic"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

// RX is the receiving half of a socket: the fill ring, which carries empty
// frames to the kernel, and the RX ring, which brings them back with packets.
// One goroutine at a time may use it, independently of the TX half.
//
//	Receive          frames leave the kernel: Fill -> Held
//	(read them)
//	Recycle          frames go back: Held -> Fill, published by Refill
//	Refill           fill ring published, kernel woken if it asked
type RX struct {
	region *umem.Region
	kernel Kernel
	fill   ring.Producer[umem.Addr]
	rx     ring.Consumer[umem.Desc]
	cache  *umem.Cache
	lent   int    // frames in state Fill that are ours
	share  *share // of a fill ring that other sockets use too, or nil; lent is unused then

	several bool // packets may lie in several frames
	busy    bool // recvfrom brings packets; see busypoll.go
	chain   chain
	early   []umem.Addr // lent before the bind; nil once Open has succeeded
	device  bool        // a device has some of those, by a bind in zero-copy mode
	marker  uint64      // of packets with metadata, or 0; see metadata.go
	st      rxCounters
	failed  halfError
	waiting func() uint32 // rx.Waiting; made once, or each ParkInput would allocate it
}

// rxCounters is written by the RX goroutine, once per batch, and read by any.
type rxCounters struct {
	frames, bytes  atomic.Uint64
	badDescs       atomic.Uint64
	busyPolls      atomic.Uint64
	wakeups        atomic.Uint64
	wakeupErrors   atomic.Uint64
	shortage       atomic.Uint64
	continuedDrops atomic.Uint64
}

func (r *RX) init(region *umem.Region, k Kernel) {
	m := k.Rings()
	r.region, r.kernel = region, k
	r.fill = ring.NewProducer(m.Fill)
	r.rx = ring.NewConsumer(m.RX)
	r.waiting = r.rx.Waiting
	r.cache = region.NewCache()
}

// bound takes in what the bind has settled.
func (r *RX) bound(k Kernel) {
	r.several = k.MaxParts() > 1
	r.busy = k.BusyPoll().On()
}

// lendEarly fills the fill ring before the socket is bound. Zero-copy drivers take
// frames out of it as part of the bind (igb_alloc_rx_buffers_zc, Linux 6.18
// drivers/net/ethernet/intel/igb/igb_xsk.c); some that find none there receive
// nothing, and so get no interrupt in which to look again.
func (r *RX) lendEarly() {
	r.lend(r.fill.Len())
	r.early = slices.Clone(r.kernel.Rings().Fill.Slots[:r.lent])
}

// takeBack frees what lendEarly lent, after the kernel side has been closed, unless a
// device has it: the kernel has that let go some time later (xp_release_deferred,
// Linux net/xdp/xsk_buff_pool.c), and packets of others would be in the frames until
// then. It returns how many frames are lost by that.
func (r *RX) takeBack() (lost int) {
	if r.device {
		lost, r.early = len(r.early), nil
	}
	for _, a := range r.early {
		r.cache.PutFrom(a, umem.Fill)
	}
	if r.cache != nil {
		r.cache.Drain()
	}
	r.early, r.lent = nil, 0
	return lost
}

// Receive takes up to len(dst) descriptors of received packets and returns how
// many. Each one's frame is Held by the caller, who reads it through
// Region.Bytes and gives it back with Recycle, or keeps it. Every descriptor has
// been checked: one that is outside the region, of length 0, or names a frame
// that was not lent for receiving is counted and left out, its frame never used
// again. 0 may mean that all there was had to be left out: ask Empty before
// sleeping. If the socket busy polls, an empty ring costs a system call, in
// which the driver may bring packets.
//
// Without multi-buffer each descriptor is a packet. With it, a packet over
// several frames is several descriptors, all but the last of which Continue;
// umem.Packets puts them together. Only whole packets are returned: one that has
// no end, a part that was left out, or more parts than dst has room for is
// counted and dropped whole. 64 descriptors are room for every packet.
func (r *RX) Receive(dst []umem.Desc) int {
	first, n := r.rx.Peek(uint32(len(dst)))
	if n == 0 && r.busy {
		first, n = r.peekBusy(len(dst))
	}
	if n == 0 {
		return 0
	}
	if r.rx.Get(first + n - 1).Continues() {
		n = r.holdBack(first, n)
	}
	share, unaligned := r.share, r.region.Unaligned()
	if share != nil {
		r.lent = manyLent
	}
	got, bytes, bad := 0, uint64(0), uint64(0)
	for i := range n {
		d := r.rx.Get(first + i) // once: the memory is shared
		if unaligned {
			d.Addr = r.region.Resolve(d.Addr)
		}
		if r.lent == 0 || !r.region.Check(d) || share != nil && !share.lentHere(d.Addr) || !r.region.Move(d.Addr, umem.Fill, umem.Held) {
			bad++
			if r.chain.inside || d.Continues() {
				got = r.spoilBad(dst[:got], d)
			}
			continue
		}
		r.lent--
		if r.chain.inside || d.Continues() {
			got = r.part(dst, got, d)
			continue
		}
		dst[got] = d
		bytes += uint64(d.Len)
		got++
	}
	if r.chain.parts != 0 {
		got = r.spoil(dst[:got]) // it has no end
	}
	r.rx.Release()
	if r.marker != 0 {
		r.takeMarkers(dst[:got])
	}
	if share != nil {
		share.pool.lent.Add(int64(r.lent - manyLent))
	}
	if bad != 0 {
		r.st.badDescs.Add(bad)
	}
	r.st.frames.Add(uint64(got - r.chain.more))
	r.st.bytes.Add(bytes + r.chain.bytes)
	r.chain.more, r.chain.bytes = 0, 0
	return got
}

// Recycle frees the frames of received packets, for Refill to lend again.
func (r *RX) Recycle(descs []umem.Desc) {
	for _, d := range descs {
		r.cache.Put(d.Addr)
	}
}

// Refill lends frames to the kernel until the fill ring is full or the pool is
// empty, and wakes the kernel if it asked for that: a zero-copy driver that
// found the fill ring empty does not look again by itself. It returns the
// number of frames lent.
func (r *RX) Refill() int {
	if r.share != nil {
		return r.share.refill(r)
	}
	// The kernel may hold as many frames between the two rings as the fill
	// ring is long; with no more than that lent, the RX ring cannot overflow
	// if it is as long.
	n := min(r.fill.Free(r.fill.Len()), r.fill.Len()-uint32(min(r.lent, int(r.fill.Len()))))
	if n != 0 {
		n = r.lend(n)
	}
	// Not only after new frames: a wakeup that came to nothing is repeated.
	if r.fill.NeedsWakeup() && r.fill.Pending() != 0 {
		r.wakeRX()
	}
	return int(n)
}

// wakeRX makes the kernel look at the fill ring, because it asked.
func (r *RX) wakeRX() {
	r.st.wakeups.Add(1)
	if e := r.kernel.WakeRX(); !transient(e) {
		r.st.wakeupErrors.Add(1)
	}
}

// lend publishes up to n free frames in the fill ring, which has room for them.
func (r *RX) lend(n uint32) uint32 {
	if have := uint32(r.cache.Available(int(n))); have < n {
		r.st.shortage.Add(1)
		if n = have; n == 0 {
			return 0
		}
	}
	first, _ := r.fill.Reserve(n)
	for i := range n {
		a, _ := r.cache.GetFor(umem.Fill)
		r.fill.Set(first+i, a)
	}
	r.fill.Submit()
	r.lent += int(n)
	return n
}

// Empty tells whether the RX ring has nothing, looking at the shared index.
func (r *RX) Empty() bool { return r.rx.Empty() }

// Err returns an error once the kernel's side of a ring is impossible; the half
// then receives nothing any more. It is an *OpError with device and queue.
func (r *RX) Err() error {
	err := r.rx.Err()
	switch {
	case err != nil:
	case r.share != nil:
		err = r.share.fillErr()
	default:
		err = r.fill.Err()
	}
	if err == nil {
		return nil
	}
	return r.failed.of(err)
}
