package xsk

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/afxnet/afxnet/umem"
)

// socketModel drives a socket and its kernel at random and counts who has what.
type socketModel struct {
	t       *testing.T
	rng     *rand.Rand
	s       *Socket
	k       *simKernel
	hostile bool
	held    []umem.Desc // received, not yet given back
	frames  []umem.Addr // from Frame, not yet queued
}

// TestConservation holds every sequence of operations to the invariant: each
// frame is free, lent to one half, or held, and the counts agree with what the
// halves say. A hostile kernel may lose frames but never double them.
func TestConservation(t *testing.T) {
	rng := seeded(t)
	for _, hostile := range []bool{false, true} {
		for _, size := range []uint32{2, 4, 16} {
			for _, spare := range []int{0, 4, 100} {
				parts := []int{1, maxTXParts}[rng.IntN(2)]
				t.Run(fmt.Sprintf("hostile=%v/ring=%d/spare=%d/parts=%d", hostile, size, spare, parts), func(t *testing.T) {
					unaligned := rng.IntN(2) == 1
					region, err := umem.New(umem.Config{ChunkSize: map[bool]int{false: 2048, true: 2112}[unaligned], Unaligned: unaligned, Chunks: int(2*size) + spare, OnHeap: true})
					if err != nil {
						t.Fatal(err)
					}
					s, k := newSimParts(t, region, size, 1<<32-rng.Uint64N(100), parts)
					m := &socketModel{t: t, rng: rng, s: s, k: k, hostile: hostile}
					for step := range 1500 {
						m.check(fmt.Sprintf("step %d, %s", step, m.step()))
					}
					if !hostile {
						m.drain()
					}
				})
			}
		}
	}
}

func (m *socketModel) step() string {
	n := m.rng.IntN(20)
	switch m.rng.IntN(15) {
	case 0:
		m.s.RX().Refill()
		return "Refill"
	case 1, 2:
		dst := make([]umem.Desc, n)
		got := m.s.RX().Receive(dst)
		if got > 0 && dst[got-1].Continues() {
			m.t.Fatal("Receive returned a packet that is not whole")
		}
		m.held = append(m.held, dst[:got]...)
		return "Receive"
	case 3:
		n = min(n, len(m.held))
		m.s.RX().Recycle(m.held[:n])
		m.held = m.held[n:]
		return "Recycle"
	case 4: // zero-copy forwarding
		m.held = slices.DeleteFunc(m.held, func(d umem.Desc) bool {
			return m.rng.IntN(2) == 0 && m.s.TX().Queue(d.Addr, int(d.Len))
		})
		return "forward"
	case 5:
		for range min(m.s.TX().Free(n), n) {
			a, _, ok := m.s.TX().Frame()
			if !ok {
				m.t.Fatal("Frame failed after Free")
			}
			if !m.s.TX().Queue(a+umem.Addr(m.rng.IntN(2000)), 1+m.rng.IntN(48)) {
				m.t.Fatal("Queue failed after Free")
			}
		}
		return "send"
	case 6:
		if a, _, ok := m.s.TX().Frame(); ok {
			m.frames = append(m.frames, a)
		}
		return "Frame"
	case 7:
		for _, a := range m.frames {
			m.s.TX().Cancel(a)
		}
		m.frames = nil
		return "Cancel"
	case 8:
		m.s.TX().Flush()
		return "Flush"
	case 9:
		m.s.TX().Reclaim()
		return "Reclaim"
	case 10:
		n = min(m.s.TX().Free(n), n, int(m.s.TX().parts))
		var parts []umem.Desc
		for range n {
			a, _, _ := m.s.TX().Frame()
			parts = append(parts, umem.Desc{Addr: a, Len: 1 + m.rng.Uint32N(48)})
		}
		if n > 0 && !m.s.TX().QueueParts(parts) {
			m.t.Fatalf("%d parts refused after Free", n)
		}
		return "QueueParts"
	default:
		return m.stepKernel(uint32(n))
	}
}

