package netdev

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/xsk"
)

// sleeper is a goroutine that waits for packets as an application does.
type sleeper chan struct{}

func (s sleeper) Woken() bool { return len(s) != 0 }

// router wakes the sleeper whose number a packet's payload begins with.
type router []sleeper

func (r router) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *gstack.PacketBuffer) {
	v := pkt.Data().AsRange().ToView()
	i := binary.BigEndian.Uint32(v.AsSlice()[28:])
	v.Release()
	r[i] <- struct{}{}
}

func (r router) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *gstack.PacketBuffer) {}

// TestPollStress has many goroutines poll by turns, the poller, and audits: all
// packets are delivered and nobody sleeps on.
func TestPollStress(t *testing.T) {
	for _, procs := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("procs=%d", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			const callers, each = 6, 1500
			r := newRig(t, rigConfig{idle: true, cfg: Config{Spin: 20 * time.Microsecond}})
			r.d.maxCallers = 3
			var dst router
			for range callers {
				dst = append(dst, make(sleeper, each))
			}
			r.d.LinkEndpoint().Attach(dst)
			done := make(chan int)
			var wg sync.WaitGroup
			var left atomic.Int32
			left.Store(callers)
			for i := range callers {
				wg.Go(func() {
					defer left.Add(-1)
					rng := rand.New(rand.NewPCG(uint64(i), 5))
					f := frame{proto: packet.ProtoUDP, payload: binary.BigEndian.AppendUint32(nil, uint32(i))}.bytes()
					for n := 0; n < each; {
						k := min(1+rng.IntN(3), each-n)
						wg.Go(func() { // another goroutine: the wire wakes who sleeps
							for range k {
								r.w.Port(1).Send(f)
							}
						})
						for range k {
							if !dst[i].Woken() && rng.IntN(4) != 0 {
								r.d.PollBeforePark(dst[i])
							}
							<-dst[i]
						}
						n += k
					}
				})
			}
			wg.Go(func() {
				for left.Load() > 0 {
					r.d.Audit()
					runtime.Gosched()
				}
			})
			go func() { wg.Wait(); close(done) }()
			select {
			case <-done:
			case <-time.After(60 * time.Second):
				buf := make([]byte, 1<<20)
				t.Fatalf("%d sleep on; ring empty: %v\n%s", left.Load(), r.d.queues[0].rx.Empty(), buf[:runtime.Stack(buf, true)])
			}
			r.d.Audit() // whoever polls counts a batch when all of it is delivered
			if st := r.stats(); st.RXDelivered != callers*each || len(st.Drops) != 0 {
				t.Errorf("%d delivered, want %d; %v", st.RXDelivered, callers*each, st.Drops)
			}
		})
	}
}

// counting counts what a device asks of its kernel.
type counting struct {
	*wire.Queue
	calls atomic.Int64
	park  atomic.Int64           // ns of the last Park
	armed atomic.Pointer[func()] // called once, after the next Arm

	armedTX atomic.Bool // by the last Arm: room to send ends Park
}

func (c *counting) WakeTX() syscall.Errno { c.calls.Add(1); return c.Queue.WakeTX() }
func (c *counting) WakeRX() syscall.Errno { c.calls.Add(1); return c.Queue.WakeRX() }
func (c *counting) Interrupt()            { c.calls.Add(1); c.Queue.Interrupt() }

func (c *counting) Arm(tx bool) error {
	c.calls.Add(1)
	c.armedTX.Store(tx)
	err := c.Queue.Arm(tx)
	if f := c.armed.Swap(nil); f != nil {
		(*f)()
	}
	return err
}

func (c *counting) Disarm() error { c.calls.Add(1); return c.Queue.Disarm() }

func (c *counting) Park(d time.Duration) error {
	c.calls.Add(1)
	c.park.Store(int64(d))
	return c.Queue.Park(d)
}

