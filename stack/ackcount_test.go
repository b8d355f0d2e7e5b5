package stack

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

// TestACKCount sends in bulk, one frame after the other, from a stack that fills
// its frames and from one that leaves room for options, and counts
// acknowledgements: one for at least every second frame (RFC 5681, 4.2), lost or
// not, and not one for each where nothing is lost.
func TestACKCount(t *testing.T) {
	for _, host := range []string{addrB, addrB6} {
		for _, filled := range []bool{true, false} {
			for _, loss := range []float64{0, 0.01} {
				t.Run(fmt.Sprintf("%s/filled=%t/loss=%g%%", host, filled, loss*100), func(t *testing.T) {
					raced.Bubble(t, func(t *testing.T) {
						var o overWireOptions
						o.chosen, o.bubble = true, true
						o.config[0].NoInline = !filled
						testACKCount(t, o, host, loss)
					})
				})
			}
		}
	}
}

func testACKCount(t *testing.T, o overWireOptions, host string, loss float64) {
	var came, acks atomic.Int64
	dice := splitmix(1)
	o.wire.Seed = 1
	for i := range o.config {
		o.config[i].Profile = ProfileLAN
	}
	ow := newOverWire(t, o)
	c, s := ow.tcpPair(t, host)
	forth := wire.Faults{Rate: 1e9, Delay: 25 * time.Microsecond, QueueBytes: 64 << 20}
	back := forth
	forth.Filter = func(_ wire.Dir, f []byte) wire.Verdict {
		var info packet.Info
		if packet.Parse(f, &info) != packet.OK || info.PayloadLen() == 0 {
			return wire.Pass
		}
		if dice() < loss {
			return wire.Drop
		}
		came.Add(1)
		return wire.Pass
	}
	back.Filter = func(_ wire.Dir, f []byte) wire.Verdict {
		var info packet.Info
		if packet.Parse(f, &info) == packet.OK && info.Flags == packet.ACK && info.PayloadLen() == 0 {
			acks.Add(1)
		}
		return wire.Pass
	}
	for dir, f := range []wire.Faults{forth, back} {
		if err := ow.w.SetFaults(wire.Dir(dir), f); err != nil {
			t.Fatal(err)
		}
	}
	n := raced.Few(4<<20, 1<<20)
	go func() {
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Error(err)
		}
	}()
	if _, err := io.CopyN(io.Discard, s, int64(n)); err != nil {
		t.Error(err)
	}
	d, a := came.Load(), acks.Load()
	// Some frames are short, as the last of each window is.
	if least := d * 9 / 20; a < least || loss == 0 && a > d*3/5 {
		t.Errorf("%d acknowledgements of %d frames, want %d at least, and no more than needed", a, d, least)
	}
	t.Logf("%d acknowledgements of %d frames", a, d)
	c.SetLinger(0) //nolint:errcheck // there is nothing to wait for
}
