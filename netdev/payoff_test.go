package netdev

import (
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
)

// TestPayoff has spins in vain make ever more callers rest, up to a bound, and
// one that finds something make them all spin again.
func TestPayoff(t *testing.T) {
	var p payoff
	rests := func() (n int) {
		for p.resting() {
			n++
		}
		return n
	}
	for range restVain - 1 {
		if p.spun(false); rests() != 0 {
			t.Fatalf("callers rest after fewer than %d spins in vain", restVain)
		}
	}
	for want := restFirst; want <= 4*restMost; want *= 2 {
		p.spun(false)
		if got := rests(); got != min(want, restMost) {
			t.Errorf("%d callers rest, want %d", got, min(want, restMost))
		}
	}
	if p.spun(true); p != (payoff{}) {
		t.Errorf("after a spin that found something: %+v", p)
	}
}

// never is not woken.
type never struct{}

func (never) Woken() bool { return false }

// TestRest has callers rest: they do not poll, nothing waits for the minder that
// was left to him before, and the poller does not count on them.
func TestRest(t *testing.T) {
	if mechanism.Off(mechanism.LateArm) {
		t.Skip("nothing is left to the minder")
	}
	raced.Bubble(t, func(t *testing.T) {
		r, k := newCounting(t, Config{})
		q, send := r.d.queues[0], func() {
			r.w.Port(1).Send(frame{proto: packet.ProtoUDP, payload: pattern(0, 10)}.bytes())
			synctest.Wait()
		}
		synctest.Wait()               // the poller sleeps
		r.d.PollBeforePark(new(soon)) // leaves arming to the minder
		if !q.late {
			t.Fatal("armed")
		}
		q.payoff.rest = 3
		r.d.PollBeforePark(never{})
		if q.late {
			t.Error("a caller rests, and what it waits for is left to the minder")
		}
		before := k.calls.Load()
		r.d.PollBeforePark(never{})
		if n := k.calls.Load() - before; n != 0 {
			t.Errorf("%d calls to rest while the queue is armed", n)
		}
		for want := 1; want <= 3; want++ {
			if send(); r.rec.count != want || q.late {
				t.Errorf("%d packets delivered, want %d; left to the minder %t", r.rec.count, want, q.late)
			}
		}
	})
}

// TestVainSpins has nobody answer: callers stop spinning, and go on when one of
// those that try finds a packet.
func TestVainSpins(t *testing.T) {
	r, _ := newCounting(t, Config{Spin: 1})
	q := r.d.queues[0]
	for r.stats().Sleeps == 0 { // a caller that finds the poller at work does not spin
		runtime.Gosched()
	}
	spins := func(callers int) (n int) {
		for range callers {
			q.pollMu.Lock()
			if q.payoff.rest == 0 {
				n++
			}
			q.pollMu.Unlock()
			r.d.PollBeforePark(never{})
		}
		return n
	}
	if got, want := spins(restVain+restFirst+1+2*restFirst), restVain+1; got != want {
		t.Errorf("%d spins, want %d", got, want)
	}
	r.d.PollBeforePark(new(soon)) // the one whose turn it is finds what it wants
	if got := spins(restVain); got != restVain {
		t.Errorf("%d of %d callers spin again", got, restVain)
	}
}
