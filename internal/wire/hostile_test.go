package wire

import (
	"errors"
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

func TestHostileRX(t *testing.T) {
	w, s := pair(t, Config{}, 8)
	q, r := w.Port(0).Queue(0), s[0].Region()
	w.Port(0).Inject(numbered(1, 100))
	var d [8]umem.Desc
	if n := s[0].RX().Receive(d[:]); n != 1 {
		t.Fatalf("received %d", n)
	}
	var held umem.Addr // one that was not lent
	if a, _, ok := s[0].TX().Frame(); ok {
		held = a
	}
	for i, bad := range []umem.Desc{
		{Addr: umem.Addr(len(r.Memory())), Len: 60},
		{Addr: ^umem.Addr(0), Len: 60},
		{Addr: d[0].Addr, Len: 0},
		{Addr: 2040, Len: 60},         // crosses a chunk
		{Addr: d[0].Addr, Len: 1e9},   // the same, with a vengeance
		{Addr: d[0].Addr, Len: 60},    // a second time
		{Addr: held, Len: 60},         // never lent for receiving
		{Addr: held + 2000, Len: 100}, // that, and across
	} {
		if !q.PushRX(bad) {
			t.Fatal("no room in the RX ring")
		}
		if n := s[0].RX().Receive(d[1:]); n != 0 {
			t.Errorf("took %+v", bad)
		}
		if st, _ := s[0].Statistics(); st.RXBadDescs != uint64(i+1) {
			t.Errorf("%+v: %d bad descriptors", bad, st.RXBadDescs)
		}
	}
	s[0].TX().Cancel(held)
	s[0].RX().Recycle(d[:1])
	if a := r.Audit(); a.Held != 0 || a.TX != 0 || a.Chunks() != r.Chunks() {
		t.Errorf("%+v", a)
	}
	if w.Port(0).Inject(numbered(2, 100)); len(receive(s[0])) != 1 {
		t.Error("receives nothing any more")
	}
}

func TestHostileCompletions(t *testing.T) {
	w, s := pair(t, Config{}, 8)
	q := w.Port(0).Queue(0)
	queue(s[0], numbered(1, 60))
	s[0].TX().Flush()
	for i, bad := range []umem.Addr{0, 2048, umem.Addr(len(s[0].Region().Memory())), ^umem.Addr(0)} {
		if !q.PushCompletion(bad) {
			t.Fatal("no room in the completion ring")
		}
		s[0].TX().Reclaim()
		if st, _ := s[0].Statistics(); st.TXStrays != uint64(i+1) || st.TXCompletions != 1 {
			t.Errorf("%#x: %d strays, %d completions", bad, st.TXStrays, st.TXCompletions)
		}
	}
	audit(t, s[0])
	for range 8 {
		q.PushCompletion(0)
	}
	if q.PushCompletion(0) {
		t.Error("the completion ring takes more than it has slots")
	}
}

func TestWildIndices(t *testing.T) {
	for _, n := range []int32{9, 1 << 20, -1, -2000, -1 << 31} {
		for i, name := range []string{"fill cons", "RX prod", "TX cons", "completion prod"} {
			w, s := pair(t, Config{}, 8)
			rx, tx := s[0].RX(), s[0].TX()
			if queue(s[0], numbered(1, 60)); tx.Flush() != 0 {
				t.Fatal("not sent")
			}
			tx.Reclaim()
			w.Port(0).Inject(numbered(2, 60))
			receive(s[0])
			w.Port(0).Queue(0).ShiftIndex(Index(i), n)

			tx.Reclaim()
			tx.Flush()
			receive(s[0])
			rx.Refill()
			var want [2]error
			if Index(i) == FillCons || Index(i) == RXProd {
				want[0] = ring.ErrCorrupt
			} else if Index(i) == CompProd || n != -1 { // one packet less sent can be true
				want[1] = ring.ErrCorrupt
			}
			if got := [2]error{rx.Err(), tx.Err()}; !errors.Is(got[0], want[0]) || !errors.Is(got[1], want[1]) {
				t.Errorf("%s shifted by %d: RX, TX errors %v, want %v", name, n, got, want)
			}
			for range 10 {
				w.Port(0).Inject(numbered(2, 60))
				receive(s[0])
				queue(s[0], numbered(1, 60))
				tx.Flush()
				tx.Reclaim()
			}
			if a := s[0].Region().Audit(); a.Chunks() != s[0].Region().Chunks() || a.Held != 0 {
				t.Errorf("%s shifted by %d: %+v", name, n, a)
			}
		}
	}
}

func TestSlowKernel(t *testing.T) {
	w, s := pair(t, Config{}, 4)
	q := w.Port(0).Queue(0)
	f := numbered(1, 60)

	q.HoldCompletions(true)
	if n := queue(s[0], f, f, f, f, f); n != 4 || s[0].TX().Flush() != 0 {
		t.Errorf("queued %d", n)
	}
	if n := queue(s[0], f); n != 0 || s[0].TX().Lent() != 4 {
		t.Errorf("room for %d with every frame out", n)
	}
	q.HoldCompletions(false)
	if n := s[0].TX().Reclaim(); n != 4 {
		t.Errorf("%d came back", n)
	}

	q.FailTX(2, syscall.EAGAIN)
	queue(s[0], f)
	if left := s[0].TX().Flush(); left != 1 {
		t.Errorf("%d left", left)
	}
	q.FailTX(0, 0)
	if left := s[0].TX().Flush(); left != 0 {
		t.Errorf("%d left", left)
	}

	q.SetNeedWakeup(true, false)
	queue(s[0], f)
	if left := s[0].TX().Flush(); left != 1 {
		t.Errorf("%d left: woken though not asked", left)
	}
	w.Port(0).Inject(f)
	receive(s[0])
	q.WakeTX()
	st, _ := s[0].Statistics()
	if st.TXStalls != 1 || st.TXWakeupsSpared != 1 || st.RXWakeups == 0 {
		t.Errorf("%+v", st)
	}
	audit(t, s[0])
}
