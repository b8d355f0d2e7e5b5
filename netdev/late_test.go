package netdev

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
)

// looks is woken after so many looks. At the fourth before that something happens.
type looks struct {
	left int
	half func()
}

func (l *looks) Woken() bool {
	if l.left--; l.left == 4 && l.half != nil {
		l.half()
	}
	return l.left < 0
}

// TestLateACKs has somebody come back who is not woken by the first that he finds:
// only if that was for another does he have to arm from now on. Where he processes
// it himself, he knows at once; where netstack's goroutines do, when more has come
// before he is woken.
func TestLateACKs(t *testing.T) {
	if mechanism.Off(mechanism.LateArm) {
		t.Skip("its subject is switched off")
	}
	ack, data := frame{flags: packet.ACK, ack: 1}, frame{flags: packet.ACK, ack: 2, payload: pattern(0, 1)}
	datagram := frame{proto: packet.ProtoUDP, payload: pattern(0, 1)}
	for _, c := range []struct {
		name   string
		frames []frame
		others bool // what he finds is for another
	}{
		{"acknowledgements", []frame{ack, {flags: packet.ACK, ack: 2}}, false},
		{"data", []frame{ack, data}, true},
		{"a FIN", []frame{ack, {flags: packet.ACK | packet.FIN, ack: 2}}, true},
		{"a datagram", []frame{datagram, {flags: packet.ACK, ack: 2}}, true},
	} {
		for _, alone := range []bool{true, false} {
			for _, more := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/alone=%t/more=%t", c.name, alone, more), func(t *testing.T) {
					raced.Bubble(t, func(t *testing.T) {
						r, _ := newCounting(t, Config{})
						if alone {
							r.d.AfterBatch(func(int) {})
						}
						send := func(frames ...frame) {
							for _, f := range frames {
								r.w.Port(1).Send(f.bytes())
							}
							synctest.Wait()
						}
						send()
						r.d.PollBeforePark(&looks{left: 5})
						if send(c.frames...); r.rec.count != 0 {
							t.Fatal("delivered with nobody there")
						}
						r.d.PollBeforePark(&looks{left: 8, half: func() {
							if more {
								send(data)
							}
						}})
						if r.rec.count == 0 {
							t.Fatal("not delivered")
						}
						q := r.d.queues[0]
						if got, want := q.noLate != 0, c.others && (alone || more); got != want {
							t.Errorf("%d callers have to arm, want some: %t", q.noLate, want)
						}
					})
				})
			}
		}
	}
}