// stepKernel does some of the kernel's work, in any order.
func (m *socketModel) stepKernel(n uint32) string {
	k := m.k
	k.rings.TX.Flags.Store(m.rng.Uint32N(2))
	k.rings.Fill.Flags.Store(m.rng.Uint32N(2))
	switch m.rng.IntN(5) {
	case 0:
		k.takeFill(n)
		m.rng.Shuffle(len(k.frames), func(i, j int) { k.frames[i], k.frames[j] = k.frames[j], k.frames[i] })
		return "kernel takes frames"
	case 1:
		for range min(n, k.rx.Free(n), uint32(len(k.frames))) {
			a := k.frames[0]
			k.frames = k.frames[1:]
			d := umem.Desc{Addr: umem.Addr(m.rng.IntN(2000)), Len: 1 + m.rng.Uint32N(48)}
			if m.s.Region().Unaligned() {
				d.Addr <<= 48 // as the kernel says where the packet begins
			}
			d.Addr += a
			if m.rng.IntN(20) == 0 {
				d.Options = umem.OptionContinues
			}
			k.deliver(d)
		}
		return "kernel receives"
	case 2:
		k.takeTX(n)
		m.rng.Shuffle(len(k.sent), func(i, j int) { k.sent[i], k.sent[j] = k.sent[j], k.sent[i] })
		return "kernel sends"
	case 3:
		for range min(n, k.comp.Free(n), uint32(len(k.sent))) {
			k.complete(k.sent[0].Addr)
			k.sent = k.sent[1:]
		}
		return "kernel completes"
	default:
		if m.hostile {
			m.lie()
		}
		return "kernel lies"
	}
}

// lie puts something into a ring that does not belong there.
func (m *socketModel) lie() {
	a := umem.Addr(m.rng.Uint64N(uint64(m.s.Region().Chunks()+2) * 2048))
	if m.rng.IntN(4) == 0 {
		a = umem.Addr(m.rng.Uint64())
	}
	if m.rng.IntN(2) == 0 && m.k.rx.Free(1) > 0 {
		m.k.deliver(umem.Desc{Addr: a, Len: m.rng.Uint32N(3000), Options: m.rng.Uint32N(4)})
	} else if m.k.comp.Free(1) > 0 {
		m.k.complete(a)
	}
}

func (m *socketModel) check(when string) {
	m.t.Helper()
	a := m.s.Region().Audit()
	if a.Chunks() != m.s.Region().Chunks() || a.Held != len(m.held)+len(m.frames) ||
		a.TX != m.s.TX().Lent() || a.Fill != m.s.RX().lent {
		m.t.Fatalf("%s: %+v, want %d held, %d tx, %d fill", when, a, len(m.held)+len(m.frames), m.s.TX().Lent(), m.s.RX().lent)
	}
	if m.s.TX().Err() != nil || m.s.RX().Err() != nil {
		m.t.Fatalf("%s: TX %v, RX %v", when, m.s.TX().Err(), m.s.RX().Err())
	}
	st := statistics(m.t, m.s)
	if !m.hostile && st.RXBadDescs+st.TXStrays != 0 {
		m.t.Fatalf("%s: %d bad descriptors, %d strays", when, st.RXBadDescs, st.TXStrays)
	}
	seen := make(map[umem.Addr]bool)
	for _, d := range m.held {
		if f := m.s.Region().Frame(d.Addr); seen[f] || m.s.Region().Bytes(d) == nil {
			m.t.Fatalf("%s: frame %#x has two owners, or lies outside", when, f)
		} else {
			seen[f] = true
		}
	}
}

// drain lets the traffic stop: everything comes back.
func (m *socketModel) drain() {
	m.t.Helper()
	m.s.TX().Flush()
	for m.s.TX().Lent() > 0 {
		m.k.takeTX(m.k.tx.Len())
		for len(m.k.sent) > 0 && m.k.comp.Free(1) > 0 {
			m.k.complete(m.k.sent[0].Addr)
			m.k.sent = m.k.sent[1:]
		}
		if m.s.TX().Reclaim() == 0 {
			m.t.Fatalf("%d frames do not come back", m.s.TX().Lent())
		}
	}
	m.s.RX().Recycle(m.held)
	for _, a := range m.frames {
		m.s.TX().Cancel(a)
	}
	a := m.s.Region().Audit()
	if a.Held != 0 || a.TX != 0 || a.Free+a.Fill != m.s.Region().Chunks() {
		m.t.Errorf("after the traffic: %+v", a)
	}
}

