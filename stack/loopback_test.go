package stack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// selves are the mechanisms that traffic within a stack must not depend on.
var selves = []struct {
	name string
	set  func(*Config)
}{
	{"all on", func(*Config) {}},
	{"no inline", func(c *Config) { c.NoInline = true }},
	{"no fast IP", func(c *Config) { c.NoFastIP = true }},
}

// TestLoopback has a stack talk to itself, by TCP and UDP, at each of its
// addresses, from listeners at the wildcard and at the address. No frame of that
// leaves.
func TestLoopback(t *testing.T) {
	for _, tc := range selves {
		t.Run(tc.name, func(t *testing.T) {
			o := overWireOptions{chosen: true}
			tc.set(&o.config[0])
			ow := newOverWire(t, o)
			s := ow.s[0]
			before := ow.w.Stats()[0].Sent
			for _, at := range []struct{ listen, dial, seen string }{
				{"", "127.0.0.1", "127.0.0.1"},
				{"127.9.8.7", "127.9.8.7", "127.9.8.7"},
				{"", "::1", "::1"},
				{"", addrA, addrA},
				{"", addrA6, addrA6},
				{"", "localhost", "127.0.0.1"},
				{"", "", "127.0.0.1"},
				{"", "::", "::1"},
				{"0.0.0.0", "127.0.0.1", "127.0.0.1"},
				{"127.0.0.1", "127.0.0.1", "127.0.0.1"},
				{"::1", "::1", "::1"},
				{"localhost", "localhost", "127.0.0.1"},
				{addrA, addrA, addrA},
				{addrA6, addrA6, addrA6},
			} {
				t.Run(at.listen+" "+at.dial, func(t *testing.T) {
					selfTCP(t, s, at.listen, at.dial, at.seen)
					selfUDP(t, s, at.listen, at.dial, at.seen)
				})
			}
			if after := ow.w.Stats()[0].Sent; after != before {
				t.Errorf("%d frames have left", after-before)
			}
		})
	}
}

