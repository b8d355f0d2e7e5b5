package wire

import (
	"syscall"
	"testing"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// raw is a Queue whose user side the test plays.
type raw struct {
	*Queue
	r    *umem.Region
	fill ring.Producer[umem.Addr]
	comp ring.Consumer[umem.Addr]
	rx   ring.Consumer[umem.Desc]
	tx   ring.Producer[umem.Desc]
}

func openRaw(t *testing.T, p *Port, n xsk.RingSizes) *raw {
	t.Helper()
	r := newRegion(t, 8)
	if _, err := p.Open(0, r, n); err != nil {
		t.Fatal(err)
	}
	q := p.Queue(0)
	t.Cleanup(func() { q.Close() })
	m := q.Rings()
	return &raw{q, r, ring.NewProducer(m.Fill), ring.NewConsumer(m.Comp), ring.NewConsumer(m.RX), ring.NewProducer(m.TX)}
}

func (r *raw) send(ds ...umem.Desc) {
	first, ok := r.tx.Reserve(uint32(len(ds)))
	if !ok {
		panic("TX ring full")
	}
	for i, d := range ds {
		r.tx.Set(first+uint32(i), d)
	}
	r.tx.Submit()
}

func (r *raw) lend(as ...umem.Addr) {
	first, ok := r.fill.Reserve(uint32(len(as)))
	if !ok {
		panic("fill ring full")
	}
	for i, a := range as {
		r.fill.Set(first+uint32(i), a)
	}
	r.fill.Submit()
}

func (r *raw) want(t *testing.T, e syscall.Errno, pending, completed uint32) {
	t.Helper()
	if got := r.WakeTX(); got != e {
		t.Errorf("WakeTX: %v, want %v", got, e)
	}
	if n := r.tx.Pending(); n != pending {
		t.Errorf("%d pending, want %d", n, pending)
	}
	if n := r.comp.Available(r.comp.Len()); n != completed {
		t.Errorf("%d completions, want %d", n, completed)
	}
}

func sizes(n uint32) xsk.RingSizes { return xsk.RingSizes{Fill: n, Completion: n, RX: n, TX: n} }

func TestTXBudgetAndCompletions(t *testing.T) {
	w := newWire(t, Config{TXBudget: 3})
	r := openRaw(t, w.Port(0), xsk.RingSizes{Fill: 2, RX: 2, TX: 16, Completion: 8})
	d := umem.Desc{Addr: 2048, Len: 60}
	r.send(d, d, d, d, d, d)
	r.want(t, syscall.EAGAIN, 3, 3)
	r.want(t, 0, 0, 6)
	r.send(d, d, d, d)
	r.want(t, syscall.EAGAIN, 2, 8) // the completion ring is full
	r.want(t, syscall.EAGAIN, 2, 8)
	r.comp.Peek(8)
	r.comp.Release()
	r.want(t, 0, 0, 2)
	st, _ := r.Statistics()
	if st.TXRingEmptyRead != 2 || st.TXInvalidDescs != 0 {
		t.Errorf("%+v", st)
	}
	if s := w.Stats()[From0]; s.Sent != 10 || s.NoSocket != 10 {
		t.Errorf("%+v", s)
	}
}

func TestTXInvalid(t *testing.T) {
	w := newWire(t, Config{})
	r := openRaw(t, w.Port(0), sizes(16))
	good := umem.Desc{Addr: 2048, Len: 60}
	for i, bad := range []umem.Desc{
		{Addr: 8 * 2048, Len: 60}, {Addr: ^umem.Addr(0), Len: 60}, {Addr: 2048 - 8, Len: 60},
		{Addr: 0, Len: 0}, {Addr: 0, Len: 60, Options: umem.OptionContinues}, {Addr: 0, Len: 1 << 31},
	} {
		r.send(bad, good)
		r.want(t, 0, 2, 0) // skipped, but the index stays behind
		r.want(t, 0, 0, 1)
		r.send(good, bad, good)
		r.want(t, 0, 1, 2) // with the packet before, it is seen to be gone
		r.want(t, 0, 0, 3)
		r.comp.Peek(3)
		r.comp.Release()
		if st, _ := r.Statistics(); st.TXInvalidDescs != uint64(2*i+2) {
			t.Errorf("%+v: %+v", bad, st)
		}
	}
	// An impossible index of user space sends nothing and reads nothing.
	r.Rings().TX.Prod.Add(17)
	if e := r.WakeTX(); e != 0 {
		t.Error(e)
	}
	if s := w.Stats()[From0]; s.Sent != 18 {
		t.Errorf("%+v", s)
	}
}

func TestReceiveRules(t *testing.T) {
	w := newWire(t, Config{Ports: [2]PortConfig{{MTU: 9000}}})
	p := w.Port(0)
	r := openRaw(t, p, xsk.RingSizes{Fill: 8, RX: 2, TX: 2})
	frame := numbered(7, 100)
	inject := func(want bool, f []byte) {
		t.Helper()
		if got := p.Inject(f); got != want {
			t.Errorf("Inject: %v, want %v", got, want)
		}
	}
	inject(false, frame)                            // no frame
	r.lend(8*2048, ^umem.Addr(0), 3*2048+777, 4096) // two outside, one not aligned
	inject(true, frame)
	first, n := r.rx.Peek(2)
	if d := r.rx.Get(first); n != 1 || d != (umem.Desc{Addr: 3*2048 + 256 + 64, Len: 100}) || string(r.r.Bytes(d)) != string(frame) {
		t.Errorf("%d: %+v", n, d)
	}
	inject(false, make([]byte, r.r.MaxPacket()+1)) // too long for a chunk; takes no frame
	inject(true, make([]byte, r.r.MaxPacket()))
	inject(false, frame) // nothing in the fill ring: that comes before the RX ring
	r.lend(0)
	inject(false, frame) // RX ring full; the kernel keeps the frame
	r.rx.Peek(1)
	r.rx.Release()
	inject(true, frame)
	inject(false, make([]byte, 9000+19))
	inject(false, nil)
	st, err := r.Statistics()
	want := xsk.KernelStatistics{RXDropped: 3, RXInvalidDescs: 2, RXRingFull: 1, FillRingEmpty: 2}
	if st != want || err != nil {
		t.Errorf("got %+v, want %+v", st, want)
	}
	if s := checkStats(t, w)[From1]; s != (DirStats{Injected: 8, Delivered: 3, NoFrame: 2, RXFull: 1, TooLong: 2}) {
		t.Errorf("%+v", s)
	}
	r.Rings().Fill.Prod.Add(100) // impossible
	inject(false, frame)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	inject(false, frame)
	if e := r.WakeTX(); e != syscall.EBADF {
		t.Error(e)
	}
	if s := checkStats(t, w)[From1]; s.NoSocket != 1 || s.NoFrame != 3 {
		t.Errorf("%+v", s)
	}
}

func TestDown(t *testing.T) {
	w := newWire(t, Config{})
	a := openRaw(t, w.Port(0), sizes(8))
	b := openRaw(t, w.Port(1), sizes(8))
	b.lend(0, 2048, 4096)
	type state struct{ up, gone bool }
	var seen [2][]state
	var stop [2]func()
	for i := range seen {
		stop[i] = w.Port(i).Watch(func(up, gone bool) { seen[i] = append(seen[i], state{up, gone}) })
	}
	d := umem.Desc{Addr: 0, Len: 60}

	w.Port(0).SetDown(true)
	a.send(d, d)
	a.want(t, syscall.ENETDOWN, 2, 0)
	if e := a.WakeRX(); e != syscall.ENETDOWN {
		t.Error(e)
	}
	w.Port(1).SetDown(true)
	w.Port(0).SetDown(false)
	a.want(t, syscall.EBUSY, 2, 1) // the index stays behind, see WakeTX
	a.want(t, syscall.EBUSY, 2, 2)
	a.want(t, 0, 0, 2)
	if w.Port(1).Inject(make([]byte, 60)) {
		t.Error("a port that is down received a frame")
	}
	w.Port(1).SetDown(false)
	a.send(d)
	a.want(t, 0, 0, 3)
	stop[1]()
	stop[1]()
	w.Port(1).Delete()
	w.Port(1).Delete()
	if e := b.WakeTX(); e != syscall.ENXIO {
		t.Error(e)
	}
	if e := b.WakeRX(); e != syscall.ENXIO {
		t.Error(e)
	}
	stop[0]()
	w.Port(0).Delete()

	up, down := state{true, false}, state{false, false}
	for i, want := range [2][]state{{up, down, up, down}, {up, down, up}} {
		if len(seen[i]) != len(want) {
			t.Errorf("port %d: saw %v, want %v", i, seen[i], want)
			continue
		}
		for j := range want {
			if seen[i][j] != want[j] {
				t.Errorf("port %d: saw %v, want %v", i, seen[i], want)
			}
		}
	}
	if s := checkStats(t, w)[From0]; s != (DirStats{Sent: 3, Injected: 1, Delivered: 1, PortDown: 3}) {
		t.Errorf("%+v", s)
	}
}

func TestWatchGone(t *testing.T) {
	w := newWire(t, Config{})
	gone := 0
	stop := w.Port(0).Watch(func(up, g bool) {
		if g && !up {
			gone++
		}
	})
	defer stop()
	w.Port(0).Delete()
	w.Port(0).SetDown(true)
	if gone != 1 || w.Port(0).Up() || w.Port(1).Up() {
		t.Errorf("told %d times", gone)
	}
}