// TestHalvesInParallel runs the RX half, the TX half and the kernel on three
// goroutines: received frames are sent back as they are. The memory is on the
// heap, so the race detector sees it.
func TestHalvesInParallel(t *testing.T) {
	total := 20_000
	if testing.Short() {
		total = 2000
	}
	s, k := newSim(t, 16, 96)
	var wg sync.WaitGroup
	pass := make(chan umem.Desc, 16)
	wg.Go(func() { echoKernel(t, s, k, total) })
	wg.Go(func() { // statistics, which are for any goroutine
		for was := (Statistics{}); was.TXCompletions < uint64(total); runtime.Gosched() {
			st := statistics(t, s)
			if st.RXFrames < was.RXFrames || st.TXFrames < was.TXFrames || st.TXCompletions < was.TXCompletions || st.RXFrames > uint64(total) {
				t.Errorf("%+v after %+v", st, was)
				return
			}
			was = st
		}
	})
	wg.Go(func() { // RX
		dst := make([]umem.Desc, 8)
		for got := 0; got < total; {
			s.RX().Refill()
			n := s.RX().Receive(dst)
			for _, d := range dst[:n] {
				b := s.Region().Bytes(d)
				b[0]++
				pass <- d
			}
			if got += n; n == 0 {
				runtime.Gosched()
			}
		}
		close(pass)
	})
	for d := range pass { // TX
		for !s.TX().Queue(d.Addr, int(d.Len)) {
			s.TX().Flush()
			if s.TX().Reclaim() == 0 {
				runtime.Gosched()
			}
		}
		s.TX().Flush()
	}
	for s.TX().Lent() > 0 {
		if s.TX().Reclaim() == 0 {
			runtime.Gosched()
		}
	}
	wg.Wait()
	if a := s.Region().Audit(); a.Held != 0 || a.TX != 0 || a.Chunks() != 96 {
		t.Errorf("%+v", a)
	}
	if st := statistics(t, s); st.RXFrames != uint64(total) || st.TXCompletions != uint64(total) || st.RXBadDescs+st.TXStrays != 0 {
		t.Errorf("%+v", st)
	}
}

// echoKernel delivers total numbered packets and expects each back, changed.
func echoKernel(t *testing.T, s *Socket, k *simKernel, total int) {
	for sent, back := 0, 0; back < total; {
		k.takeFill(1)
		idle := true
		for len(k.frames) > 0 && sent < total && k.rx.Free(1) > 0 {
			d := umem.Desc{Addr: k.frames[0] + 256, Len: 60}
			k.frames = k.frames[1:]
			s.Region().Bytes(d)[0] = byte(sent)
			k.deliver(d)
			sent++
			idle = false
		}
		k.takeTX(4)
		for len(k.sent) > 0 && k.comp.Free(1) > 0 {
			if got := s.Region().Bytes(k.sent[0])[0]; got != byte(back)+1 {
				t.Errorf("packet %d came back as %d", back, got)
			}
			k.complete(k.sent[0].Addr)
			k.sent = k.sent[1:]
			back++
			idle = false
		}
		if idle {
			runtime.Gosched()
		}
	}
}

// loop is one batch of the receive or transmit path with its kernel.
type loop struct {
	s   *Socket
	k   *simKernel
	dst []umem.Desc
}

func newLoop(tb testing.TB, batch int) *loop {
	tb.Helper()
	s, k := newSim(tb, 2048, 2048*2+spareChunks)
	k.frames, k.sent = make([]umem.Addr, 0, 2048), make([]umem.Desc, 0, 2048)
	s.RX().Refill()
	return &loop{s: s, k: k, dst: make([]umem.Desc, batch)}
}

