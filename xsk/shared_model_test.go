package xsk

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

// simPool plays the kernel's side of one queue: its fill and completion ring,
// and what it has taken out of rings.
type simPool struct {
	key     poolKey
	size    uint32
	rings   Rings // Fill and Comp
	fill    ring.Consumer[umem.Addr]
	comp    ring.Producer[umem.Addr]
	members []*simMember
	frames  []umem.Addr
	sent    []umem.Desc
}

// simMember is a socket of a simPool.
type simMember struct {
	s *Socket
	k *simKernel
}

func newSimPool(tb testing.TB, key poolKey, size uint32) *simPool {
	tb.Helper()
	p := &simPool{key: key, size: size}
	p.rings.Fill, p.rings.Comp = heapRing[umem.Addr](tb, size, 1<<32-2), heapRing[umem.Addr](tb, size, 1<<32-2)
	p.fill, p.comp = ring.NewConsumer(p.rings.Fill), ring.NewProducer(p.rings.Comp)
	return p
}

// open adds a socket to the pool, as Open does.
func (p *simPool) open(tb testing.TB, sh *Shared, zerocopy bool) *simMember {
	tb.Helper()
	k := &simKernel{zerocopy: zerocopy, rings: Rings{
		Fill: p.rings.Fill, Comp: p.rings.Comp,
		RX: heapRing[umem.Desc](tb, p.size, 1<<32-1), TX: heapRing[umem.Desc](tb, p.size, 1<<32-1),
	}}
	k.rx, k.tx = ring.NewProducer(k.rings.RX), ring.NewConsumer(k.rings.TX)
	m := &simMember{NewOn(k, sh.Region(), fmt.Sprint("sim", p.key.ifindex), p.key.queue), k}
	sh.mu.Lock()
	sh.joinLocked(m.s, p.key)
	sh.mu.Unlock()
	p.members = append(p.members, m)
	return m
}

// sharedModel opens, uses and closes sockets on one region at random.
type sharedModel struct {
	t        *testing.T
	rng      *rand.Rand
	sh       *Shared
	zerocopy bool
	hostile  bool
	size     uint32
	pools    []*simPool
	held     []umem.Desc
	lost     int
}

// TestSharedConservation holds every sequence of operations on sockets that
// share a region, on one queue, on several, and on two devices, to the invariant:
// each frame has one owner, completions are credited to who sent, and what closed
// sockets had is free again or counted as lost.
func TestSharedConservation(t *testing.T) {
	rng := seeded(t)
	for _, hostile := range []bool{false, true} {
		for _, zerocopy := range []bool{false, true} {
			for _, size := range []uint32{2, 16} {
				for _, chunks := range []int{8, 64, 300} {
					t.Run(fmt.Sprintf("hostile=%v/zerocopy=%v/ring=%d/chunks=%d", hostile, zerocopy, size, chunks), func(t *testing.T) {
						region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: chunks, OnHeap: true})
						if err != nil {
							t.Fatal(err)
						}
						m := &sharedModel{t: t, rng: rng, sh: NewShared(region), zerocopy: zerocopy, hostile: hostile, size: size}
						for step := range 2000 {
							m.check(fmt.Sprintf("step %d, %s", step, m.step()))
						}
						m.finish()
					})
				}
			}
		}
	}
}

// pool returns the pool of a random queue; it may have no sockets.
func (m *sharedModel) pool() *simPool {
	key := poolKey{netns: 1, ifindex: 1 + m.rng.IntN(2), queue: m.rng.Uint32N(2)}
	for _, p := range m.pools {
		if p.key == key {
			return p
		}
	}
	p := newSimPool(m.t, key, m.size)
	m.pools = append(m.pools, p)
	return p
}

// open adds a socket to the pool.
func (m *sharedModel) open(p *simPool) { p.open(m.t, m.sh, m.zerocopy) }

