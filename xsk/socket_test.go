package xsk

import (
	"errors"
	"testing"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

func make4() []umem.Desc { return make([]umem.Desc, 4) }

// TestReceiveBadDescs puts descriptors into the RX ring that a correct kernel
// never would. Each is counted and left out.
func TestReceiveBadDescs(t *testing.T) {
	s, k := newSim(t, 16, 32)
	rx := s.RX()
	if n := rx.Refill(); n != 16 {
		t.Fatalf("Refill = %d", n)
	}
	k.takeFill(16)
	held, _, _ := s.TX().Frame()
	sent, _, _ := s.TX().Frame()
	s.TX().Queue(sent, 60)
	good := umem.Desc{Addr: k.frames[0] + 256, Len: 64}
	k.deliver(
		good,
		good,                                    // twice
		umem.Desc{Addr: k.frames[1], Len: 0},    // empty
		umem.Desc{Addr: k.frames[1], Len: 2049}, // crosses
		umem.Desc{Addr: k.frames[1] + 2047, Len: 2}, // crosses
		umem.Desc{Addr: 32 * 2048, Len: 60},         // outside
		umem.Desc{Addr: ^umem.Addr(0), Len: 60},     // wraps
		umem.Desc{Addr: held, Len: 60},              // not lent
		umem.Desc{Addr: sent, Len: 60},              // lent for sending
		umem.Desc{Addr: k.frames[2] + 2000, Len: 48},
	)
	dst := make([]umem.Desc, 16)
	n := rx.Receive(dst)
	if n != 2 || dst[0] != good || dst[1].Addr != k.frames[2]+2000 {
		t.Errorf("Receive = %d: %+v", n, dst[:n])
	}
	st := statistics(t, s)
	if st.RXBadDescs != 8 || st.RXFrames != 2 || st.RXBytes != 64+48 {
		t.Errorf("%+v", st)
	}
	if a := s.Region().Audit(); a.Fill != 14 || a.Held != 3 || a.TX != 1 || a.Chunks() != 32 {
		t.Errorf("%+v", a)
	}
	rx.Recycle(dst[:n])
	// 14 are out, or lost: only 2 more are lent.
	if n := rx.Refill(); n != 2 {
		t.Errorf("Refill = %d, want 2", n)
	}
	if rx.Receive(nil) != 0 || rx.Receive(dst) != 0 || !rx.Empty() || rx.Err() != nil {
		t.Errorf("afterwards: Empty %v, Err %v", rx.Empty(), rx.Err())
	}
}

// TestReceiveContinued drops every descriptor of a packet that lies in several
// frames, the last one too.
func TestReceiveContinued(t *testing.T) {
	s, k := newSim(t, 8, 32)
	s.RX().Refill()
	k.takeFill(8)
	desc := func(i int, options uint32) umem.Desc {
		return umem.Desc{Addr: k.frames[i] + 256, Len: 60, Options: options}
	}
	k.deliver(desc(0, 0), desc(1, umem.OptionContinues), desc(2, umem.OptionContinues), desc(3, 0), desc(4, 0), desc(5, umem.OptionContinues))
	dst := make([]umem.Desc, 8)
	if n := s.RX().Receive(dst); n != 2 || dst[0] != desc(0, 0) || dst[1] != desc(4, 0) {
		t.Errorf("Receive = %d: %+v", n, dst[:n])
	}
	k.deliver(desc(6, 0), desc(7, 0)) // the packet goes on in the next batch
	if n := s.RX().Receive(dst); n != 1 || dst[0] != desc(7, 0) {
		t.Errorf("Receive = %d: %+v", n, dst[:n])
	}
	if st := statistics(t, s); st.RXContinued != 2 || st.RXFrames != 3 || st.RXBadDescs != 0 {
		t.Errorf("%+v", st)
	}
	if a := s.Region().Audit(); a.Held != 3 || a.Fill != 0 {
		t.Errorf("%+v", a)
	}
}

func TestReceiveCorrupt(t *testing.T) {
	s, k := newSim(t, 8, 32)
	s.RX().Refill()
	k.rings.RX.Prod.Add(9)
	if s.RX().Empty() {
		t.Error("Empty before it was noticed")
	}
	if n := s.RX().Receive(make4()); n != 0 || !errors.Is(s.RX().Err(), ring.ErrCorrupt) {
		t.Errorf("Receive = %d, Err %v", n, s.RX().Err())
	}
	if !s.RX().Empty() {
		t.Error("a corrupt ring keeps its poller awake")
	}
	s, k = newSim(t, 8, 32)
	k.rings.Fill.Cons.Add(1)
	if n := s.RX().Refill(); n != 0 || !errors.Is(s.RX().Err(), ring.ErrCorrupt) {
		t.Errorf("Refill = %d, Err %v", n, s.RX().Err())
	}
}

func TestReclaimStrays(t *testing.T) {
	s, k := newSim(t, 16, 32)
	tx := s.TX()
	s.RX().Refill()
	k.takeFill(1)
	queue(t, tx, 4)
	tx.Flush()
	k.takeTX(4)
	held, _, _ := tx.Frame()
	k.complete(
		k.sent[0].Addr, k.sent[0].Addr, // twice
		held,             // not sent
		k.frames[0],      // lent for receiving
		32*2048,          // outside
		^umem.Addr(0),    // outside
		k.sent[1].Addr+7, // another place in a good frame
	)
	if n := tx.Reclaim(); n != 2 || tx.Lent() != 2 {
		t.Errorf("Reclaim = %d, %d lent", n, tx.Lent())
	}
	st := statistics(t, s)
	if st.TXStrays != 5 || st.TXCompletions != 2 {
		t.Errorf("%+v", st)
	}
	if a := s.Region().Audit(); a.TX != 2 || a.Held != 1 || a.Fill != 16 || a.Chunks() != 32 {
		t.Errorf("%+v", a)
	}
	tx.Cancel(held)
	k.rings.Comp.Prod.Add(100)
	if n := tx.Reclaim(); n != 0 || !errors.Is(tx.Err(), ring.ErrCorrupt) {
		t.Errorf("Reclaim = %d, Err %v", n, tx.Err())
	}
}

// TestSharedRegionStrays gives one socket's frames back on another's rings: no
// socket counts more frames as returned than it lent.
func TestSharedRegionStrays(t *testing.T) {
	s1, k1 := newSim(t, 8, 64)
	s2, k2 := newSimOn(t, s1.Region(), 8, 0)
	queue(t, s1.TX(), 4)
	s1.TX().Flush()
	k1.takeTX(4)
	k2.complete(k1.sent[0].Addr, k1.sent[1].Addr)
	if n := s2.TX().Reclaim(); n != 0 || s2.TX().Lent() != 0 {
		t.Errorf("Reclaim = %d, %d lent", n, s2.TX().Lent())
	}
	s1.RX().Refill()
	k1.takeFill(2)
	k2.deliver(umem.Desc{Addr: k1.frames[0], Len: 60}, umem.Desc{Addr: k1.frames[1], Len: 60})
	if n := s2.RX().Receive(make4()); n != 0 {
		t.Errorf("Receive = %d", n)
	}
	if n := s2.RX().Refill(); n != 8 {
		t.Errorf("Refill = %d, want 8", n)
	}
	queue(t, s2.TX(), 8)
	if st := statistics(t, s2); st.TXStrays != 2 || st.RXBadDescs != 2 {
		t.Errorf("%+v", st)
	}
}

func TestQueueRefuses(t *testing.T) {
	s, _ := newSim(t, 4, 64)
	tx := s.TX()
	a, chunk, ok := tx.Frame()
	if !ok || len(chunk) != 2048 || cap(chunk) != 2048 {
		t.Fatalf("Frame: %d bytes, %v", len(chunk), ok)
	}
	for _, bad := range []struct {
		a umem.Addr
		n int
	}{
		{a, 0}, {a, -1}, {a, 2049}, {a, 1<<32 + 60}, {a + 1, 2048}, {a + 2047, 2}, {64 * 2048, 60}, {^umem.Addr(0), 60},
		{63 * 2048, 60}, // not held
	} {
		if tx.Queue(bad.a, bad.n) {
			t.Errorf("Queue(%#x, %d) took it", bad.a, bad.n)
		}
	}
	if a := s.Region().Audit(); a.Held != 1 || a.TX != 0 || tx.Lent() != 0 {
		t.Errorf("%+v, %d lent", a, tx.Lent())
	}
	if !tx.Queue(a+100, 1948) || tx.Queue(a, 60) {
		t.Error("Queue refused a packet at the end of its chunk, or took a frame twice")
	}
	queue(t, tx, 3)
	b, _, _ := tx.Frame()
	if tx.Queue(b, 60) || tx.Free(1) != 0 {
		t.Error("Queue took a fifth packet")
	}
	if left := tx.Flush(); left != 4 || tx.Pending() != 4 || tx.Lent() != 4 {
		t.Errorf("Flush left %d, %d pending, %d lent", left, tx.Pending(), tx.Lent())
	}
	tx.Cancel(b)
	if a := s.Region().Audit(); a.Held != 0 || a.TX != 4 {
		t.Errorf("%+v", a)
	}
}

// TestQueueReceived sends a received frame on: it changes owner, and its
// completion frees it.
func TestQueueReceived(t *testing.T) {
	s, k := newSim(t, 4, 16)
	s.RX().Refill()
	k.receive(1)
	d := make4()
	if s.RX().Receive(d) != 1 || !s.TX().Queue(d[0].Addr, int(d[0].Len)) {
		t.Fatal("the received frame was not queued")
	}
	k.copyMode(32, nil)
	if s.TX().Flush() != 0 || s.TX().Reclaim() != 1 {
		t.Error("the frame did not come back")
	}
	if a := s.Region().Audit(); a.Held != 0 || a.TX != 0 || a.Fill != 3 {
		t.Errorf("%+v", a)
	}
}

func TestFree(t *testing.T) {
	s, k := newSim(t, 8, 20)
	tx := s.TX()
	if got := tx.Free(1); got < 1 || got > 8 {
		t.Errorf("Free(1) = %d", got)
	}
	if got := tx.Free(100); got != 8 {
		t.Errorf("Free(100) = %d, want the ring's 8", got)
	}
	queue(t, tx, 8)
	tx.Flush()
	k.takeTX(8)
	if got := tx.Free(8); got != 0 {
		t.Errorf("Free = %d before any completion: the completion ring could overflow", got)
	}
	k.completeAll()
	if got := tx.Free(8); got != 8 {
		t.Errorf("Free = %d, want 8 after it reclaimed", got)
	}
	for range 17 {
		tx.Frame()
	}
	if got := tx.Free(8); got != 3 {
		t.Errorf("Free = %d, want the 3 frames that are left", got)
	}
}

func TestSocketClose(t *testing.T) {
	s, k := newSim(t, 4, 16)
	if s.Device() != "sim0" || s.Queue() != 3 || s.FD() != -1 || s.ZeroCopy() {
		t.Errorf("%s queue %d, fd %d", s.Device(), s.Queue(), s.FD())
	}
	if err := s.Wait(true, 0); err != nil {
		t.Error(err)
	}
	s.Interrupt()
	for range 3 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	s.Interrupt()
	if k.closes != 1 || s.Region().Memory() == nil {
		t.Errorf("closed %d times, region %d bytes", k.closes, len(s.Region().Memory()))
	}
	if st := statistics(t, s); st.Kernel.RXDropped != 7 {
		t.Errorf("after Close: %+v", st.Kernel)
	}
}

// TestTakeBack is an Open that fails: the frames lent before the bind are free again,
// but for those that a device may still write to.
func TestTakeBack(t *testing.T) {
	for _, device := range []bool{false, true} {
		region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 32, OnHeap: true})
		if err != nil {
			t.Fatal(err)
		}
		s, _ := newSimOn(t, region, 8, 0)
		s.rx.lendEarly()
		s.rx.device = device
		want := umem.Audit{Free: 32, Pooled: 32}
		if device {
			want = umem.Audit{Free: 24, Fill: 8, Pooled: 24}
		}
		if lost, got := s.rx.takeBack(), region.Audit(); lost != want.Fill || got != want {
			t.Errorf("with a device %v: %d lost, %+v, want %+v", device, lost, got, want)
		}
	}
}