// kernelReceives delivers a batch without allocating.
func (l *loop) kernelReceives() {
	n := uint32(len(l.dst))
	from, n := l.k.fill.Peek(n)
	to, _ := l.k.rx.Reserve(n)
	for i := range n {
		l.k.rx.Set(to+i, umem.Desc{Addr: l.k.fill.Get(from+i) + 256, Len: 60})
	}
	l.k.fill.Release()
	l.k.rx.Submit()
}

func (l *loop) receive() int {
	rx := l.s.RX()
	n := rx.Receive(l.dst)
	rx.Recycle(l.dst[:n])
	rx.Refill()
	return n
}

func (l *loop) kernelSends() {
	from, n := l.k.tx.Peek(l.k.tx.Len())
	to, _ := l.k.comp.Reserve(n)
	for i := range n {
		l.k.comp.Set(to+i, l.k.tx.Get(from+i).Addr)
	}
	l.k.tx.Release()
	l.k.comp.Submit()
}

func (l *loop) send() int {
	tx := l.s.TX()
	n := min(tx.Free(len(l.dst)), len(l.dst))
	for range n {
		a, _, _ := tx.Frame()
		tx.Queue(a, 60)
	}
	tx.Flush()
	return n
}

func TestAllocs(t *testing.T) {
	if debugUMEM() {
		t.Skip("xskdebug keeps a stack per frame")
	}
	for _, batch := range []int{1, 64, 500} {
		l := newLoop(t, batch)
		if n := testing.AllocsPerRun(100, func() {
			l.kernelReceives()
			if got := l.receive(); got != batch {
				t.Fatalf("received %d", got)
			}
		}); n != 0 {
			t.Errorf("RX, batch %d: %v allocations, want 0", batch, n)
		}
		if n := testing.AllocsPerRun(100, func() {
			if got := l.send(); got != batch {
				t.Fatalf("sent %d", got)
			}
			l.kernelSends()
			l.s.TX().Reclaim()
		}); n != 0 {
			t.Errorf("TX, batch %d: %v allocations, want 0", batch, n)
		}
	}
}

// debugUMEM tells whether package umem was built with the tag xskdebug: it
// poisons free memory then.
func debugUMEM() bool {
	r, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 4, OnHeap: true})
	return err == nil && r.Memory()[0] != 0
}

// BenchmarkOwnWork measures the package's own work per packet on heap rings, a
// simulated kernel's work included: subtract what kernel=only shows.
func BenchmarkOwnWork(b *testing.B) {
	for _, batch := range []int{1, 64} {
		run := func(name string, f func(l *loop)) {
			b.Run(fmt.Sprintf("%s/batch=%d", name, batch), func(b *testing.B) {
				l := newLoop(b, batch)
				b.ReportAllocs()
				for b.Loop() {
					f(l)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/packet")
			})
		}
		run("RX", func(l *loop) { l.kernelReceives(); l.receive() })
		run("RX/kernel=only", func(l *loop) {
			l.kernelReceives()
			from, n := l.s.rx.rx.Peek(uint32(batch))
			to, _ := l.s.rx.fill.Reserve(n)
			for i := range n {
				l.s.rx.fill.Set(to+i, l.s.rx.rx.Get(from+i).Addr)
			}
			l.s.rx.rx.Release()
			l.s.rx.fill.Submit()
		})
		run("TX", func(l *loop) { l.send(); l.kernelSends(); l.s.TX().Reclaim() })
		run("TX/kernel=only", func(l *loop) {
			to, _ := l.s.tx.tx.Reserve(uint32(batch))
			for i := range uint32(batch) {
				l.s.tx.tx.Set(to+i, umem.Desc{Addr: umem.Addr(i), Len: 60})
			}
			l.s.tx.tx.Submit()
			l.kernelSends()
			from, n := l.s.tx.comp.Peek(uint32(batch))
			for i := range n {
				l.s.tx.comp.Get(from + i)
			}
			l.s.tx.comp.Release()
		})
	}
}

var _ Kernel = (*simKernel)(nil)
