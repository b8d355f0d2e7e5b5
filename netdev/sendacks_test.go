package netdev

import (
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/raced"
)

// TestSendACKs sends at once what is held, once, and nothing after Close.
func TestSendACKs(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{chosen: true, idle: true})
		r.write(ack(1000).packet())
		wantACKs(t, r, "the first", 1000)
		for i := uint32(1); i <= 3; i++ {
			r.write(ack(1000 + i).packet())
			wantACKs(t, r, "held")
			r.d.SendACKs(0)
			wantACKs(t, r, "asked for", 1000+i)
			r.d.SendACKs(0)
			advance(time.Second)
			wantACKs(t, r, "later")
			if st := r.stats(); st.TXACKsLate != uint64(i) || st.TXACKsSpared != 0 {
				t.Errorf("%d late, %d spared", st.TXACKsLate, st.TXACKsSpared)
			}
		}
		if err := r.d.Close(); err != nil {
			t.Error(err)
		}
		r.d.SendACKs(0)
	})
}

// TestSendACKsArrived sends what has arrived while somebody gathers, and would be
// held when he is done.
func TestSendACKsArrived(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		r := newRig(t, rigConfig{chosen: true, idle: true})
		r.write(ack(1000).packet())
		wantACKs(t, r, "the first", 1000)
		q := &r.d.queues[0].tx
		q.gather()
		r.write(ack(1001).packet())
		wantACKs(t, r, "gathered")
		r.d.SendACKs(0)
		wantACKs(t, r, "asked for", 1001)
		q.release()
		advance(time.Second)
		wantACKs(t, r, "later")
		if st := r.stats(); st.TXACKsLate != 1 || st.TXACKsSpared != 0 {
			t.Errorf("%d late, %d spared", st.TXACKsLate, st.TXACKsSpared)
		}
	})
}

// TestACKHold leaves less than two full segments unacknowledged, or nothing.
func TestACKHold(t *testing.T) {
	for _, off := range []bool{false, true} {
		for _, mtu := range []int{576, 1500, 9000} {
			r := newRig(t, rigConfig{chosen: true, idle: true, mtu: mtu, cfg: Config{NoACKHold: off}})
			if n := r.d.ACKHold(); off != (n == 0) || n < 0 || n > 2*(mtu-40) {
				t.Errorf("MTU %d, NoACKHold %t: %d", mtu, off, n)
			}
		}
	}
}
