package stack

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

func TestWiden(t *testing.T) {
	for _, tc := range []struct {
		una, nxt uint32
		window   uint16
		scale    uint8
		want     uint16
	}{
		{1000, 1000, 0, 9, 0},
		{1000, 1000, 3, 9, 3},
		{1000, 2536, 3, 9, 3},
		{1000, 2537, 3, 9, 4},
		{1000, 2537, 0, 9, 0}, // is probed
		{1000, 1601, 600, 0, 601},
		{0xffffff00, 0x400, 1, 9, 3},
		{0, 1 << 30, 1, 0, 65535},
		{0, 1 << 30, 1, 14, 4},
		{0, 1 << 30, 1, scaleUnknown, 1},
		{0, 1 << 30, 65535, 0, 65535},
	} {
		if got := widen(pack(tc.una, 0, tc.scale, stateOpen), tc.nxt, tc.window); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}

// TestNarrowScale has a peer whose SYN-ACK is overtaken by another acknowledgement:
// the unit of its windows is known from it nevertheless.
func TestNarrowScale(t *testing.T) {
	b := newBooks()
	b.out(syn, 999, 0, 0, 9)
	b.in(ack, 1000, 9, -1)
	b.in(syn|ack, 1000, 9, 9)
	b.out(ack, 1000, 1, 972, -1)
	if window, v := b.t.incoming(b.hash, tcpHeaderOf(ack, 0, 1000, 1, -1), 0); v != narrow || window != 2 {
		t.Errorf("%v, %d; want %v, 2", v, window, narrow)
	}
}

// TestNarrowAgain has a peer's SYN come again, without its options, and the SYN-ACK
// leave again: the unit of its windows stays known.
func TestNarrowAgain(t *testing.T) {
	b := newBooks()
	for _, scale := range []int{9, -1} {
		b.t.incoming(b.hash, tcpHeaderOf(syn, 0, 0, 9, scale), 0)
		b.out(syn|ack, 999, 1, 0, 9)
	}
	b.in(ack, 1000, 9, -1)
	b.out(ack, 1000, 1, 972, -1)
	if window, v := b.t.incoming(b.hash, tcpHeaderOf(ack, 0, 1000, 1, -1), 0); v != narrow || window != 2 {
		t.Errorf("%v, %d; want %v, 2", v, window, narrow)
	}
}

// TestNarrow loses the last segment that a window has room for, and the window that
// follows when the peer reads again. What is left of the first, rounded, has no room
// for the segment.
func TestNarrow(t *testing.T) {
	for first := 1; first < 1448; first += 50 {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) { testNarrow(t, first) })
		})
	}
}

func testNarrow(t *testing.T, first int) {
	var (
		mu   sync.Mutex
		edge uint32 // of the peer's window
		last bool   // the last segment of a window is lost
		deaf bool   // what the peer sends is lost
	)
	segment := func(f []byte) (h header.TCP, data int) {
		var info packet.Info
		if packet.Parse(f, &info) != packet.OK || !info.Kind.IsTCP() {
			return nil, 0
		}
		h = header.TCP(f[14+header.IPv4MinimumSize:])
		return h, int(header.IPv4(f[14:]).PayloadLength()) - int(h.DataOffset())
	}
	forth := func(_ wire.Dir, f []byte) wire.Verdict {
		mu.Lock()
		defer mu.Unlock()
		if h, n := segment(f); last && n > 0 && edge-h.SequenceNumber() < 1448 {
			return wire.Drop
		}
		return wire.Pass
	}
	back := func(_ wire.Dir, f []byte) wire.Verdict {
		mu.Lock()
		defer mu.Unlock()
		h, _ := segment(f)
		if h == nil {
			return wire.Pass
		}
		edge = h.AckNumber() + uint32(h.WindowSize())<<9 // for bufferMax
		if deaf {
			return wire.Drop
		}
		return wire.Pass
	}
	set := func(l, d bool) {
		mu.Lock()
		last, deaf = l, d
		mu.Unlock()
	}
	ow := newOverWire(t, overWireOptions{bubble: true, wire: wire.Config{Faults: [2]wire.Faults{{Filter: forth}, {Filter: back}}}})
	c, s := ow.tcpPair(t, addrB)
	if err := s.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, first)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	set(true, false)
	const size = 1 << 20
	go func() {
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Errorf("Write: %v", err)
		}
		c.Close()
	}()
	time.Sleep(10 * time.Second)
	set(true, true)
	n, err := s.Read(make([]byte, 256<<10))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	set(false, false)
	s.SetReadDeadline(time.Now().Add(10 * time.Minute)) //nolint:errcheck // it is open
	more, err := io.Copy(io.Discard, struct{ io.Reader }{s})
	if got, want := n+int(more), first+size; got != want || err != nil {
		t.Errorf("%d bytes came, %v; want %d", got, err, want)
	}
	s.Close()
}
