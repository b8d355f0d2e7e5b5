package stack

import "testing"

// TestEarly has a flow whose last segment offered no window: an acknowledgement
// from beyond it counts, data and what lies far off does not.
func TestEarly(t *testing.T) {
	for _, tc := range []struct {
		name   string
		window uint16 // of our last segment
		beyond uint32 // the number of what comes
		n      int
		want   verdict
	}{
		{"at the window", 0, 0, 0, taken},
		{"beyond", 0, 1, 0, early},
		{"far beyond", 0, 1<<14 - 1, 0, early},
		{"further", 0, 1 << 14, 0, taken},
		{"before", 0, ^uint32(0), 0, taken},
		{"data", 0, 240, 1, taken},
		{"a window", 1, 240, 0, taken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBooks()
			b.out(syn, 999, 0, 0, 9)
			b.in(syn|ack, 1000, 9, 9)
			const rcv = 1<<32 - 100
			b.l.outgoing(b.t, b.hash, tcpHeaderOf(ack, 1000, rcv, tc.window, -1), 500)
			h := tcpHeaderOf(ack, 0, 1500, 9, -1)
			h.SetSequenceNumber(rcv + tc.beyond)
			if seq, v := b.t.incoming(b.hash, h, tc.n); v != tc.want || v == early && seq != rcv {
				t.Errorf("%v, %d; want %v", v, seq, tc.want)
			}
			b.l.outgoing(b.t, b.hash, tcpHeaderOf(ack, 1500, rcv, 1, -1), 0) // it opens
			if _, v := b.t.incoming(b.hash, h, tc.n); v != taken {
				t.Errorf("after the window has opened: %v", v)
			}
		})
	}
}