func selfTCP(t *testing.T, s *Stack, listen, dial, seen string) {
	l, err := s.Listen("tcp", net.JoinHostPort(listen, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := s.Dial("tcp", net.JoinHostPort(dial, portOf(l.Addr())))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	want := net.JoinHostPort(seen, portOf(l.Addr()))
	if c.RemoteAddr().String() != want || a.LocalAddr().String() != want || a.RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("%v to %v; accepted %v from %v; want %s", c.LocalAddr(), c.RemoteAddr(), a.LocalAddr(), a.RemoteAddr(), want)
	}
	within(t, "the transfer", func() {
		if err := bothWays(c.(*TCPConn), a.(*TCPConn), 3, 300<<10); err != nil {
			t.Error(err)
		}
	})
}

func selfUDP(t *testing.T, s *Stack, listen, dial, seen string) {
	u := listenUDP(t, s, "udp", net.JoinHostPort(listen, "0"))
	defer u.Close()
	c, err := s.Dial("udp", net.JoinHostPort(dial, portOf(u.LocalAddr())))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if a := sourceTo(netip.MustParseAddr(seen)); a.IsValid() {
		seen = a.String()
	}
	deadline := time.Now().Add(30 * time.Second)
	u.SetReadDeadline(deadline) //nolint:errcheck // it is open
	c.SetReadDeadline(deadline) //nolint:errcheck // so is this
	for _, n := range []int{0, 1, 1472, 30_000} {
		b := make([]byte, 1<<16)
		if _, err := c.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		m, from, err := u.ReadFromUDPAddrPort(b)
		if m != n || err != nil || from.String() != c.LocalAddr().String() || from.Addr().String() != seen {
			t.Fatalf("read %d of %d, from %v, %v", m, n, from, err)
		}
		if _, err := u.WriteToUDPAddrPort(b[:n], from); err != nil {
			t.Fatal(err)
		}
		if m, err := c.Read(b); m != n || err != nil {
			t.Fatalf("read %d of %d, %v", m, n, err)
		}
	}
}

// TestLoopbackBound mixes addresses: both are the stack's, one is loopback.
func TestLoopbackBound(t *testing.T) {
	ow := newOverWire(t, overWireOptions{})
	s := ow.s[0]
	before := ow.w.Stats()[0].Sent
	for _, tc := range []struct{ from, to string }{
		{addrA, "127.0.0.1"}, {"127.0.0.1", addrA}, {"127.0.0.1", "127.0.0.2"}, {addrA6, "::1"}, {"::1", addrA6},
	} {
		t.Run(tc.from+" "+tc.to, func(t *testing.T) {
			l, err := s.Listen("tcp", net.JoinHostPort(tc.to, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			from, to := net.ParseIP(tc.from), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(l.Addr().String()))
			c, err := s.DialTCP(context.Background(), "tcp", &net.TCPAddr{IP: from}, to)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			a, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if got := a.RemoteAddr().(*net.TCPAddr).IP; !got.Equal(from) {
				t.Errorf("accepted from %v", got)
			}
			u := listenUDP(t, s, "udp", net.JoinHostPort(tc.from, "0"))
			v := listenUDP(t, s, "udp", net.JoinHostPort(tc.to, "0"))
			if _, err := u.WriteTo([]byte("x"), v.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			v.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, at, err := v.ReadFrom(make([]byte, 1)); err != nil || at.String() != u.LocalAddr().String() {
				t.Errorf("read from %v, %v", at, err)
			}
		})
	}
	// From a loopback address there is no way out.
	u := listenUDP(t, s, "udp", "127.0.0.1:0")
	from := net.IPv4(127, 0, 0, 1)
	for host, want := range map[string]error{addrB: syscall.EINVAL, "192.0.2.1": syscall.ENETUNREACH} {
		to := net.ParseIP(host)
		_, err := u.WriteTo(nil, &net.UDPAddr{IP: to, Port: 9})
		wantOp(t, err, "write", want)
		_, err = s.DialUDP("udp", &net.UDPAddr{IP: from}, &net.UDPAddr{IP: to, Port: 9})
		wantOp(t, err, "dial", want)
		_, err = s.DialTCP(context.Background(), "tcp", &net.TCPAddr{IP: from}, &net.TCPAddr{IP: to, Port: 9})
		wantOp(t, err, "dial", want)
	}
	if after := ow.w.Stats()[0].Sent; after != before {
		t.Errorf("%d frames have left", after-before)
	}
}

// TestLoopbackOneFamily has no loopback address of a family that the stack has no
// address of.
func TestLoopbackOneFamily(t *testing.T) {
	p := newPairWith(t, pairOptions{a: testConfig(addrA), b: testConfig(addrB6)})
	for _, tc := range []struct {
		s    *Stack
		addr string
		want error
	}{
		{p.a, "127.0.0.1:9", syscall.ECONNREFUSED},
		{p.a, "[::1]:9", syscall.ENETUNREACH},
		{p.b, "127.0.0.1:9", syscall.ENETUNREACH},
		{p.b, "[::1]:9", syscall.ECONNREFUSED},
	} {
		_, err := tc.s.Dial("tcp", tc.addr)
		wantOp(t, err, "dial", tc.want)
	}
}

// TestLoopbackFromWire has a peer on the link claim loopback addresses: to be at
// one, and to reach the stack's.
func TestLoopbackFromWire(t *testing.T) {
	for _, verified := range []bool{false, true} {
		for _, off := range []bool{false, true} {
			a := testConfig(addrA, addrA6)
			a.NoFastIP = off
			p := newPairWith(t, pairOptions{verified: verified, a: a, b: testConfig(addrB, addrB6)})
			var sent atomic.Int32
			count := func(*gstack.PacketBuffer) { sent.Add(1) }
			p.wa.saw.Store(&count)
			inner := listenUDP(t, p.a, "udp", "127.0.0.1:7")
			inner6 := listenUDP(t, p.a, "udp", "[::1]:7")
			all := listenUDP(t, p.a, "udp", ":8")
			for _, f := range []struct {
				from, to string
				port     uint16
			}{
				{addrB, "127.0.0.1", 7}, {addrB6, "::1", 7},
				{"127.0.0.1", "127.0.0.1", 7}, {"::1", "::1", 7},
				{addrB, "127.0.0.1", 8}, {"127.0.0.1", addrA, 8}, {"::1", addrA6, 8},
				{"127.0.0.1", addrA, 9}, {"::1", addrA6, 9}, // nobody there: no answer either
			} {
				proto := ipv4.ProtocolNumber
				if netip.MustParseAddr(f.to).Is6() {
					proto = ipv6.ProtocolNumber
				}
				p.wa.inject(proto, udpPacket(f.from, f.to, f.port, "forged"))
			}
			// The wire keeps the order: behind the forged ones comes an honest one.
			for _, from := range []string{addrB, addrB6} {
				to, proto := addrA, ipv4.ProtocolNumber
				if from == addrB6 {
					to, proto = addrA6, ipv6.ProtocolNumber
				}
				p.wa.inject(proto, udpPacket(from, to, 8, "honest"))
				b := make([]byte, 10)
				if n, _, err := all.ReadFrom(b); string(b[:n]) != "honest" || err != nil {
					t.Errorf("%q, %v", b[:n], err)
				}
			}
			for _, u := range []*UDPConn{inner, inner6, all} {
				if n, _ := u.udp.in.counts(); n != 0 && u != all || u == all && n != 2 {
					t.Errorf("%v was offered %d datagrams", u.LocalAddr(), n)
				}
			}
			if n := sent.Load(); n != 0 {
				t.Errorf("the stack has answered %d packets", n)
			}
		}
	}
}

// udpPacket returns an IP packet with a UDP datagram from port 1000.
func udpPacket(from, to string, port uint16, data string) []byte {
	src, dst := tcpipAddr(netip.MustParseAddr(from)), tcpipAddr(netip.MustParseAddr(to))
	ipLen := header.IPv4MinimumSize
	if dst.Len() == 16 {
		ipLen = header.IPv6MinimumSize
	}
	b := make([]byte, ipLen+header.UDPMinimumSize+len(data))
	u := header.UDP(b[ipLen:])
	u.Encode(&header.UDPFields{SrcPort: 1000, DstPort: port, Length: uint16(len(u))})
	copy(u.Payload(), data)
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, src, dst, uint16(len(u)))
	for i := 0; i < len(data); i += 2 {
		pair := [2]byte{data[i]}
		if i+1 < len(data) {
			pair[1] = data[i+1]
		}
		sum = foldAdd(sum, uint16(pair[0])<<8|uint16(pair[1]))
	}
	u.SetChecksum(^u.CalculateChecksum(sum))
	if dst.Len() == 16 {
		header.IPv6(b).Encode(&header.IPv6Fields{
			PayloadLength: uint16(len(u)), TransportProtocol: header.UDPProtocolNumber, HopLimit: 64, SrcAddr: src, DstAddr: dst,
		})
		return b
	}
	h := header.IPv4(b)
	h.Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: src, DstAddr: dst})
	h.SetChecksum(^h.CalculateChecksum())
	return b
}

func foldAdd(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s + s>>16)
}

// TestLoopbackClose closes a stack that talks to itself: nothing is left, and
// nobody hangs.
func TestLoopbackClose(t *testing.T) {
	for i := range 20 {
		ow := newOverWire(t, overWireOptions{alone: true})
		s := ow.s[0]
		l, err := s.Listen("tcp", "localhost:80")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 8)
		for range 4 {
			c, err := s.Dial("tcp", "localhost:80")
			if err != nil {
				t.Fatal(err)
			}
			a, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for {
					if _, err := c.Write(make([]byte, 10_000)); err != nil {
						ended <- err
						return
					}
				}
			}()
			go func() {
				b := make([]byte, 10_000)
				for {
					if _, err := a.Read(b); err != nil {
						ended <- err
						return
					}
				}
			}()
		}
		within(t, fmt.Sprintf("Close %d", i), func() { s.Close() })
		within(t, "the calls", func() {
			for range 8 {
				<-ended
			}
		})
	}
}
