package stack

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/afxnet/afxnet/internal/wire"
)

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

// TestShutWindow shuts the window of one end, and has it hear one acknowledgement
// only, from beyond the window: it goes on to send.
func TestShutWindow(t *testing.T) {
	var (
		mu     sync.Mutex
		window uint16 // of the end's last segment
		rcv    uint32 // what that acknowledged
		base   uint32 // the end's number at the beginning
		sent   uint32 // highest that the end has sent, above base
		again  int    // segments that it has sent again
		deaf   bool
		last   []byte // the peer's last frame with an acknowledgement and no data, not heard
	)
	segment := func(f []byte) (h header.TCP, data int) {
		if len(f) < 54 || f[12] != 8 || f[13] != 0 || f[23] != 6 {
			return nil, 0
		}
		h = header.TCP(f[34 : 14+int(binary.BigEndian.Uint16(f[16:]))])
		return h, len(h) - int(h.DataOffset())
	}
	ours := func(_ wire.Dir, f []byte) wire.Verdict {
		mu.Lock()
		defer mu.Unlock()
		h, n := segment(f)
		if h == nil {
			return wire.Pass
		}
		rcv, window = h.AckNumber(), h.WindowSize()
		switch next := h.SequenceNumber() + uint32(n) - base; {
		case !deaf:
			base = h.SequenceNumber() + uint32(n)
		case n != 0 && next > sent:
			sent = next
		case n != 0:
			again++
		}
		return wire.Pass
	}
	theirs := func(_ wire.Dir, f []byte) wire.Verdict {
		mu.Lock()
		defer mu.Unlock()
		h, n := segment(f)
		if h == nil || !deaf {
			return wire.Pass
		}
		if n == 0 {
			last = slices.Clone(f)
		}
		return wire.Drop
	}
	ow := newOverWire(t, overWireOptions{wire: wire.Config{Faults: [2]wire.Faults{{Filter: ours}, {Filter: theirs}}}})
	c, s := ow.tcpPair(t, addrB)
	if err := c.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	until := func(not string, f func() bool) {
		t.Helper()
		if err := poll(func() error {
			mu.Lock()
			defer mu.Unlock()
			if !f() {
				return errors.New(not)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	go s.Write(make([]byte, 16<<20)) //nolint:errcheck // until the end
	until("the window is open", func() bool { deaf = window == 0; return deaf })
	go c.Write(make([]byte, 16<<20)) //nolint:errcheck // until the end
	until("the end does not wait for an acknowledgement", func() bool { return again > 1 && last != nil })
	mu.Lock()
	f, before := last, sent
	h, _ := segment(f)
	h.SetSequenceNumber(rcv + 240)
	mu.Unlock()
	h.SetChecksum(0)
	putSum(f[26:30], f[30:34], 6, h, 16)
	ow.w.Port(0).Inject(f)
	until("the acknowledgement did not count", func() bool { return sent > before })
}
