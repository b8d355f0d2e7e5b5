package stack

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/wire"
)

// quoted returns an ICMP error about a segment from a's to b's end.
func quoted(v6 bool, a, b netip.AddrPort, seq, size uint32) []byte {
	ports := binary.BigEndian.AppendUint16(nil, a.Port())
	ports = binary.BigEndian.AppendUint16(ports, b.Port())
	ports = binary.BigEndian.AppendUint32(ports, seq)
	ports = append(ports, make([]byte, 12)...)
	src, dst := a.Addr().AsSlice(), b.Addr().AsSlice()
	info := binary.BigEndian.AppendUint32(nil, size)
	if v6 {
		m := icmp6(dst, src, 2, append(append(info, ip6(src, dst, 6, 1000, 64)...), ports...))
		return append(ip6(dst, src, 58, len(m), 64), m...)
	}
	m := icmp4(3, append(append(info, ip4(src, dst, 6, 1, 0, 1000, false)...), ports...))
	m[1] = 4 // fragmentation needed
	m[2], m[3] = 0, 0
	binary.BigEndian.PutUint16(m[2:], ^sumOf(m))
	return append(ip4(dst, src, 1, 1, 0, len(m), false), m...)
}

// next returns the number of the first byte on a TCP flow of the stack's that
// nobody has acknowledged.
func next(t *testing.T, s *Stack, near, far netip.AddrPort) uint32 {
	t.Helper()
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, near.Port()), far.Port())
	table := s.guard.ledger.ready()
	hash, _ := table.hashOfSent(tcpip.AddrFromSlice(near.Addr().AsSlice()), tcpip.AddrFromSlice(far.Addr().AsSlice()), ports)
	a, _ := table.find(hash)
	if a == nil {
		t.Fatalf("%v has no flow from %v to %v", s, near, far)
	}
	return uint32(a.seen.Load() >> 32)
}

// TestSmallPathMTU has an attacker say that the path takes next to nothing.
func TestSmallPathMTU(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, size := range []uint32{0, 68, 300} {
			var frames atomic.Int64
			var o overWireOptions
			o.wire.Faults[0].Filter = func(_ wire.Dir, f []byte) wire.Verdict {
				frames.Add(1)
				return wire.Pass
			}
			ow := newOverWire(t, o)
			host, proto := addrB, uint16(0x0800)
			if v6 {
				host, proto = addrB6, 0x86dd
			}
			c, s := ow.tcpPair(t, host)
			a, b := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(s.LocalAddr().String())
			if !ow.w.Port(0).Inject(frameOf(ow.w.Port(0).MAC(), ow.w.Port(1).MAC(), proto, quoted(v6, a, b, next(t, ow.s[0], a, b), size))) {
				t.Fatal("not delivered")
			}
			// The error is dealt with when a later packet's answer is here.
			if err := exchangeTCP(c, s, 1); err != nil {
				t.Fatal(err)
			}
			frames.Store(0)
			const n = 100 << 10
			if err := bothWays(c, s, 1, n); err != nil {
				t.Fatal(err)
			}
			// Data in segments of 480 bytes, and an acknowledgement for each of
			// the peer's: netstack reserves 40 bytes for options.
			if got, most := frames.Load(), int64(n/400+n/1000+100); got > most {
				t.Errorf("an MTU of %d: %d frames for %d bytes each way, want at most %d", size, got, n, most)
			}
			if got := frames.Load(); !v6 && got < n/600 {
				t.Errorf("an MTU of %d: %d frames: the error did not arrive", size, got)
			}
		}
	}
}

// TestEmptyDatagrams floods a socket that nobody reads.
func TestEmptyDatagrams(t *testing.T) {
	ow := newOverWire(t, overWireOptions{alone: true})
	for _, v6 := range []bool{false, true} {
		a, b, host := netip.MustParseAddr(addrA).AsSlice(), netip.MustParseAddr(addrB).AsSlice(), addrA
		if v6 {
			a, b, host = netip.MustParseAddr(addrA6).AsSlice(), netip.MustParseAddr(addrB6).AsSlice(), addrA6
		}
		s := ow.s[0]
		c := listenUDP(t, s, "udp", netip.AddrPortFrom(netip.MustParseAddr(host), 53).String())
		datagram := func(n int) []byte {
			u := make([]byte, 8+n)
			binary.BigEndian.PutUint16(u[0:], 1000)
			binary.BigEndian.PutUint16(u[2:], 53)
			binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
			putSum(b, a, 17, u, 6)
			return ipFrame(ow.w, b, a, 17, u)
		}
		flood := func(n int) {
			want := received(s) + uint64(n)
			for i := range n {
				ow.w.Port(0).Inject(datagram(0))
				if i%256 == 255 || i == n-1 {
					if err := poll(func() error {
						if got := received(s); got+uint64(n-1-i) < want {
							return errors.New("frames are under way")
						}
						return nil
					}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		// empty reads up to a datagram with data.
		empty := func() (n int) {
			ow.w.Port(0).Inject(datagram(1))
			buf := make([]byte, 1)
			for {
				k, _, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					t.Fatal(err)
				}
				if k != 0 {
					return n
				}
				n++
			}
		}
		// Each costs more than its headers: no more fit than the buffer has
		// room for what netstack keeps of them.
		const sent, most = 6000, bufferDefault/gstack.PacketBufferStructSize + 1
		before := s.Stats().DroppedDatagrams
		flood(sent)
		dropped := c.Dropped()
		if got := s.Stats().DroppedDatagrams - before; got != dropped || dropped == 0 {
			t.Errorf("%d datagrams counted as dropped, and %d on the socket", got, dropped)
		}
		first := make([]byte, 1)
		if _, _, err := c.ReadFromUDPAddrPort(first); err != nil { // makes room for one with data
			t.Fatal(err)
		}
		got := empty() + 1
		if got > most || uint64(got)+dropped != sent {
			t.Errorf("%d datagrams were queued and %d dropped of %d, want at most %d queued", got, dropped, sent, most)
		}
		// And again, as often as one likes.
		flood(10)
		if got := empty(); got != 10 {
			t.Errorf("%d datagrams were queued, want 10", got)
		}
		c.Close()
	}
}
