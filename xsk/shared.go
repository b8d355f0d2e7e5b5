package xsk

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

// # Sharing
//
// The kernel has one fill and one completion ring for each queue of a device,
// however many sockets are bound to it (struct xsk_buff_pool): here, a pool.
// Every socket has its own RX and TX ring.
//
//	Shared            one region, registered once
//	  pool eth0/0     fill ring, completion ring
//	    socket        RX ring, TX ring
//	    socket        RX ring, TX ring
//	  pool eth0/1     fill ring, completion ring
//	    socket        RX ring, TX ring
//
// What several goroutines use is locked: the fill ring by pool.fillMu, the
// completion ring by pool.compMu, once per batch. For every frame that is with
// the kernel, Shared.owner has the share it was lent for. So a completion is
// credited to the socket that sent the frame, whichever socket reads it, and the
// frame itself goes to the reader's cache: free frames are all alike.
//
// Each socket maps the pool's rings through its own descriptor. A mapping keeps
// the socket alive that it was made through (it holds a reference to the file),
// so when the socket goes whose mapping the pool uses, the pool takes another's.
//
// Lock order: Socket.mu, Shared.mu, pool.fillMu, pool.compMu, and last the
// region's own. No lock is held over a wakeup.

// Shared is a region that several sockets use: on one queue, on several, and on
// several devices (XDP_SHARED_UMEM). The kernel pins and maps it once. A frame
// received by one of the sockets can be sent by any other without a copy.
//
// Give it to Open as Config.Shared. The first socket decides for all whether
// binds are zero-copy ones, whether packets may lie in several frames, and
// whether wakeups are asked for; the kernel takes no such flags for the others.
// Sockets on the same queue of the same device need Linux 6.4, and a program that
// chooses between them; [Program] has one socket for each queue.
//
// Sockets may be opened and closed in any order, from any goroutine; the region
// is the caller's to close after the last. Each half of each socket is for one
// goroutine, as ever: halves of different sockets are independent. While a socket
// is closed that has unsent packets, nobody may be in its Wait, which sends them.
type Shared struct {
	region *umem.Region
	owner  []*share // per chunk; who lends or queues a frame writes its entry

	mu       sync.Mutex
	pools    []*pool
	zerocopy bool // while there are pools: what the first bind got
	several  bool // the same, for packets over several frames
	lost     int
}

// poolKey is a queue of a device: interface indices repeat in every network
// namespace.
type poolKey struct {
	netns   uint64 // hostif.NetNSOf
	ifindex int
	queue   uint32
}

// pool is the fill and completion ring of one queue, and who uses them.
type pool struct {
	key   poolKey
	socks []*Socket    // guarded by Shared.mu
	gone  []*share     // of closed sockets; guarded by Shared.mu
	lent  atomic.Int64 // frames lent for receiving, over all sockets

	fillMu sync.Mutex
	fill   ring.Producer[umem.Addr]

	compMu sync.Mutex
	comp   ring.Consumer[umem.Addr]
}

// share is a socket's part in a Shared.
type share struct {
	of   *Shared
	pool *pool
	back atomic.Uint32 // frames sent by this socket and completed, that TX.lent, or left, still counts
	left uint32        // TX.lent when the socket was closed

	times *txTimes // of packets sent by this socket, or nil; guarded by pool.compMu
}

// NewShared makes region usable by several sockets. One Shared per region: it
// has to know of every socket that uses it.
func NewShared(region *umem.Region) *Shared {
	return &Shared{region: region, owner: make([]*share, region.Chunks())}
}

// Region returns the packet memory.
func (sh *Shared) Region() *umem.Region { return sh.region }

// Sockets returns the open sockets, in no particular order.
func (sh *Shared) Sockets() (all []*Socket) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, p := range sh.pools {
		all = append(all, p.socks...)
	}
	return all
}

// Lost returns how many frames were out when the last socket of their queue was
// closed, and could not be had back: in zero-copy mode all that the device had,
// also if Open failed after the bind, in copy mode those sent and not yet completed, and packets that were redirected
// to a socket while it was being closed (take it out of the program first). They
// stay out of use, since the device may still read or write them.
func (sh *Shared) Lost() int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.lost
}

// poolLocked returns the pool of a queue, nil if no socket has it.
func (sh *Shared) poolLocked(key poolKey) *pool {
	for _, p := range sh.pools {
		if p.key == key {
			return p
		}
	}
	return nil
}

