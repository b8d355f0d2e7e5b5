package netdev

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
)

// lateRig is a rig with late arming, its kernel, and a function that sends it a
// packet that wakes nobody.
func lateRig(t *testing.T) (*rig, *counting, func()) {
	t.Helper()
	r, k := newCounting(t, Config{})
	synctest.Wait() // the poller sleeps
	return r, k, func() {
		r.w.Port(1).Send(frame{proto: packet.ProtoUDP, payload: pattern(0, 10)}.bytes())
		synctest.Wait()
	}
}

// TestMinderSlows has callers come and go for a while: the minder looks less and
// less often, and a packet that nobody comes for waits no longer than one of its
// longest periods and lateArm.
func TestMinderSlows(t *testing.T) {
	if mechanism.Off(mechanism.LateArm) {
		t.Skip("its subject is switched off")
	}
	raced.Bubble(t, func(t *testing.T) {
		r, k, send := lateRig(t)
		q := r.d.queues[0]
		var periods []time.Duration
		for range 200 {
			r.d.PollBeforePark(new(soon))
			q.pollMu.Lock()
			period := q.period
			q.pollMu.Unlock()
			if n := len(periods); n == 0 || periods[n-1] != period {
				periods = append(periods, period)
			}
			advance(lateArm / 5)
		}
		for i, p := range periods {
			if p != lateArm<<i {
				t.Errorf("periods %v, each twice the one before from %v on", periods, lateArm)
				break
			}
		}
		if periods[len(periods)-1] != lateArmMost {
			t.Errorf("periods %v, to %v", periods, lateArmMost)
		}
		r.d.PollBeforePark(new(soon))
		before := k.calls.Load()
		send()
		advance(lateArmMost + lateArm)
		if r.rec.count != 1 {
			t.Errorf("a packet that nobody came for waits for more than %v", lateArmMost+lateArm)
		}
		// The minder arms, the poller wakes, sleeps and is armed again.
		if n := k.calls.Load() - before; n < 2 || n > 4 {
			t.Errorf("%d calls", n)
		}
		q.pollMu.Lock()
		if q.minding || q.noLate == 0 {
			t.Errorf("minding %t, %d callers have to arm", q.minding, q.noLate)
		}
		q.pollMu.Unlock()
		r.d.PollBeforePark(new(soon)) // arms
		send()
		if r.rec.count != 2 {
			t.Error("the next one waits too")
		}
	})
}

// TestPollerArmsLate has the poller get the packet of a caller that has just
// left: it leaves the next one to him, once.
func TestPollerArmsLate(t *testing.T) {
	if mechanism.Off(mechanism.LateArm) {
		t.Skip("its subject is switched off")
	}
	raced.Bubble(t, func(t *testing.T) {
		r, _, send := lateRig(t)
		q := r.d.queues[0]
		q.noLate = 1
		r.d.PollBeforePark(new(soon)) // arms
		send()
		if r.rec.count != 1 || !q.late {
			t.Fatalf("%d packets delivered, left unarmed %t", r.rec.count, q.late)
		}
		send()
		if r.rec.count != 1 {
			t.Error("the poller is armed although a caller is expected")
		}
		r.d.PollBeforePark(new(soon))
		if r.rec.count != 2 {
			t.Error("the caller does not find the packet")
		}
		advance(time.Second)
		send() // armed by the minder; the poller expects that caller again
		send()
		advance(2 * lateArm)
		if r.rec.count != 4 {
			t.Fatalf("%d packets delivered, want 4", r.rec.count)
		}
		q.pollMu.Lock()
		q.noLate = 0
		q.pollMu.Unlock()
		for want := 5; want <= 7; want++ { // nobody has come since: armed each time
			if send(); r.rec.count != want {
				t.Fatalf("%d packets delivered, want %d", r.rec.count, want)
			}
		}
		if q.late || q.minding {
			t.Errorf("left unarmed %t, minding %t", q.late, q.minding)
		}
	})
}

// TestLateBackoff doubles the number of callers that arm, and forgets about it
// when enough have left without.
func TestLateBackoff(t *testing.T) {
	q := &queue{d: new(Device)}
	for _, c := range []struct{ left, want int }{
		{0, lateBackoff}, {1, 2 * lateBackoff}, {lateRedeemed - 1, 4 * lateBackoff}, {lateRedeemed, lateBackoff},
		{0, 2 * lateBackoff}, {0, 4 * lateBackoff}, {0, 8 * lateBackoff}, {0, 16 * lateBackoff}, {0, 32 * lateBackoff},
		{0, lateBackoffMost}, {0, lateBackoffMost}, {2 * lateRedeemed, lateBackoff},
	} {
		q.left = c.left
		q.waited()
		if q.noLate != c.want || q.left != 0 {
			t.Errorf("after %d callers: %d have to arm, want %d; left %d", c.left, q.noLate, c.want, q.left)
		}
	}
}
