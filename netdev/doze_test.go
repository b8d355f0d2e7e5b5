package netdev

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
)

// dozer is a sleeper that can be woken while it sleeps in Park.
type dozer struct {
	sleeper
	alarm *atomic.Pointer[func()]
}

func newDozer() dozer { return dozer{make(sleeper, 1), new(atomic.Pointer[func()])} }

func (d dozer) SetAlarm(f *func()) { d.alarm.Store(f) }

func (d dozer) wake() {
	select {
	case d.sleeper <- struct{}{}:
	default:
	}
	if f := d.alarm.Load(); f != nil {
		(*f)()
	}
}

// dozeRig is a rig under PollBlock with a dozer that every packet is for, and
// functions that have it wait, and send it a packet. The poller expects it.
func dozeRig(t *testing.T) (r *rig, k *counting, d dozer, wait func() (returned *atomic.Bool), send func()) {
	t.Helper()
	r, k = newCounting(t, Config{Poll: PollBlock})
	d = newDozer()
	synctest.Wait()
	r.d.AfterBatch(func(int) {})
	r.rec.notify = d.wake
	wait = func() *atomic.Bool {
		returned := new(atomic.Bool)
		go func() {
			r.d.PollBeforePark(d)
			returned.Store(true)
		}()
		synctest.Wait()
		return returned
	}
	send = func() {
		r.w.Port(1).Send(frame{proto: packet.ProtoUDP, payload: pattern(0, 10)}.bytes())
		synctest.Wait()
	}
	wait() // the poller parks
	send()
	<-d.sleeper
	if got := r.d.queues[0].parks.Load(); got != nobodyParks {
		t.Fatalf("%d parks although a caller is expected", got)
	}
	return r, k, d, wait, send
}

func skipWithoutDoze(t *testing.T) {
	t.Helper()
	if mechanism.Off(mechanism.LateArm) {
		t.Skip("its subject is switched off")
	}
}

// TestDoze has a caller wait for one packet after the other: each wakes him and
// nobody else.
func TestDoze(t *testing.T) {
	skipWithoutDoze(t)
	raced.Bubble(t, func(t *testing.T) {
		r, k, d, wait, send := dozeRig(t)
		q := r.d.queues[0]
		for i := range 100 {
			before := k.calls.Load()
			back := wait()
			if q.parks.Load() != callerParks || back.Load() {
				t.Fatalf("packet %d: %d parks, returned %t", i, q.parks.Load(), back.Load())
			}
			send()
			if !back.Load() || !d.Woken() {
				t.Fatalf("packet %d: returned %t, woken %t", i, back.Load(), d.Woken())
			}
			<-d.sleeper
			if n := k.calls.Load() - before; n != 2 {
				t.Fatalf("packet %d: %d calls, want Arm and Park", i, n)
			}
		}
		back := wait()
		advance(2 * lateArmMost)
		before := k.calls.Load()
		advance(time.Hour)
		if n := k.calls.Load() - before; n != 0 || back.Load() {
			t.Errorf("%d calls in an idle hour; returned %t", n, back.Load())
		}
		d.wake() // a deadline
		synctest.Wait()
		if !back.Load() {
			t.Error("not woken by an alarm")
		}
		<-d.sleeper
		send() // he does not come back
		if d.Woken() {
			t.Error("the packet did not wait for him")
		}
		advance(2 * lateArm)
		if !d.Woken() || q.parks.Load() != pollerParks {
			t.Errorf("woken %t by the minder, %d parks", d.Woken(), q.parks.Load())
		}
	})
}

// TestDozeOthers has a caller sleep in Park and find packets that are not his. He
// hands the place to the other who came meanwhile, or back to the poller.
func TestDozeOthers(t *testing.T) {
	skipWithoutDoze(t)
	for _, came := range []bool{true, false} {
		raced.Bubble(t, func(t *testing.T) {
			r, _, d, wait, send := dozeRig(t)
			r.rec.notify = func() {}
			back := wait()
			if came {
				other := newDozer()
				r.rec.notify = other.wake
				r.d.PollBeforePark(other)
			}
			want := pollerParks
			if came {
				want = nobodyParks
			}
			send()
			if got := r.d.queues[0].parks.Load(); !back.Load() || d.Woken() || got != want {
				t.Errorf("another came %t: returned %t, woken %t, %d parks, want %d", came, back.Load(), d.Woken(), got, want)
			}
		})
	}
}

// TestDozeInterrupted has the poller called while a caller is in its place.
func TestDozeInterrupted(t *testing.T) {
	skipWithoutDoze(t)
	for name, call := range map[string]func(*Device){
		"link":  func(d *Device) { d.SetLink(nil) },
		"audit": func(d *Device) { d.Audit(); d.queues[0].interrupt() },
	} {
		t.Run(name, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				r, _, d, wait, send := dozeRig(t)
				back := wait()
				call(r.d)
				synctest.Wait()
				if got := r.d.queues[0].parks.Load(); !back.Load() || got != pollerParks {
					t.Errorf("returned %t, %d parks", back.Load(), got)
				}
				if send(); !d.Woken() {
					t.Error("the poller does not deliver")
				}
			})
		})
	}
}

