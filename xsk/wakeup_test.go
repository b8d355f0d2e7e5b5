package xsk

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/internal/ring"
)

// TestFlushWakeups holds Flush to one sendto per budget of packets, and one
// more per packet that the device dropped.
func TestFlushWakeups(t *testing.T) {
	for _, budget := range []int{32, 64} {
		for _, n := range []int{1, 2, 31, 32, 33, 63, 64, 65, 100, 255, 256} {
			for _, dropEvery := range []int{0, 1, 3, 40} {
				t.Run(fmt.Sprintf("budget=%d/n=%d/drop=%d", budget, n, dropEvery), func(t *testing.T) {
					s, k := newSim(t, 256, 512)
					sent, drops := 0, 0
					k.copyMode(budget, func() bool {
						sent++
						if dropEvery == 0 || sent%dropEvery != 0 {
							return false
						}
						drops++
						return true
					})
					queue(t, s.TX(), n)
					if k.txCalls != 0 || !k.tx.Empty() {
						t.Errorf("before Flush: %d wakeups", k.txCalls)
					}
					if left := s.TX().Flush(); left != 0 || sent != n {
						t.Errorf("Flush left %d, sent %d of %d", left, sent, n)
					}
					if most := (n+budget-1)/budget + drops; k.txCalls > most {
						t.Errorf("%d wakeups, want at most %d", k.txCalls, most)
					}
					st := statistics(t, s)
					if st.TXDeviceDrops != uint64(drops) || st.TXWakeups != uint64(k.txCalls) || st.TXFrames != uint64(n) || st.TXBytes != uint64(60*n) || st.TXStalls != 0 || st.TXWakeupErrors != 0 {
						t.Errorf("%+v, want %d drops, %d wakeups", st, drops, k.txCalls)
					}
					if got := s.TX().Reclaim(); got != n || s.TX().Lent() != 0 || s.TX().Err() != nil {
						t.Errorf("Reclaim = %d, %d lent, Err %v", got, s.TX().Lent(), s.TX().Err())
					}
				})
			}
		}
	}
}

func TestFlushNotAsked(t *testing.T) {
	s, k := newSim(t, 16, 64)
	queue(t, s.TX(), 5)
	if left := s.TX().Flush(); left != 5 || k.txCalls != 0 {
		t.Errorf("Flush = %d with %d wakeups, want 5 with none", left, k.txCalls)
	}
	k.takeTX(5)
	k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
	if left := s.TX().Flush(); left != 0 || k.txCalls != 0 {
		t.Errorf("Flush of nothing = %d with %d wakeups", left, k.txCalls)
	}
	if st := statistics(t, s); st.TXWakeupsSpared != 1 || st.TXFrames != 5 {
		t.Errorf("%+v", st)
	}
}

// TestFlushFlagClears stops waking when the driver says that it goes on alone.
func TestFlushFlagClears(t *testing.T) {
	s, k := newSim(t, 16, 64)
	k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
	k.wakeTX = func() syscall.Errno {
		k.takeTX(1)
		k.rings.TX.Flags.Store(0)
		return 0
	}
	queue(t, s.TX(), 5)
	if left := s.TX().Flush(); left != 4 || k.txCalls != 1 {
		t.Errorf("Flush = %d with %d wakeups, want 4 with 1", left, k.txCalls)
	}
}

// TestFlushStalls gives up after a wakeup without progress, and tries again in
// the next Flush although nothing new was queued.
func TestFlushStalls(t *testing.T) {
	for _, e := range []syscall.Errno{0, syscall.EAGAIN, syscall.ENOBUFS, syscall.EINTR} {
		s, k := newSim(t, 16, 64)
		k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
		k.wakeTX = func() syscall.Errno { return e }
		queue(t, s.TX(), 5)
		for round := 1; round <= 2; round++ {
			if left := s.TX().Flush(); left != 5 || k.txCalls != round || s.TX().Err() != nil {
				t.Errorf("errno %d: Flush = %d after %d wakeups, Err %v", e, left, k.txCalls, s.TX().Err())
			}
		}
		if st := statistics(t, s); st.TXStalls != 2 || st.TXFrames != 5 || st.TXDeviceDrops != 0 {
			t.Errorf("errno %d: %+v", e, st)
		}
	}
}

// newAsync makes a socket in zero-copy mode whose driver always asks to be woken,
// as igb and virtio_net do, and takes what it is told to at each wakeup.
func newAsync(t *testing.T, takes func() uint32) (*Socket, *simKernel) {
	t.Helper()
	s, k := newSim(t, 16, 64)
	k.zerocopy = true
	k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
	k.wakeTX = func() syscall.Errno { k.takeTX(takes()); return 0 }
	return NewOn(k, s.Region(), "sim0", 3), k
}