func (m *sharedModel) close(p *simPool, i int) {
	mem := p.members[i]
	p.members = slices.Delete(p.members, i, i+1)
	if len(p.members) == 0 {
		// What the kernel has is gone with it; what is in the rings too, if a
		// device could still use it.
		m.lost += len(p.frames) + len(p.sent)
		if m.zerocopy {
			m.lost += int(p.fill.Available(p.size))
			m.lost += int(mem.k.tx.Available(p.size)) + int(mem.s.tx.tx.Unsubmitted())
		}
		m.pools = slices.DeleteFunc(m.pools, func(o *simPool) bool { return o == p })
	} else if m.zerocopy {
		// Nobody sends or completes these any more.
		m.lost += int(mem.k.tx.Available(p.size)) + int(mem.s.tx.tx.Unsubmitted())
	}
	if err := mem.s.Close(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *sharedModel) step() string {
	p := m.pool()
	n := m.rng.IntN(20)
	if len(p.members) == 0 {
		m.open(p)
		return "open first"
	}
	i := m.rng.IntN(len(p.members))
	mem := p.members[i]
	rx, tx := mem.s.RX(), mem.s.TX()
	switch m.rng.IntN(14) {
	case 0:
		if len(p.members) < 3 && m.rng.IntN(3) == 0 {
			m.open(p)
			return "open"
		}
		fallthrough
	case 1:
		if m.rng.IntN(4) == 0 {
			tx.Flush()
			m.close(p, i)
			return "close"
		}
		fallthrough
	case 2:
		rx.Refill()
		return "Refill"
	case 3, 4:
		dst := make([]umem.Desc, n)
		m.held = append(m.held, dst[:rx.Receive(dst)]...)
		return "Receive"
	case 5:
		n = min(n, len(m.held))
		rx.Recycle(m.held[:n])
		m.held = m.held[n:]
		return "Recycle"
	case 6: // to any socket: received on another queue or device, perhaps
		m.held = slices.DeleteFunc(m.held, func(d umem.Desc) bool {
			return m.rng.IntN(2) == 0 && tx.Queue(d.Addr, int(d.Len))
		})
		tx.Flush()
		return "forward"
	case 7:
		for range min(tx.Free(n), n) {
			if a, _, ok := tx.Frame(); !ok || !tx.Queue(a, 1+m.rng.IntN(100)) {
				m.t.Fatal("Frame or Queue failed after Free")
			}
		}
		tx.Flush()
		return "send"
	case 8:
		tx.Reclaim()
		return "Reclaim"
	}
	return m.stepKernel(p, mem, n)
}

func (m *sharedModel) stepKernel(p *simPool, mem *simMember, n int) string {
	switch m.rng.IntN(5) {
	case 0:
		first, got := p.fill.Peek(uint32(n))
		for i := range got {
			p.frames = append(p.frames, p.fill.Get(first+i))
		}
		p.fill.Release()
		return "kernel takes frames"
	case 1: // the program chose this socket
		for len(p.frames) > 0 && n > 0 && mem.k.rx.Free(1) > 0 {
			mem.k.deliver(umem.Desc{Addr: p.frames[0] + 256, Len: 60})
			p.frames, n = p.frames[1:], n-1
		}
		return "kernel receives"
	case 2:
		had := len(mem.k.sent)
		mem.k.takeTX(uint32(n))
		p.sent = append(p.sent, mem.k.sent[had:]...)
		mem.k.sent = mem.k.sent[:0]
		m.rng.Shuffle(len(p.sent), func(i, j int) { p.sent[i], p.sent[j] = p.sent[j], p.sent[i] })
		return "kernel sends"
	case 3:
		for len(p.sent) > 0 && p.comp.Free(1) > 0 {
			m.complete(p, p.sent[0].Addr)
			p.sent = p.sent[1:]
		}
		return "kernel completes"
	}
	if m.hostile {
		a := umem.Addr(m.rng.Uint64N(uint64(m.sh.Region().Chunks()+2) * 2048))
		switch {
		case m.rng.IntN(2) == 0 && mem.k.rx.Free(1) > 0:
			mem.k.deliver(umem.Desc{Addr: a, Len: m.rng.Uint32N(3000)})
		case p.comp.Free(1) > 0:
			m.complete(p, a)
		}
	}
	return "kernel lies"
}

func (m *sharedModel) complete(p *simPool, a umem.Addr) {
	slot, _ := p.comp.Reserve(1)
	p.comp.Set(slot, a)
	p.comp.Submit()
}

func (m *sharedModel) check(when string) {
	m.t.Helper()
	a := m.sh.Region().Audit()
	out := 0
	strays := uint64(0)
	for _, p := range m.pools {
		for _, mem := range p.members {
			out += mem.s.TX().Lent() - int(mem.s.share.back.Load())
			st := statistics(m.t, mem.s)
			strays += st.RXBadDescs + st.TXStrays
			if err := mem.s.TX().Err(); err != nil || mem.s.RX().Err() != nil {
				m.t.Fatalf("%s: TX %v, RX %v", when, err, mem.s.RX().Err())
			}
		}
	}
	lent := 0
	m.sh.mu.Lock()
	for _, p := range m.sh.pools {
		lent += int(p.lent.Load())
		for _, sr := range p.gone {
			out += int(sr.left - sr.back.Load())
		}
	}
	m.sh.mu.Unlock()
	if a.Chunks() != m.sh.Region().Chunks() || a.Held != len(m.held) || a.TX+a.Fill != out+lent+m.sh.Lost() {
		m.t.Fatalf("%s: %+v, want %d held, %d tx, %d fill, %d lost", when, a, len(m.held), out, lent, m.sh.Lost())
	}
	if !m.hostile && strays != 0 {
		m.t.Fatalf("%s: %d bad descriptors or strays", when, strays)
	}
}

// finish closes every socket, in random order.
func (m *sharedModel) finish() {
	m.t.Helper()
	for len(m.pools) > 0 {
		p := m.pools[m.rng.IntN(len(m.pools))]
		m.close(p, m.rng.IntN(len(p.members)))
		m.check("closing")
	}
	a, lost := m.sh.Region().Audit(), m.sh.Lost()
	if a.Free+a.Held+lost != m.sh.Region().Chunks() || a.Pooled != a.Free || len(m.sh.Sockets()) != 0 {
		m.t.Errorf("after closing: %+v and %d lost", a, lost)
	}
	if !m.hostile && lost != m.lost {
		m.t.Errorf("%d frames lost, want %d", lost, m.lost)
	}
}

// TestSharedInParallel has two sockets on one queue, each half on a goroutine of
// its own, and the kernel on one more. The program gives packets to the sockets
// by turns; each sends what it gets through the other. The memory is on the heap,
// so the race detector sees it.
func TestSharedInParallel(t *testing.T) {
	total := 10_000
	if testing.Short() {
		total = 1000
	}
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 128, OnHeap: true})
	if err != nil {
		t.Fatal(err)
	}
	sh := NewShared(region)
	p := newSimPool(t, poolKey{}, 16)
	for range 2 {
		p.open(t, sh, false)
	}
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	var wg sync.WaitGroup
	pass := [2]chan umem.Desc{make(chan umem.Desc, 16), make(chan umem.Desc, 16)}
	for i, m := range p.members {
		wg.Go(func() { // RX
			defer close(pass[1-i])
			dst := make([]umem.Desc, 8)
			for !stopped() {
				m.s.RX().Refill()
				n := m.s.RX().Receive(dst)
				for _, d := range dst[:n] {
					region.Bytes(d)[0]++
					pass[1-i] <- d
				}
				if n == 0 {
					runtime.Gosched()
				}
			}
		})
		wg.Go(func() { // TX
			tx := m.s.TX()
			for more := true; more || tx.Lent() > 0; {
				select {
				case d, ok := <-pass[i]:
					if more = ok; !ok {
						pass[i] = nil
						break
					}
					for !tx.Queue(d.Addr, int(d.Len)) {
						tx.Reclaim()
						runtime.Gosched()
					}
					tx.Flush()
				default:
					// The other socket's completions are in the way of ours.
					if tx.Reclaim() == 0 {
						runtime.Gosched()
					}
				}
			}
		})
	}
	for received, completed := 0, 0; completed < total; {
		idle := true
		for _, m := range p.members {
			if first, n := p.fill.Peek(1); n != 0 && received < total && m.k.rx.Free(1) > 0 {
				d := umem.Desc{Addr: p.fill.Get(first) + 256, Len: 60}
				p.fill.Release()
				region.Bytes(d)[0] = 1
				m.k.deliver(d)
				received++
				idle = false
			} else {
				p.fill.Cancel(n)
			}
			m.k.takeTX(4)
			for len(m.k.sent) > 0 && p.comp.Free(1) > 0 {
				if b := region.Bytes(m.k.sent[0])[0]; b != 2 {
					t.Errorf("a packet came back as %d", b)
				}
				slot, _ := p.comp.Reserve(1)
				p.comp.Set(slot, m.k.sent[0].Addr)
				p.comp.Submit()
				m.k.sent = m.k.sent[1:]
				completed++
				idle = false
			}
		}
		if idle {
			runtime.Gosched()
		}
	}
	close(stop)
	wg.Wait()
	var received, completed uint64
	for _, m := range p.members {
		st := statistics(t, m.s)
		received, completed = received+st.RXFrames, completed+st.TXCompletions
		if st.TXFrames != st.TXCompletions || st.TXStrays+st.RXBadDescs != 0 {
			t.Errorf("%+v", st)
		}
		if err := m.s.Close(); err != nil {
			t.Error(err)
		}
	}
	if received != uint64(total) || completed != uint64(total) {
		t.Errorf("%d received, %d completed, want %d", received, completed, total)
	}
	if a := region.Audit(); a.Free != region.Chunks() || sh.Lost() != 0 {
		t.Errorf("%+v, %d lost", a, sh.Lost())
	}
}

