package netdev

import (
	"testing"
	"testing/synctest"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/packet"
)

// looks is woken after so many looks.
type looks int

func (l *looks) Woken() bool { *l--; return *l < 0 }

// TestLateACKs has somebody come back who is not woken by the first that he
// finds: only if that may have been for another does he have to arm from now on.
func TestLateACKs(t *testing.T) {
	if mechanism.Off(mechanism.LateArm) {
		t.Skip("its subject is switched off")
	}
	for _, c := range []struct {
		name   string
		frames []frame
		arms   bool
	}{
		{"acknowledgements", []frame{{flags: packet.ACK, ack: 1}, {flags: packet.ACK, ack: 2}}, false},
		{"data", []frame{{flags: packet.ACK, ack: 1}, {flags: packet.ACK, ack: 2, payload: pattern(0, 1)}}, true},
		{"a FIN", []frame{{flags: packet.ACK, ack: 1}, {flags: packet.ACK | packet.FIN, ack: 2}}, true},
		{"a datagram", []frame{{proto: packet.ProtoUDP, payload: pattern(0, 1)}, {flags: packet.ACK, ack: 2}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newCounting(t, Config{})
				synctest.Wait()
				come := func() { r.d.PollBeforePark(func() *looks { n := looks(5); return &n }()) }
				come()
				for _, f := range c.frames {
					r.w.Port(1).Send(f.bytes())
				}
				synctest.Wait()
				if r.rec.count != 0 {
					t.Fatal("delivered with nobody there")
				}
				come()
				if r.rec.count == 0 {
					t.Fatal("not delivered")
				}
				if q := r.d.queues[0]; (q.noLate != 0) != c.arms {
					t.Errorf("%d callers have to arm", q.noLate)
				}
			})
		})
	}
}