// joinLocked makes s, whose kernel is bound, part of the pool of its queue.
func (sh *Shared) joinLocked(s *Socket, key poolKey) {
	p := sh.poolLocked(key)
	if p == nil {
		m := s.kernel.Rings()
		p = &pool{key: key, fill: ring.NewProducer(m.Fill), comp: ring.NewConsumer(m.Comp)}
		if len(sh.pools) == 0 {
			sh.zerocopy, sh.several = s.kernel.ZeroCopy(), s.kernel.MaxParts() > 1
		}
		sh.pools = append(sh.pools, p)
	}
	p.socks = append(p.socks, s)
	s.share = &share{of: sh, pool: p, times: s.tx.times}
	s.rx.share, s.tx.share = s.share, s.share
	for _, a := range s.rx.early { // lent before there was a share; nobody has received yet
		s.share.own(a)
	}
	p.lent.Add(int64(s.rx.lent))
	s.rx.lent = 0
}

// own notes that the frame of a is lent for this socket.
func (sr *share) own(a umem.Addr) { sr.of.owner[sr.of.region.Index(a)] = sr }

// lentHere tells whether the frame of a was last lent through this socket's pool.
func (sr *share) lentHere(a umem.Addr) bool {
	i := sr.of.region.Index(a)
	return i < len(sr.of.owner) && sr.of.owner[i] != nil && sr.of.owner[i].pool == sr.pool
}

// refill is RX.Refill of a socket that shares its fill ring. The lock is not held
// over the system call.
func (sr *share) refill(r *RX) int {
	p := sr.pool
	p.fillMu.Lock()
	n := uint32(0)
	if free := p.fill.Free(p.fill.Len()); free != 0 {
		n = min(free, p.fill.Len()-uint32(min(p.lent.Load(), int64(p.fill.Len()))))
	}
	if have := uint32(r.cache.Available(int(n))); have < n {
		r.st.shortage.Add(1)
		n = have
	}
	if n != 0 {
		first, _ := p.fill.Reserve(n)
		for i := range n {
			a, _ := r.cache.GetFor(umem.Fill)
			sr.own(a)
			p.fill.Set(first+i, a)
		}
		p.lent.Add(int64(n)) // before anybody can receive them
		p.fill.Submit()
	}
	// In this order: of a corrupt ring, which nothing is pending in, the mapping may
	// have gone with its socket.
	wake := p.fill.Pending() != 0 && p.fill.NeedsWakeup()
	p.fillMu.Unlock()
	if wake {
		r.wakeRX()
	}
	return int(n)
}

// manyLent stands in for RX.lent during Receive on a shared fill ring, where the
// owner of each frame is what is checked.
const manyLent = math.MaxInt

// reclaim is TX.Reclaim of a socket that shares its completion ring: it returns
// how many of this socket's own frames came back, by whomever's reading.
func (sr *share) reclaim(t *TX) int {
	sr.pool.compMu.Lock()
	strays := sr.readCompletionsLocked(t.cache)
	sr.pool.compMu.Unlock()
	if strays != 0 {
		t.st.strays.Add(uint64(strays))
	}
	return sr.collect(t)
}

// readCompletionsLocked frees every completed frame into cache and credits its
// sender. It returns how many were not sent through this pool.
func (sr *share) readCompletionsLocked(cache *umem.Cache) (strays int) {
	p := sr.pool
	first, n := p.comp.Peek(p.comp.Len())
	if n == 0 {
		return 0
	}
	for i := range n {
		a := p.comp.Get(first + i)
		if !sr.lentHere(a) {
			strays++
			continue
		}
		sender := sr.of.owner[sr.of.region.Index(a)]
		if !sender.times.free(cache, sr.of.region, a) {
			strays++
			continue
		}
		sender.back.Add(1)
	}
	p.comp.Release()
	return strays
}

// collect takes what was credited off the frames that the TX half has out.
func (sr *share) collect(t *TX) int {
	n := sr.back.Swap(0)
	t.lent -= n
	if n != 0 {
		t.st.completions.Add(uint64(n))
	}
	return int(n)
}

func (sr *share) fillErr() error {
	sr.pool.fillMu.Lock()
	defer sr.pool.fillMu.Unlock()
	return sr.pool.fill.Err()
}