// TestSharedAllocs holds both halves of a sharing socket to no allocation.
func TestSharedAllocs(t *testing.T) {
	if debugUMEM() {
		t.Skip("xskdebug keeps a stack per frame")
	}
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 256, OnHeap: true})
	if err != nil {
		t.Fatal(err)
	}
	sh := NewShared(region)
	p := newSimPool(t, poolKey{}, 64)
	a, b := p.open(t, sh, false), p.open(t, sh, false)
	dst := make([]umem.Desc, 32)
	a.k.sent = make([]umem.Desc, 0, 64)
	n := testing.AllocsPerRun(100, func() {
		b.s.RX().Refill()
		first, got := p.fill.Peek(32)
		to, _ := a.k.rx.Reserve(got)
		for i := range got {
			a.k.rx.Set(to+i, umem.Desc{Addr: p.fill.Get(first+i) + 256, Len: 60})
		}
		p.fill.Release()
		a.k.rx.Submit()
		for _, d := range dst[:a.s.RX().Receive(dst)] {
			if !a.s.TX().Queue(d.Addr, 60) {
				t.Fatal("Queue refused")
			}
		}
		a.s.TX().Flush()
		a.k.takeTX(64)
		for _, d := range a.k.sent {
			slot, _ := p.comp.Reserve(1)
			p.comp.Set(slot, d.Addr)
		}
		p.comp.Submit()
		a.k.sent = a.k.sent[:0]
		b.s.TX().Reclaim()
		a.s.TX().Reclaim()
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	if st := statistics(t, a.s); st.TXFrames == 0 || st.TXFrames != st.TXCompletions || st.RXFrames != st.TXFrames {
		t.Errorf("%+v", st)
	}
}

// TestSharedStrays has the kernel give back on one queue what was lent on another:
// the frame is kept out, and who lent it can still have it back.
func TestSharedStrays(t *testing.T) {
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 64, OnHeap: true})
	if err != nil {
		t.Fatal(err)
	}
	sh := NewShared(region)
	p, q := newSimPool(t, poolKey{queue: 0}, 4), newSimPool(t, poolKey{queue: 1}, 4)
	a, b := p.open(t, sh, false), q.open(t, sh, false)
	a.s.RX().Refill()
	b.s.RX().Refill()
	first, _ := p.fill.Peek(1)
	lent := p.fill.Get(first)
	sent, _, _ := a.s.TX().Frame()
	if !a.s.TX().Queue(sent, 60) {
		t.Fatal("Queue refused")
	}
	dst := make([]umem.Desc, 4)

	b.k.deliver(umem.Desc{Addr: lent, Len: 60})
	slot, _ := q.comp.Reserve(1)
	q.comp.Set(slot, sent)
	q.comp.Submit()
	if n := b.s.RX().Receive(dst); n != 0 {
		t.Errorf("%d packets received in frames of another queue", n)
	}
	if n := b.s.TX().Reclaim(); n != 0 || a.s.TX().Reclaim() != 0 {
		t.Errorf("%d completions of another queue's frames", n)
	}
	if st := statistics(t, b.s); st.RXBadDescs != 1 || st.TXStrays != 1 {
		t.Errorf("%+v", st)
	}

	a.k.deliver(umem.Desc{Addr: lent, Len: 60})
	slot, _ = p.comp.Reserve(1)
	p.comp.Set(slot, sent)
	p.comp.Submit()
	if n := a.s.RX().Receive(dst); n != 1 {
		t.Errorf("%d packets received in frames of its own", n)
	}
	if n := a.s.TX().Reclaim(); n != 1 {
		t.Errorf("%d completions of its own frames", n)
	}
}
