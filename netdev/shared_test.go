package netdev

import (
	"testing"
	"testing/synctest"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
)

// TestShared has a caller find a packet that is not for him: from then on nobody
// yields the CPU or leaves without arming, until sharedFor callers in a row have
// got what they came for.
func TestShared(t *testing.T) {
	if mechanism.Off(mechanism.LateArm) {
		t.Skip("without it the poller may be first to find the packet")
	}
	for _, c := range []struct {
		name   string
		frame  frame
		theirs bool // netstack's goroutines process it
		shared bool
	}{
		{"acknowledgement", frame{flags: packet.ACK, ack: 1}, false, false},
		{"data", frame{flags: packet.ACK, ack: 1, payload: pattern(0, 1)}, false, true},
		{"data for netstack's goroutines", frame{flags: packet.ACK, ack: 1, payload: pattern(0, 1)}, true, false},
		{"connection", frame{flags: packet.SYN}, false, true},
		{"datagram", frame{proto: packet.ProtoUDP, payload: pattern(0, 1)}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				r, _ := newCounting(t, Config{})
				synctest.Wait()
				r.d.oneProc = false
				if !c.theirs {
					r.d.AfterBatch(func(int) {})
				}
				q := r.d.queues[0]
				come := func() { r.d.PollBeforePark(&looks{left: 5}) }
				// state tells whether a caller may yield and leave unarmed.
				state := func() (yield, late bool) {
					q.pollMu.Lock()
					defer q.pollMu.Unlock()
					q.noLate = 0 // late arming has reasons of its own
					return q.mayYield(true, 0), q.mayArmLate()
				}
				come()
				if yield, late := state(); !yield || !late || q.mayYield(false, 0) {
					t.Errorf("at first: yields %t, with netstack's goroutines at work %t, arms late %t", yield, q.mayYield(false, 0), late)
				}
				r.w.Port(1).Send(c.frame.bytes())
				synctest.Wait()
				if r.rec.count != 0 {
					t.Fatal("delivered with nobody there")
				}
				come()
				if r.rec.count != 1 {
					t.Fatal("not delivered")
				}
				for left := sharedFor - 1; left > 0 && c.shared; left-- { // come was woken in the end
					if yield, late := state(); yield || late {
						t.Fatalf("yields %t, arms late %t, %d callers too early", yield, late, left)
					}
					come()
				}
				if yield, late := state(); !yield || !late {
					t.Errorf("in the end: yields %t, arms late %t", yield, late)
				}
			})
		})
	}
	q := &queue{d: &Device{oneProc: true}, shared: 1}
	if !q.mayYield(false, 0) {
		t.Error("with one processor it does not yield")
	}
}