func (sr *share) compErr() error {
	sr.pool.compMu.Lock()
	defer sr.pool.compMu.Unlock()
	return sr.pool.comp.Err()
}

// close takes s out of its pool and closes its kernel side. The frames that it has
// in its rings and caches go back to the region.
//
// Preconditions: s.mu is held, and nobody uses the halves.
func (sr *share) close(s *Socket) error {
	sh, p := sr.of, sr.pool
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p.socks = slices.DeleteFunc(p.socks, func(o *Socket) bool { return o == s })
	last, copied := len(p.socks) == 0, !s.kernel.ZeroCopy()

	// The order matters: a frame that the kernel moves from the fill ring to
	// the RX ring meanwhile is in both lists, not in neither.
	back := make(map[umem.Addr]umem.State)
	if last && copied {
		p.fillMu.Lock()
		for a := range unread(s.kernel.Rings().Fill) {
			back[sh.region.Frame(a)] = umem.Fill
		}
		p.fillMu.Unlock()
	}
	for d := range unread(s.kernel.Rings().RX) {
		back[sh.region.Frame(sh.region.Resolve(d.Addr))] = umem.Fill
	}
	sr.reclaim(&s.tx)
	if copied {
		// Only the sender's own system calls take packets then.
		for d := range unread(s.kernel.Rings().TX) {
			back[sh.region.Frame(d.Addr)] = umem.TX
		}
	}
	if !last {
		p.remap(p.socks[0].kernel.Rings())
	}
	err := s.kernel.Close()

	// Now the kernel writes to none of them any more: it waits for that
	// (synchronize_net in xsk_unbind_dev, Linux net/xdp/xsk.c).
	for a, state := range back {
		if !sr.lentHere(a) || state == umem.TX && sh.owner[sh.region.Index(a)] != sr || !s.tx.cache.PutFrom(a, state) {
			continue
		}
		if state == umem.Fill {
			p.lent.Add(-1)
		} else {
			s.tx.lent--
		}
	}
	s.rx.cache.Drain()
	s.tx.cache.Drain()
	sr.left = s.tx.lent
	p.gone = append(slices.DeleteFunc(p.gone, func(o *share) bool { return o.left == o.back.Load() }), sr)
	if last {
		sh.pools = slices.DeleteFunc(sh.pools, func(o *pool) bool { return o == p })
		sh.lost += p.missing()
	}
	return err
}

// unread yields what is in a ring and not yet taken by its consumer, without
// taking it.
func unread[T any](m ring.Mem[T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		c := ring.NewConsumer(m)
		first, n := c.Peek(c.Len())
		for i := range n {
			if !yield(c.Get(first + i)) {
				return
			}
		}
	}
}

// missing returns how many frames are out in a pool that has no sockets.
func (p *pool) missing() int {
	n := p.lent.Load()
	for _, sr := range p.gone {
		n += int64(sr.left - sr.back.Load())
	}
	return int(n)
}

// remap makes the pool use a mapping of its rings that stays: nothing is
// reserved or peeked outside the locks, so the shared indices say it all.
func (p *pool) remap(m Rings) {
	p.fillMu.Lock()
	defer p.fillMu.Unlock()
	p.compMu.Lock()
	defer p.compMu.Unlock()
	if p.fill.Err() == nil {
		p.fill = ring.NewProducer(m.Fill)
	}
	if p.comp.Err() == nil {
		p.comp = ring.NewConsumer(m.Comp)
	}
}

// checkLocked finds what later sockets of a Shared cannot choose.
func (sh *Shared) checkLocked(cfg Config, several bool) error {
	if len(sh.pools) == 0 {
		return nil
	}
	mode := BindCopy
	if sh.zerocopy {
		mode = BindZeroCopy
	}
	switch {
	case cfg.Bind != BindAuto && cfg.Bind != mode:
		return fmt.Errorf("Config.Bind: %v, but the first socket of Config.Shared is in %v mode, and so are all: %w", cfg.Bind, mode, errors.ErrUnsupported)
	case several && !sh.several:
		return fmt.Errorf("packets over several chunks are needed, but the first socket of Config.Shared has none: open that with MultiBufferOn: %w", errors.ErrUnsupported)
	case cfg.MultiBuffer == MultiBufferOff && sh.several:
		return fmt.Errorf("Config.MultiBuffer: off, but the first socket of Config.Shared has it, and so have all: %w", errors.ErrUnsupported)
	}
	return nil
}
