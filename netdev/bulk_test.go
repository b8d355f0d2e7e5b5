package netdev

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
)

// TestBulk writes several segments: they leave together when the last of those
// who write ends, or the first, and one by one if gathering is off.
func TestBulk(t *testing.T) {
	for _, off := range []bool{false, true} {
		t.Run(fmt.Sprintf("off=%v", off), func(t *testing.T) {
			r := newRig(t, rigConfig{chosen: true, idle: true, cfg: Config{NoGather: off}})
			seq := uint32(0)
			write := func() {
				r.write(segment{hash: 1, flags: packet.ACK, seq: seq, payload: pattern(seq, 3000), mss: 1000}.packet())
				seq += 3000
			}
			before := r.stats().Socket.TXWakeups
			r.d.BeginBulk()
			r.d.BeginBulk() // of another goroutine
			for range 5 {
				write()
			}
			if n := len(r.out()); (n == 0) == off {
				t.Errorf("%d frames are out before the end", n)
			}
			r.d.EndBulk()
			st := r.stats()
			if n := st.Socket.TXWakeups - before; st.TXFrames != 15 || !off && n != 1 || off && n != 5 {
				t.Errorf("%d frames are out after the first end, with %d wakeups", st.TXFrames, n)
			}
			r.out()
			write()
			if n := len(r.out()); (n == 0) == off {
				t.Errorf("%d frames are out before the second end", n)
			}
			r.d.EndBulk()
			if n := r.stats().TXFrames; n != 18 {
				t.Errorf("%d frames are out after the second end, want 18", n)
			}
			write()
			if n := r.stats().TXFrames; n != 21 {
				t.Errorf("%d frames are out, want 21: nobody gathers", n)
			}
		})
	}
}

// TestBulkOthers has goroutines write beside each other, in bulk and not: no
// packet is left behind.
func TestBulkOthers(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	const writers, packets = 4, 300
	var wg sync.WaitGroup
	for i := range uint32(writers) {
		wg.Go(func() {
			for k := range packets {
				bulk := (k+int(i))%2 == 0
				if bulk {
					r.d.BeginBulk()
				}
				r.write(segment{hash: i + 1, flags: packet.ACK, payload: pattern(i, 10), mss: 1000}.packet())
				if bulk {
					r.d.EndBulk()
				}
			}
		})
	}
	wg.Wait()
	r.d.queues[0].tx.resume() // as in TestGatherOthers
	if n := len(r.out()); n != writers*packets {
		t.Errorf("%d frames, want %d", n, writers*packets)
	}
	if n := r.d.queues[0].tx.gathers.Load(); n != 0 {
		t.Errorf("%d still gather", n)
	}
}

// TestBulkPolls has acknowledgements wait when a bulk write ends: it takes them,
// and from then on the poller sleeps while it comes back. What is not for it
// only, it does not keep the poller from.
func TestBulkPolls(t *testing.T) {
	if mechanism.Off(mechanism.LateArm) {
		t.Skip("without late arming, the poller gets all")
	}
	raced.Bubble(t, func(t *testing.T) {
		r, k, _ := lateRig(t)
		q := r.d.queues[0]
		ack := uint32(0)
		acks := func() {
			ack++
			r.w.Port(1).Send(frame{flags: packet.ACK, ack: ack}.bytes())
			synctest.Wait()
		}
		bulk := func() { r.d.BeginBulk(); r.d.EndBulk() }
		late := func() bool {
			q.pollMu.Lock()
			defer q.pollMu.Unlock()
			return q.late
		}
		before := k.calls.Load()
		bulk() // armed, and nothing there: left as it is
		if n := k.calls.Load() - before; n != 0 || late() {
			t.Errorf("%d calls with nothing to receive, left unarmed %t", n, late())
		}
		r.d.PollBeforePark(new(soon)) // leaves late
		sleeps := r.stats().Sleeps
		for want := range 100 {
			acks()
			if r.rec.count != want {
				t.Fatalf("%d packets delivered before the end of the write, want %d", r.rec.count, want)
			}
			before := k.calls.Load()
			bulk()
			if r.rec.count != want+1 || k.calls.Load() != before {
				t.Fatalf("%d packets delivered, want %d; %d calls", r.rec.count, want+1, k.calls.Load()-before)
			}
			advance(lateArm / 5)
		}
		if n := r.stats().Sleeps - sleeps; n != 0 || !late() {
			t.Errorf("the poller woke %d times, left unarmed %t", n, late())
		}
		// A datagram among them is for somebody who may sleep.
		r.w.Port(1).Send(frame{proto: packet.ProtoUDP, payload: pattern(0, 10)}.bytes())
		bulk()
		if late() {
			t.Error("left unarmed after a datagram")
		}
		acks()
		if r.rec.count != 102 {
			t.Errorf("%d packets delivered, want 102: the poller is armed", r.rec.count)
		}
		advance(time.Second)
		// While callers have to arm, the poller gets all.
		q.pollMu.Lock()
		q.noLate = 10
		q.pollMu.Unlock()
		acks()
		bulk()
		if late() {
			t.Error("left unarmed although callers have to arm")
		}
	})
}

// TestBulkModes polls in no other mode.
func TestBulkModes(t *testing.T) {
	for _, mode := range []PollMode{PollBlock, PollSpin} {
		r := newRig(t, rigConfig{idle: true, cfg: Config{Poll: mode}})
		if !r.w.Port(0).Inject(frame{flags: packet.ACK, ack: 1}.bytes()) {
			t.Fatal("the wire does not take a frame")
		}
		r.d.queues[0].late = true
		r.d.BeginBulk()
		r.d.EndBulk()
		if r.rec.count != 0 {
			t.Errorf("%v: polls", mode)
		}
		r.d.queues[0].late = false
		r.poll()
	}
}