// newCounting is a rig whose device's kernel counts.
func newCounting(t *testing.T, cfg Config) (*rig, *counting) {
	t.Helper()
	w, err := wire.New(wire.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := openSocket(t, w.Port(0), 0, 2048, 64, 16, 16)
	k := &counting{Queue: w.Port(0).Queue(0)}
	d, err := NewOn([]*xsk.Socket{xsk.NewOn(k, s.Region(), "wire0", 0)}, Link{Name: "wire0", MAC: w.Port(0).MAC(), MTU: 1500}, withFlag(cfg))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{tb: t, w: w, d: d, rec: &recorder{}}
	d.LinkEndpoint().Attach(r.rec)
	w.Port(1).OnReceive(func([]byte) {})
	t.Cleanup(r.close)
	return r, k
}

// soon is woken at the third look.
type soon int

func (s *soon) Woken() bool { *s++; return *s > 2 }

// TestIdle looks at an hour after traffic: nothing is called, no timer runs.
func TestIdle(t *testing.T) {
	for _, mode := range []PollMode{PollBlock, PollAdaptive} {
		t.Run(mode.String(), func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				r, k := newCounting(t, Config{Poll: mode})
				w, d, rec := r.w, r.d, r.rec
				for i := range 50 {
					w.Port(1).Send(frame{proto: packet.ProtoUDP, payload: pattern(0, 10)}.bytes())
					d.PollBeforePark(new(soon))
					r.write(ack(uint32(i)).packet(), datagram(uint32(i), 100, nil))
					advance(ackPeriod / 3)
				}
				advance(4*ackPeriod + 2*lateArmMost)
				if rec.count != 50 {
					t.Errorf("%d delivered, want 50", rec.count)
				}
				before := k.calls.Load()
				advance(time.Hour)
				if n := k.calls.Load() - before; n != 0 {
					t.Errorf("%d calls in an idle hour", n)
				}
				if k.park.Load() != 0 || d.queues[0].tx.acks.armed {
					t.Error("a timer runs")
				}
			})
		})
	}
}

// TestMissed has a packet use up the arming of a holder of the poll lock who
// has not unlocked yet: the poller cannot lock and sleeps, and the holder delivers
// it and arms again.
func TestMissed(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r, k := newCounting(t, Config{})
		synctest.Wait() // the poller sleeps
		q := r.d.queues[0]
		q.pollMu.Lock()
		arrive := func() {
			r.w.Port(1).Send(frame{proto: packet.ProtoUDP, payload: pattern(0, 10)}.bytes())
			synctest.Wait() // the poller has woken and sleeps again
			if !q.missed.Load() {
				t.Error("the poller does not say that it missed the lock")
			}
		}
		k.armed.Store(&arrive)
		before := k.calls.Load()
		q.leave() // arms, polls for the poller, and arms again
		if n := r.rec.count; n != 1 {
			t.Errorf("%d packets delivered, want 1", n)
		}
		synctest.Wait()
		if n := k.calls.Load() - before; n > 3 { // with one more Park
			t.Errorf("%d calls", n)
		}
	})
}

// TestLateArm has a caller leave with its packet and not come back: the next one
// waits until the minder has looked twice, and then all is as if it had armed.
func TestLateArm(t *testing.T) {
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			if on && mechanism.Off(mechanism.LateArm) {
				t.Skip("its subject is switched off")
			}
			raced.Bubble(t, func(t *testing.T) {
				r, k := newCounting(t, Config{NoLateArm: !on})
				q, send := r.d.queues[0], func() { r.w.Port(1).Send(frame{proto: packet.ProtoUDP, payload: pattern(0, 10)}.bytes()) }
				synctest.Wait() // the poller sleeps
				// A caller comes and goes, with packets and without.
				for i := range 10 {
					r.d.PollBeforePark(new(soon))
					send()
					synctest.Wait()
					if got := r.rec.count != i; got == on {
						t.Fatalf("packet %d: delivered %t with nobody back", i, got)
					}
					r.d.PollBeforePark(new(soon))
					synctest.Wait()
					if r.rec.count != i+1 {
						t.Fatalf("packet %d is not delivered", i)
					}
					if on && q.noLate != 0 {
						q.noLate = 0 // it was not for the caller, and he arms now
					}
				}
				r.d.PollBeforePark(new(soon))
				send()
				advance(2 * lateArm)
				if r.rec.count != 11 {
					t.Error("after two rounds of the minder the packet is not delivered")
				}
				if q.minding || on && q.noLate == 0 {
					t.Errorf("minding %t, %d callers have to arm", q.minding, q.noLate)
				}
				before := k.calls.Load()
				advance(time.Hour)
				if n := k.calls.Load() - before; n != 0 || q.minding {
					t.Errorf("%d calls in an idle hour, minding %t", n, q.minding)
				}
				for range 2 {
					send()
					synctest.Wait()
				}
				if r.rec.count != 13 {
					t.Error("the poller does not deliver")
				}
			})
		})
	}
}

// TestSpin never sleeps while the link is up.
func TestSpin(t *testing.T) {
	r := newRig(t, rigConfig{cfg: Config{Poll: PollSpin}})
	got := make(chan struct{}, 100)
	r.rec.notify = func() { got <- struct{}{} }
	for range 100 {
		r.w.Port(1).Send(frame{proto: packet.ProtoUDP, payload: pattern(0, 10)}.bytes())
		<-got
	}
	if n := r.stats().Sleeps; n != 0 {
		t.Errorf("%d sleeps", n)
	}
}