// TestFlushAsync wakes a driver that works on by itself once per Flush, however
// many packets it has taken by the time that the call returns, and completed
// before, and not at all when there are none.
func TestFlushAsync(t *testing.T) {
	for _, takes := range []uint32{0, 1, 4, 8} {
		s, k := newAsync(t, func() uint32 { return takes })
		sent := uint32(0)
		for round := 1; round <= 20; round++ {
			left := s.TX().Pending()
			if n := s.TX().Free(8); n >= 8 {
				queue(t, s.TX(), 8)
				left += 8
			}
			took := min(takes, uint32(left))
			calls := k.txCalls
			if got := s.TX().Flush(); got != left-int(took) || k.txCalls-calls != min(left, 1) {
				t.Errorf("takes %d, round %d: Flush left %d of %d with %d wakeups", takes, round, got, left, k.txCalls-calls)
			}
			if sent += took; took != 0 {
				k.completeAll() // for the next round
			}
		}
		if st := statistics(t, s); st.TXStalls != 0 || st.TXWakeups != uint64(k.txCalls) || sent != uint32(st.TXFrames)-uint32(s.TX().Pending()) {
			t.Errorf("takes %d: %+v, %d sent", takes, st, sent)
		}
	}
}

// TestFlushAsyncReclaims makes room in a completion ring that keeps the driver
// from going on, so that the next Flush gets somewhere.
func TestFlushAsyncReclaims(t *testing.T) {
	var k *simKernel
	s, k := newAsync(t, func() uint32 {
		if k.comp.Pending() != 0 { // a kernel that wants an empty completion ring
			return 0
		}
		return 4
	})
	queue(t, s.TX(), 8)
	if left := s.TX().Flush(); left != 4 {
		t.Fatalf("Flush left %d", left)
	}
	k.completeAll()
	for want := range 2 {
		if left := s.TX().Flush(); left != 4-4*want || s.TX().Lent() != 4 {
			t.Errorf("Flush left %d, %d lent", left, s.TX().Lent())
		}
	}
}

// TestFlushReclaims makes room in the completion ring once when there is no
// progress: it may be what is full.
func TestFlushReclaims(t *testing.T) {
	s, k := newSim(t, 8, 64)
	k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
	queue(t, s.TX(), 4)
	k.wakeTX = func() syscall.Errno {
		k.takeTX(4)
		k.completeAll()
		return 0
	}
	s.TX().Flush()
	k.txCalls = 0
	k.wakeTX = func() syscall.Errno { // a kernel that wants an empty completion ring
		if k.comp.Pending() == 0 {
			k.takeTX(8)
		}
		return syscall.EAGAIN
	}
	queue(t, s.TX(), 4)
	if left := s.TX().Flush(); left != 0 || k.txCalls != 2 || s.TX().Lent() != 4 {
		t.Errorf("Flush = %d after %d wakeups, %d lent", left, k.txCalls, s.TX().Lent())
	}
}

func TestFlushInvalidDescriptor(t *testing.T) {
	// The kernel skips a descriptor that it refuses and returns 0 with the rest
	// left (net/xdp/xsk.c, __xsk_generic_xmit).
	s, k := newSim(t, 16, 64)
	k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
	k.wakeTX = func() syscall.Errno { k.takeTX(3); return 0 }
	queue(t, s.TX(), 9)
	if left := s.TX().Flush(); left != 0 || k.txCalls != 3 {
		t.Errorf("Flush = %d after %d wakeups, want 0 after 3", left, k.txCalls)
	}
}

func TestFlushErrno(t *testing.T) {
	for _, e := range []syscall.Errno{syscall.ENETDOWN, syscall.ENXIO, syscall.EBADF, syscall.EINVAL, syscall.EMSGSIZE} {
		s, k := newSim(t, 16, 64)
		k.copyMode(32, nil)
		good := k.wakeTX
		k.wakeTX = func() syscall.Errno { return e }
		queue(t, s.TX(), 5)
		if left := s.TX().Flush(); left != 5 || k.txCalls != 1 || !errors.Is(s.TX().Err(), e) {
			t.Errorf("%v: Flush = %d after %d wakeups, Err %v", e, left, k.txCalls, s.TX().Err())
		}
		if st := statistics(t, s); st.TXWakeupErrors != 1 || st.TXLastError != e {
			t.Errorf("%v: %+v", e, st)
		}
		k.wakeTX = good // the interface is up again
		if left := s.TX().Flush(); left != 0 || s.TX().Err() != nil {
			t.Errorf("%v: afterwards Flush = %d, Err %v", e, left, s.TX().Err())
		}
	}
}