// TestDozeApart has a goroutine of its own process what has been received: the
// caller lets it, and sees that the packet was his. So he keeps the place, which
// the poller has left to him after two packets.
func TestDozeApart(t *testing.T) {
	skipWithoutDoze(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	raced.Bubble(t, func(t *testing.T) {
		r, k, d, wait, send := dozeRig(t)
		q := r.d.queues[0]
		r.d.AfterBatch(nil)
		r.rec.notify = func() { go d.wake() }
		r.d.SetLink(nil)
		synctest.Wait()
		for i := range 100 {
			before := k.calls.Load()
			back := wait()
			want := callerParks
			if i < 2 {
				want = pollerParks
			}
			if got := q.parks.Load(); got != want {
				t.Fatalf("packet %d: %d parks, want %d", i, got, want)
			}
			send()
			if !back.Load() || !d.Woken() {
				t.Fatalf("packet %d: returned %t, woken %t", i, back.Load(), d.Woken())
			}
			<-d.sleeper
			if n := k.calls.Load() - before; want == callerParks && n != 2 {
				t.Fatalf("packet %d: %d calls, want Arm and Park", i, n)
			}
		}
	})
}

// TestAfterBatchEnds takes the function away while a batch is handed up: it is
// told of the end of that batch, and of no other.
func TestAfterBatchEnds(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	calls := 0
	r.d.AfterBatch(func(int) { calls++ })
	r.rec.notify = func() { r.d.AfterBatch(nil) }
	f := frame{proto: packet.ProtoUDP, payload: pattern(0, 10)}.bytes()
	for range 2 {
		if n := len(r.inject(2, f, f)); n != 2 || calls != 1 {
			t.Errorf("%d packets, %d calls", n, calls)
		}
	}
}

// TestDozeNobodyInterrupted has the poller called while nobody parks: it comes at
// once, before the minder.
func TestDozeNobodyInterrupted(t *testing.T) {
	skipWithoutDoze(t)
	raced.Bubble(t, func(t *testing.T) {
		r, _, _, _, _ := dozeRig(t)
		r.d.SetLink(nil)
		synctest.Wait()
		if got := r.d.queues[0].parks.Load(); got != pollerParks {
			t.Errorf("%d parks, want the poller", got)
		}
	})
}

// TestDozeClose closes the device under a caller who sleeps in Park.
func TestDozeClose(t *testing.T) {
	skipWithoutDoze(t)
	raced.Bubble(t, func(t *testing.T) {
		r, _, _, wait, _ := dozeRig(t)
		back := wait()
		if err := r.d.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if !back.Load() {
			t.Error("a caller sleeps on")
		}
		if back = wait(); !back.Load() {
			t.Error("a caller sleeps in a device that is closed")
		}
	})
}

// TestDozeCrowd gives the place back to the poller when there is work for two.
func TestDozeCrowd(t *testing.T) {
	skipWithoutDoze(t)
	raced.Bubble(t, func(t *testing.T) {
		r, _, d, wait, send := dozeRig(t)
		q := r.d.queues[0]
		for range crowd {
			send()
		}
		if q.rx.Empty() {
			t.Fatal("the packets did not wait")
		}
		if back := wait(); !back.Load() || q.noLate == 0 || q.parks.Load() != pollerParks {
			t.Errorf("returned %t, %d callers have to arm, %d parks", back.Load(), q.noLate, q.parks.Load())
		}
		<-d.sleeper
		for range lateBackoff - 2 {
			wait()
			if send(); q.parks.Load() != pollerParks {
				t.Fatal("the poller gives the place up at once")
			}
			<-d.sleeper
		}
		for q.parks.Load() == pollerParks {
			wait()
			send()
			<-d.sleeper
		}
	})
}

// dozers wakes the dozer whose number a packet's payload begins with.
type dozers []dozer

func (r dozers) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *gstack.PacketBuffer) {
	v := pkt.Data().AsRange().ToView()
	i := binary.BigEndian.Uint32(v.AsSlice()[28:])
	v.Release()
	r[i].sleeper <- struct{}{}
	if f := r[i].alarm.Load(); f != nil {
		(*f)()
	}
}

func (r dozers) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *gstack.PacketBuffer) {}

// TestDozeStress is TestPollStress with callers that take the poller's place.
func TestDozeStress(t *testing.T) {
	for _, procs := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("procs=%d", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			const callers, each = 4, 1000
			r := newRig(t, rigConfig{idle: true, cfg: Config{Poll: PollBlock}})
			var dst dozers
			for range callers {
				d := newDozer()
				d.sleeper = make(sleeper, each)
				dst = append(dst, d)
			}
			r.d.AfterBatch(func(int) {})
			r.d.LinkEndpoint().Attach(dst)
			var wg sync.WaitGroup
			var left atomic.Int32
			left.Store(callers)
			for i := range callers {
				wg.Go(func() {
					defer left.Add(-1)
					rng := rand.New(rand.NewPCG(uint64(i), 7))
					f := frame{proto: packet.ProtoUDP, payload: binary.BigEndian.AppendUint32(nil, uint32(i))}.bytes()
					for n := 0; n < each; {
						k := min(1+rng.IntN(3), each-n)
						wg.Go(func() {
							for range k {
								r.w.Port(1).Send(f)
							}
						})
						for range k {
							if !dst[i].Woken() && rng.IntN(8) != 0 {
								r.d.PollBeforePark(dst[i])
							}
							<-dst[i].sleeper
						}
						n += k
					}
				})
			}
			wg.Go(func() {
				for left.Load() > 0 {
					r.d.Audit()
					r.d.queues[0].interrupt()
					runtime.Gosched()
				}
			})
			done := make(chan struct{})
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
