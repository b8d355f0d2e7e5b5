package xsk

import (
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

// simKernel is the far side of a socket's rings, played by a test on heap
// memory. It holds what it took out of the rings until the test gives it back.
type simKernel struct {
	rings Rings
	fill  ring.Consumer[umem.Addr]
	comp  ring.Producer[umem.Addr]
	rx    ring.Producer[umem.Desc]
	tx    ring.Consumer[umem.Desc]

	frames []umem.Addr // taken from the fill ring
	sent   []umem.Desc // taken from the TX ring

	wakeTX           func() syscall.Errno // nil: 0
	wakeRX           func() syscall.Errno
	parts            int // 0: 1
	zerocopy         bool
	busy             BusyPolling
	txCalls, rxCalls int
	closes           int
}

func (k *simKernel) Rings() Rings             { return k.rings }
func (k *simKernel) Arm(bool) error           { return nil }
func (k *simKernel) Disarm() error            { return nil }
func (k *simKernel) Park(time.Duration) error { return nil }
func (k *simKernel) Interrupt()               {}
func (k *simKernel) ZeroCopy() bool           { return k.zerocopy }
func (k *simKernel) MaxParts() int            { return max(k.parts, 1) }
func (k *simKernel) BusyPoll() BusyPolling    { return k.busy }
func (k *simKernel) Statistics() (KernelStatistics, error) {
	return KernelStatistics{RXDropped: 7}, nil
}
func (k *simKernel) Close() error { k.closes++; return nil }

func (k *simKernel) WakeTX() syscall.Errno {
	k.txCalls++
	if k.wakeTX == nil {
		return 0
	}
	return k.wakeTX()
}

func (k *simKernel) WakeRX() syscall.Errno {
	k.rxCalls++
	if k.wakeRX == nil {
		return 0
	}
	return k.wakeRX()
}

// heapRing makes a ring whose indices start at start.
func heapRing[T any](tb testing.TB, n, start uint32) ring.Mem[T] {
	tb.Helper()
	m, err := ring.Heap[T](n)
	if err != nil {
		tb.Fatal(err)
	}
	m.Prod.Store(start)
	m.Cons.Store(start)
	return m
}

// newSim makes a socket over a simulated kernel, with all its rings of n
// descriptors.
func newSim(tb testing.TB, n uint32, chunks int) (*Socket, *simKernel) {
	tb.Helper()
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: chunks, OnHeap: true})
	if err != nil {
		tb.Fatal(err)
	}
	return newSimOn(tb, region, n, 1<<32-uint64(n))
}

func newSimOn(tb testing.TB, region *umem.Region, n uint32, start uint64) (*Socket, *simKernel) {
	tb.Helper()
	return newSimParts(tb, region, n, start, 1)
}

// newSimParts makes a socket whose packets may lie in several frames.
func newSimParts(tb testing.TB, region *umem.Region, n uint32, start uint64, parts int) (*Socket, *simKernel) {
	tb.Helper()
	k := &simKernel{parts: parts, rings: Rings{
		Fill: heapRing[umem.Addr](tb, n, uint32(start)), Comp: heapRing[umem.Addr](tb, n, uint32(start)),
		RX: heapRing[umem.Desc](tb, n, uint32(start)), TX: heapRing[umem.Desc](tb, n, uint32(start)),
	}}
	k.fill, k.comp = ring.NewConsumer(k.rings.Fill), ring.NewProducer(k.rings.Comp)
	k.rx, k.tx = ring.NewProducer(k.rings.RX), ring.NewConsumer(k.rings.TX)
	return NewOn(k, region, "sim0", 3), k
}

// takeFill takes up to n empty frames out of the fill ring.
func (k *simKernel) takeFill(n uint32) {
	first, n := k.fill.Peek(n)
	for i := range n {
		k.frames = append(k.frames, k.fill.Get(first+i))
	}
	k.fill.Release()
}

// deliver puts descriptors into the RX ring, which must have room.
func (k *simKernel) deliver(descs ...umem.Desc) {
	first, ok := k.rx.Reserve(uint32(len(descs)))
	if !ok {
		panic("simKernel: RX ring full")
	}
	for i, d := range descs {
		k.rx.Set(first+uint32(i), d)
	}
	k.rx.Submit()
}

// receive delivers up to n packets of 60 bytes into frames of the fill ring.
func (k *simKernel) receive(n uint32) {
	k.takeFill(n)
	for _, a := range k.frames {
		k.deliver(umem.Desc{Addr: a + 256, Len: 60})
	}
	k.frames = k.frames[:0]
}

// takeTX takes up to n packets out of the TX ring.
func (k *simKernel) takeTX(n uint32) uint32 {
	first, n := k.tx.Peek(n)
	for i := range n {
		k.sent = append(k.sent, k.tx.Get(first+i))
	}
	k.tx.Release()
	return n
}

// complete puts addresses into the completion ring, which must have room.
func (k *simKernel) complete(addrs ...umem.Addr) {
	first, ok := k.comp.Reserve(uint32(len(addrs)))
	if !ok {
		panic("simKernel: completion ring full")
	}
	for i, a := range addrs {
		k.comp.Set(first+uint32(i), a)
	}
	k.comp.Submit()
}

// completeAll completes everything that was taken.
func (k *simKernel) completeAll() {
	for _, d := range k.sent {
		k.complete(d.Addr)
	}
	k.sent = k.sent[:0]
}

// copyMode makes WakeTX behave as sendto does in copy mode: at most budget
// packets, EAGAIN if there are more, EBUSY at a packet for which drop says so.
func (k *simKernel) copyMode(budget int, drop func() bool) {
	k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
	k.wakeTX = func() syscall.Errno {
		for range budget {
			if k.takeTX(1) == 0 {
				return 0
			}
			k.completeAll()
			if drop != nil && drop() {
				return syscall.EBUSY
			}
		}
		if k.tx.Empty() {
			return 0
		}
		return syscall.EAGAIN
	}
}

// queue queues n packets of 60 bytes.
func queue(tb testing.TB, t *TX, n int) {
	tb.Helper()
	for i := range n {
		a, _, ok := t.Frame()
		if !ok || !t.Queue(a, 60) {
			tb.Fatalf("packet %d of %d: Frame %v, then Queue failed", i+1, n, ok)
		}
	}
}

func statistics(tb testing.TB, s *Socket) Statistics {
	tb.Helper()
	st, err := s.Statistics()
	if err != nil {
		tb.Fatal(err)
	}
	return st
}

// seeded returns a random source; the log has its seed, and AFXNET_TEST_SEED
// sets it.
func seeded(tb testing.TB) *rand.Rand {
	tb.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("AFXNET_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Logf("AFXNET_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