// TestFlushMute says why nothing leaves on a queue that the device only receives
// on, and no longer once the device has given it one to send.
func TestFlushMute(t *testing.T) {
	s, k := newSim(t, 16, 64)
	k.copyMode(32, nil)
	good := k.wakeTX
	k.wakeTX = func() syscall.Errno { return 0 }
	why := errors.New("no queue to send on")
	s.TX().mute = why
	if err := s.TX().Err(); err != nil {
		t.Errorf("with nothing to send: %v", err)
	}
	queue(t, s.TX(), 5)
	for round := 1; round <= 2; round++ {
		if left := s.TX().Flush(); left != 5 || k.txCalls != round || !errors.Is(s.TX().Err(), why) {
			t.Errorf("Flush = %d after %d wakeups, Err %v", left, k.txCalls, s.TX().Err())
		}
	}
	if st := statistics(t, s); st.TXWakeupErrors != 2 || st.TXLastError != syscall.ENXIO {
		t.Errorf("%+v", st)
	}
	for _, e := range []syscall.Errno{syscall.ENETDOWN, syscall.ENXIO} {
		k.wakeTX = func() syscall.Errno { return e }
		if s.TX().Flush(); !errors.Is(s.TX().Err(), e) {
			t.Errorf("the kernel's %v: %v", e, s.TX().Err())
		}
	}
	k.wakeTX = good
	if left := s.TX().Flush(); left != 0 || s.TX().Err() != nil {
		t.Errorf("afterwards Flush = %d, Err %v", left, s.TX().Err())
	}
}

func TestFlushCorrupt(t *testing.T) {
	s, k := newSim(t, 16, 64)
	k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
	k.wakeTX = func() syscall.Errno { k.rings.TX.Cons.Add(1000); return 0 }
	queue(t, s.TX(), 5)
	for range 3 {
		if left := s.TX().Flush(); left != 0 || k.txCalls != 1 || !errors.Is(s.TX().Err(), ring.ErrCorrupt) {
			t.Errorf("Flush = %d after %d wakeups, Err %v", left, k.txCalls, s.TX().Err())
		}
	}
	if s.TX().Free(1) != 0 {
		t.Error("the corrupt ring has room")
	}
}

// TestFlushBounded lets the kernel do anything: Flush ends, after at most one
// wakeup per packet and two.
func TestFlushBounded(t *testing.T) {
	rng := seeded(t)
	for range 300 {
		s, k := newSim(t, 16, 64)
		k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
		k.wakeTX = func() syscall.Errno {
			switch rng.IntN(4) {
			case 0:
				k.rings.TX.Cons.Add(rng.Uint32N(8) - 4)
			case 1:
				k.takeTX(rng.Uint32N(4))
			case 2:
				k.rings.Comp.Prod.Add(rng.Uint32N(3))
			}
			return []syscall.Errno{0, syscall.EAGAIN, syscall.EBUSY, syscall.ENETDOWN}[rng.IntN(4)]
		}
		for range 10 {
			k.txCalls = 0
			n := min(s.TX().Free(16), rng.IntN(17))
			queue(t, s.TX(), n)
			if s.TX().Flush(); k.txCalls > 16+2 {
				t.Fatalf("%d wakeups for 16 packets", k.txCalls)
			}
			if a := s.Region().Audit(); a.Chunks() != 64 || a.TX != s.TX().Lent() || a.Held != 0 {
				t.Fatalf("%+v with %d lent", a, s.TX().Lent())
			}
		}
	}
}

func TestRefillWakeup(t *testing.T) {
	s, k := newSim(t, 16, 64)
	rx := s.RX()
	if n := rx.Refill(); n != 16 || k.rxCalls != 0 {
		t.Errorf("not asked: Refill = %d with %d wakeups", n, k.rxCalls)
	}
	k.rings.Fill.Flags.Store(ring.FlagNeedWakeup)
	k.wakeRX = func() syscall.Errno { return syscall.ENETDOWN }
	if n := rx.Refill(); n != 0 || k.rxCalls != 1 {
		t.Errorf("asked, ring full: Refill = %d with %d wakeups, want a wakeup: there is no other", n, k.rxCalls)
	}
	k.wakeRX = func() syscall.Errno { return syscall.EBUSY }
	k.receive(4)
	if n := rx.Receive(make4()); n != 4 {
		t.Fatalf("Receive = %d", n)
	}
	if n := rx.Refill(); n != 4 || k.rxCalls != 2 {
		t.Errorf("asked: Refill = %d with %d wakeups, want 4 with 2", n, k.rxCalls)
	}
	if st := statistics(t, s); st.RXWakeups != 2 || st.RXWakeupErrors != 1 || st.FillShortage != 0 {
		t.Errorf("%+v", st)
	}
}

// TestRefillShortage asks for no wakeup when there is nothing for the kernel to
// find.
func TestRefillShortage(t *testing.T) {
	s, k := newSim(t, 16, 64)
	k.rings.Fill.Flags.Store(ring.FlagNeedWakeup)
	for range 64 {
		s.TX().Frame()
	}
	if n := s.RX().Refill(); n != 0 || k.rxCalls != 0 {
		t.Errorf("Refill = %d with %d wakeups", n, k.rxCalls)
	}
	if st := statistics(t, s); st.FillShortage != 1 {
		t.Errorf("%+v", st)
	}
}
