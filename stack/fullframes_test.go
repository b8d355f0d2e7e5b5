package stack

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/wire"
)

// TestFullFrames wants the frames of long writes as full as the options of the
// connection allow, and none that is longer than what the other end takes.
func TestFullFrames(t *testing.T) {
	for _, host := range []string{addrB, addrB6} {
		for _, theirs := range []int{1500, 1280} {
			for _, sack := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/mtu=%d/sack=%v", host, theirs, sack), func(t *testing.T) {
					testFullFrames(t, host, theirs, sack)
				})
			}
		}
	}
}

func testFullFrames(t *testing.T, host string, theirs int, sack bool) {
	const most = 1500 // of ours
	var longest, full, data [2]atomic.Int64
	headers := int64(14 + 20 + 20 + 12)
	if host == addrB6 {
		headers += 20
	}
	var room int64 // for data, set before there is any
	look := func(dir wire.Dir, f []byte) wire.Verdict {
		var info packet.Info
		if packet.Parse(f, &info) == packet.OK && info.Kind != packet.ARP {
			n := int64(info.PayloadLen())
			longest[dir].Store(max(longest[dir].Load(), int64(len(f))))
			data[dir].Add(n)
			if n == room {
				full[dir].Add(1)
			}
		}
		return wire.Pass
	}
	o := overWireOptions{wire: wire.Config{Faults: [2]wire.Faults{{Filter: look}, {Filter: look}}}}
	o.wire.Ports[0].MTU, o.wire.Ports[1].MTU = most, theirs
	ow := newOverWire(t, o)
	for _, s := range ow.s {
		opt := tcpip.TCPSACKEnabled(sack)
		if terr := s.ns.SetTransportProtocolOption(tcp.ProtocolNumber, &opt); terr != nil {
			t.Fatal(terr)
		}
	}
	room = int64(min(most, theirs)) + 14 - headers
	if sack && ow.s[0].fast.inline.p == nil {
		room -= 28 // for three blocks
	}
	c, s := ow.tcpPair(t, host)
	const size = 2 << 20
	for dir, from := range []net.Conn{c, s} {
		to := []net.Conn{s, c}[dir]
		got := make(chan error, 1)
		go func() {
			_, err := io.CopyN(io.Discard, to, size)
			got <- err
		}()
		if _, err := from.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		// What the window cuts off is shorter, and what is sent again.
		if n, want := full[dir].Load(), data[dir].Load()/room/2; longest[dir].Load() != headers+room || n < want {
			t.Errorf("direction %d: %d of %d bytes in full frames of %d, the longest frame has %d", dir, n*room, data[dir].Load(), room, longest[dir].Load())
		}
	}
}
