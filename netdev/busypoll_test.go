package netdev

import (
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/xsk"
)

// napi is a kernel whose device brings nothing by itself: packets wait in it
// until recvfrom or sendto runs its NAPI.
type napi struct {
	counting
	busy    xsk.BusyPolling
	waiting atomic.Int64 // frames in the device
	runs    atomic.Int64 // of the NAPI
	takes   atomic.Int64 // how long each lasts, in ns
	w       *wire.Wire
	frame   []byte
}

func (k *napi) BusyPoll() xsk.BusyPolling { return k.busy }

func (k *napi) WakeRX() syscall.Errno {
	k.run()
	return k.counting.WakeRX()
}

func (k *napi) run() {
	k.runs.Add(1)
	time.Sleep(time.Duration(k.takes.Load()))
	for range k.busy.Budget {
		if k.waiting.Add(-1) < 0 {
			k.waiting.Add(1)
			return
		}
		k.w.Port(0).Inject(k.frame)
	}
}

// newNAPI is a rig with such a kernel.
func newNAPI(t *testing.T, cfg Config) (*rig, *napi) {
	t.Helper()
	w, err := wire.New(wire.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := openSocket(t, w.Port(0), 0, 2048, 256, 64, 16)
	k := &napi{
		counting: counting{Queue: w.Port(0).Queue(0)}, w: w,
		busy:  xsk.BusyPolling{BusyPoll: xsk.BusyPoll{Time: time.Microsecond, Budget: 8, Prefer: true}, NAPI: 9},
		frame: frame{proto: packet.ProtoUDP, payload: pattern(0, 10)}.bytes(),
	}
	d, err := NewOn([]*xsk.Socket{xsk.NewOn(k, s.Region(), "wire0", 0)}, Link{Name: "wire0", MAC: w.Port(0).MAC(), MTU: 1500}, withFlag(cfg))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{tb: t, w: w, d: d, rec: &recorder{}}
	w.Port(1).OnReceive(func([]byte) {})
	t.Cleanup(r.close)
	return r, k
}

// delivered is woken when a rig has handed up so many packets.
type delivered struct {
	r *rig
	n int
}

func (w delivered) Woken() bool {
	w.r.rec.mu.Lock()
	defer w.r.rec.mu.Unlock()
	return w.r.rec.count >= w.n
}

// TestBusyPollCaller has a caller get packets that wait in the device, and give
// up in time if there are none.
func TestBusyPollCaller(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r, k := newNAPI(t, Config{Spin: 100 * time.Microsecond})
		r.d.LinkEndpoint().Attach(r.rec)
		synctest.Wait()
		for _, n := range []int{1, 8, 20} {
			before, have := k.runs.Load(), r.rec.count
			k.waiting.Store(int64(n))
			r.d.PollBeforePark(delivered{r, have + n})
			if got := r.rec.count - have; got != n {
				t.Errorf("%d packets in the device, %d delivered", n, got)
			}
			if runs, want := k.runs.Load()-before, int64(n+7)/8; runs != want {
				t.Errorf("%d packets took %d runs of the NAPI, want %d", n, runs, want)
			}
		}
		advance(time.Second) // the poller sleeps
		before := k.runs.Load()
		k.takes.Store(int64(10 * time.Microsecond))
		r.d.PollBeforePark(delivered{r, 1 << 30})
		k.takes.Store(0)
		// The clock is past Spin after the eleventh.
		if runs := k.runs.Load() - before; runs != 11 {
			t.Errorf("%d runs in a spin of 100 us, want 11", runs)
		}
		if st := r.stats(); st.Socket.RXBusyPolls != uint64(k.runs.Load()) {
			t.Errorf("%d runs counted, there were %d", st.Socket.RXBusyPolls, k.runs.Load())
		}
	})
}

// TestBusyPollPoller has the poller take what waits in the device when it is
// woken, look once more before it sleeps, and then be silent.
func TestBusyPollPoller(t *testing.T) {
	for _, mode := range []PollMode{PollBlock, PollAdaptive} {
		t.Run(mode.String(), func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				r, k := newNAPI(t, Config{Poll: mode})
				r.d.LinkEndpoint().Attach(r.rec)
				synctest.Wait()
				k.waiting.Store(20)
				k.run() // the kernel's own: the timer of gro_flush_timeout
				advance(time.Millisecond)
				if r.rec.count != 20 {
					t.Errorf("%d of 20 packets delivered", r.rec.count)
				}
				runs, calls := k.runs.Load(), k.calls.Load()
				advance(time.Hour)
				if n := k.runs.Load() - runs + k.calls.Load() - calls; n != 0 {
					t.Errorf("%d calls in an idle hour", n)
				}
			})
		})
	}
}

// TestBusyPollSpin gets what comes to a device that no interrupt tells of.
func TestBusyPollSpin(t *testing.T) {
	r, k := newNAPI(t, Config{Poll: PollSpin})
	got := make(chan struct{}, 100)
	r.rec.notify = func() { got <- struct{}{} }
	r.d.LinkEndpoint().Attach(r.rec)
	for range 100 {
		k.waiting.Add(1)
		<-got
	}
	if n := r.stats().Sleeps; n != 0 {
		t.Errorf("%d sleeps", n)
	}
}

// TestBusyPollInfo reports what the sockets got.
func TestBusyPollInfo(t *testing.T) {
	r, k := newNAPI(t, Config{})
	if got := r.d.Info().BusyPoll; len(got) != 1 || got[0] != k.busy {
		t.Errorf("got %+v, want %+v", got, k.busy)
	}
	r2 := newRig(t, rigConfig{})
	info := r2.d.Info()
	if got := info.BusyPoll; len(got) != 1 || got[0].On() {
		t.Errorf("got %+v without it", got)
	}
	if got := info.TXBudgets; len(got) != 1 || got[0] != r2.sock.TX().Burst() {
		t.Errorf("got TX budgets of %v", got)
	}
}
